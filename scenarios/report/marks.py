"""The small picture in each row of the verdict table: estimate and interval against the budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scenarios.verdicts.verdict import Verdict

WIDTH = 150.0
_EDGE = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Places along a line of `WIDTH` units; every row shares one scale, in shares of its own budget.

    Attributes:
        budget: where the budget stands.
        estimate: where the estimate stands; None when it is not known.
        low: start of the interval; None without one.
        high: end of the interval; None without one.
        beyond: whether the estimate lies to the right of the picture.
        words: what the picture shows, for readers who cannot see it.
    """

    budget: float
    estimate: float | None
    low: float | None
    high: float | None
    beyond: bool
    words: str


def marks(verdicts: Sequence[Verdict]) -> list[Mark]:
    """Return one mark per verdict."""
    shares = [share for v in verdicts for share in (_share(v.estimate, v), _share(v.high, v)) if share is not None]
    right = min(2.2, max([1.25, *(1.05 * share for share in shares if math.isfinite(share))]))
    return [_mark(verdict, right) for verdict in verdicts]


def _share(value: float | None, verdict: Verdict) -> float | None:
    if value is None or math.isnan(value) or verdict.budget <= 0:
        return None
    return value / verdict.budget


def _mark(verdict: Verdict, right: float) -> Mark:
    estimate = _share(verdict.estimate, verdict)
    low, high = _share(verdict.low, verdict), _share(verdict.high, verdict)
    if low is None or high is None:
        low = high = None
    words = "estimate not known" if estimate is None else f"estimate at {100 * estimate:.0f} % of the budget"
    beyond = estimate is not None and estimate > right
    words = words if estimate is None or math.isfinite(estimate) else "estimate beyond any bound"
    return Mark(
        budget=_place(1.0, right),
        estimate=None if estimate is None else _place(estimate, right),
        low=None if low is None else _place(low, right),
        high=None if high is None else _place(high, right),
        beyond=beyond,
        words=words,
    )


def _place(share: float, right: float) -> float:
    inside = min(max(share, 0.0), right) / right
    return round(_EDGE + inside * (WIDTH - 2 * _EDGE), 1)
