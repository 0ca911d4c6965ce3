"""Budgets judged: holds, violated or undecided, with the interval that says so, and what would decide it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import pandas as pd

from scenarios.verdicts.estimate import Estimate

__all__ = ["Status", "Verdict", "exit_status", "judge", "overall", "reason", "verdict_table"]

Status = Literal["holds", "violated", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One budget, judged.

    `chance` and `inputs` are the two parts of the interval's upper width. `needs_replications` says whether more of
    them could decide an undecided one: not where a figure is not known, and not where the errors of the profiles
    alone reach the budget.
    """

    metric: str
    label: str
    budget: float
    unit: str
    estimate: float | None
    low: float | None
    high: float | None
    status: Status
    note: str = ""
    chance: float | None = None
    inputs: float | None = None
    needs_replications: bool = False

    def __post_init__(self) -> None:
        if self.needs_replications and self.status != "undecided":
            raise ValueError(f"{self.label}: {self.status}, so no replications are needed to decide it")


def judge(*, metric: str, label: str, budget: float, unit: str, found: Estimate, note: str = "") -> Verdict:
    """Return the verdict of an upper bound: it holds when the whole interval is at or below it."""
    status, why, more = _status(found, budget)
    return Verdict(
        metric=metric,
        label=label,
        budget=budget,
        unit=unit,
        estimate=found.value,
        low=found.low,
        high=found.high,
        status=status,
        note=note or why,
        chance=found.chance,
        inputs=found.inputs,
        needs_replications=more,
    )


def _status(found: Estimate, budget: float) -> tuple[Status, str, bool]:
    """Return the status, why it is not another, and whether more replications could decide it."""
    if found.value is None:
        return "undecided", "not known", False
    if found.low is None or found.high is None:
        return "undecided", "one replication gives no interval: ask for at least two", True
    if found.high <= budget:
        return "holds", "", False
    infinite = math.isinf(found.value)
    if found.low > budget:
        return "violated", _UNANSWERED if infinite else "", False
    return ("undecided", _UNANSWERED, True) if infinite else ("undecided", *_why_undecided(found, budget))


_UNANSWERED = "in some replications more requests stay unanswered than the percentile leaves out"


def _why_undecided(found: Estimate, budget: float) -> tuple[str, bool]:
    """Return what would decide, and whether replications could: about how many, were estimate and spread to stay.

    Chance narrows as 1/√n; the errors of the profiles as far as few replications tell little of them, and no further.
    """
    mean, spread = found.value, found.spread
    if mean is None or spread is None:
        return "", True
    gap = abs(budget - mean)
    if spread.reach(mean, budget, math.inf) >= gap:
        return "the errors of the profiles reach the budget: measure them better", False
    start = f"the interval contains the budget after {found.n} replications"
    if spread.reach(mean, budget, _AFFORDABLE * found.n) >= gap:
        return f"{start}; more than {_AFFORDABLE * found.n} would be needed to decide it", True
    enough = bisect.bisect_left(
        range(_AFFORDABLE * found.n), True, lo=found.n + 1, key=lambda n: spread.reach(mean, budget, n) < gap
    )
    return f"{start}{_ABOUT}{_round_up(enough)}{_WOULD}", True


_AFFORDABLE = 100  # times as many replications
_ABOUT, _WOULD = "; about ", " would decide it, if the estimate stays"


def _round_up(n: float) -> int:
    """Return a whole number of two significant digits, not below n.

    >>> _round_up(33.2), _round_up(131.0)
    (34, 140)
    """
    unit = int(10 ** max(len(str(math.ceil(n))) - 2, 0))
    return math.ceil(n / unit) * unit


def reason(status: str, judged: Iterable[tuple[str, str, str]], *, notes: bool = True) -> str:
    """Return which budgets give a scenario its status and why, from (label, status, note); '' where all hold.

    >>> judged = [("delay p95, law", "undecided", "why"), ("delay p95, math", "undecided", "why")]
    >>> judged += [("delay p95, other categories", "holds", ""), ("energy per request", "holds", "")]
    >>> reason("undecided", judged), reason("undecided", judged, notes=False)
    ('delay p95, law, math: why', 'delay p95, law, math')
    >>> reason("holds", judged), reason("violated", [("energy per request", "violated", "")])
    ('', 'energy per request')
    """
    if status not in {"undecided", "violated"}:
        return ""
    groups: dict[str, list[str]] = {}
    needed: dict[str, int] = {}  # replications, by the note without them: what decides all decides each
    labels = []
    for label, found, note in judged:
        labels.append(label)
        if found == status:
            start, about, n = (note if notes else "").removesuffix(_WOULD).partition(_ABOUT)
            groups.setdefault(start, []).append(label)
            if about:
                needed[start] = max(needed.get(start, 0), int(n))
    told = (
        (_together(some, labels), f"{start}{_ABOUT}{needed[start]}{_WOULD}" if start in needed else start)
        for start, some in groups.items()
    )
    return "; ".join(": ".join(part for part in pair if part) for pair in told)


def _together(labels: Sequence[str], every: Sequence[str]) -> str:
    """Return some of all labels in a row; what two neighbours begin with, and three delays that are all, said once."""
    delays = [label for label in every if label.startswith("delay ")]
    if len(delays) > 2 and set(delays) <= set(labels):
        return ", ".join(["every delay budget", *(label for label in labels if label not in delays)])
    told, before = [], ""
    for label in labels:
        head, comma, tail = label.rpartition(", ")
        told.append(tail if comma and head == before else label)
        before = head if comma else ""
    return ", ".join(told)


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return verdicts as a table, a row per budget; unknown figures are NaN.

    >>> v = Verdict(metric="m", label="l", budget=1.0, unit="s", estimate=0.5, low=0.5, high=None, status="undecided")
    >>> verdict_table([v])[["budget", "estimate", "high", "status"]].to_dict("records")
    [{'budget': 1.0, 'estimate': 0.5, 'high': nan, 'status': 'undecided'}]
    """
    table = pd.DataFrame([asdict(v) for v in verdicts], columns=[f.name for f in fields(Verdict)])
    numbers = ("budget", "estimate", "low", "high", "chance", "inputs")
    return table.astype(dict.fromkeys(numbers, "float64"))


def overall(verdicts: Sequence[Verdict]) -> Status:
    """Return the verdict of all budgets together: a violated one beats an undecided one."""
    found = {v.status for v in verdicts}
    return "violated" if "violated" in found else "undecided" if "undecided" in found else "holds"


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """Return 0 when every budget holds, 1 when one is violated, 3 when one is undecided."""
    return {"holds": 0, "violated": 1, "undecided": 3}[overall(verdicts)]
