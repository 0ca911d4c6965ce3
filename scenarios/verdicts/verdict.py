"""Budgets judged: holds, violated or undecided, with the interval that says so.

An interval has two parts, reported apart and joined for the verdict. Chance: replications differ in arrivals, prompts
and noise, and more of them narrow it. Inputs: the profiles' coefficients have errors, and no number of replications
narrows that. Both are at one level, which `look_level` lowers when several budgets are judged or looked at repeatedly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "LEVEL",
    "Estimate",
    "Status",
    "Verdict",
    "estimate",
    "exit_status",
    "judge",
    "look_level",
    "overall",
    "reason",
    "verdict_table",
]

Status = Literal["holds", "violated", "undecided"]
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure averaged over replications, with its two-sided interval; None where none is known.

    `chance` and `inputs` are the widths of the interval's two parts to its upper side, in the figure's unit; inputs
    is None when no coefficients were drawn.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    chance: float | None = None
    inputs: float | None = None


def look_level(n_budgets: int, n_looks: int = 1) -> float:
    """Return the level of one interval so that all are right together at 95 %, whatever depends on whatever.

    Bonferroni: the error is spent evenly on budgets and on the looks at which replications may stop.

    >>> round(look_level(7, 3), 5)
    0.99762
    """
    return 1 - (1 - LEVEL) / (max(n_budgets, 1) * max(n_looks, 1))


def estimate(
    values: Sequence[float], *, drawn: Sequence[float] = (), random: bool = True, level: float = LEVEL
) -> Estimate:
    """Return the mean over replications with its interval, cut at 0: no figure judged here is negative.

    Chance: Student's t over the replications. Inputs: `drawn[i]` is replication i again, same chance, with drawn
    coefficients; the logarithms of the ratios say where the figure may lie under the true ones, as a t prediction
    interval (ratios, because near saturation a few per cent of service time multiply a delay). The two are added in
    quadrature on each side.

    A figure without randomness is exact. One replication of a random scenario has a value and no interval. An
    infinite replication (more requests unanswered than the percentile allows) makes the mean and the upper end
    infinite; the lower end is then that of the replications with the largest finite value in the infinite ones'
    place, which can only be too low.

    >>> e = estimate([9.0, 10.0, 11.0])
    >>> round(e.low, 3), e.value, round(e.high, 3)
    (7.516, 10.0, 12.484)
    >>> estimate([9.0]).low is None
    True
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0 or np.isnan(x).any():
        return Estimate(value=None, low=None, high=None, n=n)
    mean = float(x.mean())
    if np.isposinf(x).all():
        return Estimate(value=mean, low=mean, high=mean, n=n)
    if random and n == 1:
        return Estimate(value=mean, low=None, high=None, n=n)
    finite = np.minimum(x, x[np.isfinite(x)].max())
    chance = _half_width(finite, level, 1 / n) if random else 0.0
    below, above = _input_widths(mean, x, np.asarray(drawn, dtype=float), level)
    return Estimate(
        value=mean,
        low=max(0.0, float(finite.mean()) - math.hypot(chance, below)),
        high=mean + math.hypot(chance, above),
        n=n,
        chance=chance,
        inputs=above if len(drawn) else None,
    )


def _half_width(x: NDArray[np.float64], level: float, factor: float) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415 - a third of a second to load, and a run may need none

    return float(stdtrit(len(x) - 1, (1 + level) / 2)) * float(x.std(ddof=1)) * math.sqrt(factor)


def _input_widths(mean: float, x: NDArray[np.float64], drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return how far below and above the nominal figure the true one may lie; 0 when nothing was drawn."""
    if len(drawn) == 0:
        return 0.0, 0.0
    known = np.isfinite(x) & (x > 0) & (drawn > 0)
    ratio = np.log(drawn[known] / x[known])
    finite = ratio[np.isfinite(ratio)]
    if len(finite) < 2:
        return mean, math.inf
    half, middle = _half_width(finite, level, 1 + 1 / len(finite)), float(finite.mean())
    above = math.inf if len(finite) < len(ratio) else max(0.0, mean * math.expm1(middle + half))
    return max(0.0, -mean * math.expm1(middle - half)), above


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One budget, judged. `chance` and `inputs` are the two parts of the interval's upper width."""

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

    @property
    def needs_replications(self) -> bool:
        """Whether more replications could decide it: not when the errors of the profiles alone reach the budget."""
        if self.status != "undecided" or self.estimate is None:
            return self.status == "undecided"
        return self.inputs is None or self.inputs < abs(self.budget - self.estimate)


def judge(*, metric: str, label: str, budget: float, unit: str, found: Estimate, note: str = "") -> Verdict:
    """Return the verdict of an upper bound: it holds when the whole interval is at or below it."""
    status, why = _status(found, budget)
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
    )


def _status(found: Estimate, budget: float) -> tuple[Status, str]:
    if found.value is None:
        return "undecided", "not known"
    if found.low is None or found.high is None:
        return "undecided", "one replication gives no interval: ask for at least two"
    if found.high <= budget:
        return "holds", ""
    infinite = math.isinf(found.value)
    if found.low > budget:
        return "violated", _UNANSWERED if infinite else ""
    return "undecided", _UNANSWERED if infinite else _why_undecided(found, budget)


_UNANSWERED = "in some replications more requests stay unanswered than the percentile leaves out"


def _why_undecided(found: Estimate, budget: float) -> str:
    """Return what would decide: better profiles, or about how many replications, were the estimate to stay.

    Chance narrows as 1/√n, the errors of the profiles do not: n' = n chance² / (gap² − inputs²).
    """
    gap, inputs = abs(budget - (found.value or 0.0)), found.inputs or 0.0
    if inputs >= gap:
        return "the errors of the profiles reach the budget: measure them better"
    ratio = (found.chance or 0.0) ** 2 / (gap**2 - inputs**2)
    start = f"the interval contains the budget after {found.n} replications"
    if ratio > _AFFORDABLE:
        return f"{start}; more than {_AFFORDABLE * found.n} would be needed to decide it"
    return f"{start}{_ABOUT}{_round_up(max(ratio * found.n, found.n + 1))}{_WOULD}"


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
