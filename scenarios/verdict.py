"""Budgets judged from replications: holds, violated or undecided, with the interval that says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

__all__ = ["LEVEL", "Estimate", "Status", "Verdict", "estimate", "exit_status", "judge", "overall"]

Status = Literal["holds", "violated", "undecided"]
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure averaged over replications, with its two-sided 95 % interval; None where none is known."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float], *, random: bool = True) -> Estimate:
    """Return the mean over replications with Student's t interval, cut at 0: no figure judged here is negative.

    A figure without randomness is exact: its interval is the value itself. One replication of a random scenario has
    a value and no interval. An infinite replication (more requests unanswered than the percentile allows) makes the
    mean and the upper end infinite; the lower end is then that of the replications with the largest finite value in
    the infinite ones' place, which can only be too low.

    >>> e = estimate([9.0, 10.0, 11.0])
    >>> round(e.low, 3), e.value, round(e.high, 3)
    (7.516, 10.0, 12.484)
    >>> estimate([9.0])
    Estimate(value=9.0, low=None, high=None, n=1)
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0 or np.isnan(x).any():
        return Estimate(value=None, low=None, high=None, n=n)
    mean = float(x.mean())
    if not random or np.isposinf(x).all():
        return Estimate(value=mean, low=mean, high=mean, n=n)
    if n == 1:
        return Estimate(value=mean, low=None, high=None, n=n)
    finite = np.minimum(x, x[np.isfinite(x)].max())
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * finite.std(ddof=1) / math.sqrt(n))
    return Estimate(value=mean, low=max(0.0, float(finite.mean()) - half), high=mean + half, n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One budget, judged."""

    metric: str
    label: str
    budget: float
    unit: str
    estimate: float | None
    low: float | None
    high: float | None
    status: Status
    note: str = ""


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
    )


def _status(found: Estimate, budget: float) -> tuple[Status, str]:
    if found.value is None:
        return "undecided", "not known"
    if found.low is None or found.high is None:
        return "undecided", "one replication gives no interval: ask for at least two"
    if found.high <= budget:
        return "holds", ""
    if found.low > budget:
        return "violated", _UNANSWERED if math.isinf(found.value) else ""
    if math.isinf(found.value):
        return "undecided", _UNANSWERED
    return "undecided", "the interval contains the budget: more replications would narrow it"


_UNANSWERED = "in some replications more requests stay unanswered than the percentile leaves out"


def overall(verdicts: Sequence[Verdict]) -> Status:
    """Return the verdict of all budgets together: a violated one beats an undecided one."""
    found = {v.status for v in verdicts}
    return "violated" if "violated" in found else "undecided" if "undecided" in found else "holds"


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """Return 0 when every budget holds, 1 when one is violated, 3 when one is undecided."""
    return {"holds": 0, "violated": 1, "undecided": 3}[overall(verdicts)]
