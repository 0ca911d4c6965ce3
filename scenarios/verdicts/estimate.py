"""A figure averaged over replications, with its interval, and what more replications would make of it.

An interval has two parts, reported apart and joined for the verdict. Chance: replications differ in arrivals, prompts
and noise, and more of them narrow it. Inputs: the profiles' coefficients have errors, and no number of replications
narrows that below what those errors are. Both are at one level, which `look_level` lowers when several budgets are
judged or looked at repeatedly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.records.metrics import SHARES

__all__ = ["LEVEL", "Estimate", "Spread", "estimate", "estimate_metric", "estimate_share", "look_level"]

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a figure's replications spread, from which follows how wide its interval is with any number of them.

    Attributes:
        level: of the interval.
        n: replications seen.
        n_drawn: of these, the ones with a ratio of the figure under drawn coefficients to the nominal one.
        deviation: standard deviation over the replications, in the figure's unit; 0 without randomness.
        log_middle: mean of the logarithms of the ratios; 0 when nothing was drawn.
        log_deviation: their standard deviation; infinite when fewer than two are known.
        unbounded: whether under drawn coefficients the figure was infinite where it was finite.
    """

    level: float
    n: int
    deviation: float
    n_drawn: int = 0
    log_middle: float = 0.0
    log_deviation: float = 0.0
    unbounded: bool = False

    def chance(self, n: float) -> float:
        """Return half of Student's t interval of n replications; 0 for infinitely many."""
        return _quantile(self.level, n) * self.deviation * math.sqrt(1 / n) if self.deviation else 0.0

    def inputs(self, mean: float, n: float) -> tuple[float, float]:
        """Return how far below and above the mean the figure may lie under the true coefficients.

        A t prediction interval of the logarithm: the true coefficients are one draw, not the mean of many. Infinitely
        many replications leave the spread of the draws itself.
        """
        m = n - self.n + self.n_drawn  # those without a ratio stay without
        if not self.n_drawn and not self.unbounded and not self.log_deviation:
            return 0.0, 0.0
        if math.isinf(self.log_deviation):
            return mean, math.inf
        half = _quantile(self.level, m) * self.log_deviation * math.sqrt(1 + 1 / m)
        above = math.inf if self.unbounded else max(0.0, mean * math.expm1(self.log_middle + half))
        return max(0.0, -mean * math.expm1(self.log_middle - half)), above

    def reach(self, mean: float, budget: float, n: float) -> float:
        """Return how far the interval of n replications reaches from the mean towards a budget."""
        below, above = self.inputs(mean, n)
        return math.hypot(self.chance(n), above if budget >= mean else below)


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
    spread: Spread | None = None

    def figures(self) -> dict[str, float | None]:
        """Return the numbers by name, without the spread behind them."""
        return {name: getattr(self, name) for name in ("value", "low", "high", "n", "chance", "inputs")}


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
    spread = _spread(x, finite, np.asarray(drawn, dtype=float), random=random, level=level)
    chance, (below, above) = spread.chance(n), spread.inputs(mean, n)
    return Estimate(
        value=mean,
        low=max(0.0, float(finite.mean()) - math.hypot(chance, below)),
        high=mean + math.hypot(chance, above),
        n=n,
        chance=chance,
        inputs=above if len(drawn) else None,
        spread=spread,
    )


def estimate_metric(name: str, values: Sequence[float], *, random: bool = True) -> Estimate:
    """Return the mean of a metric over replications; of one that is a share, with an interval within [0, 1]."""
    return estimate_share(values, random=random) if name in SHARES else estimate(values, random=random)


def estimate_share(values: Sequence[float], *, random: bool = True) -> Estimate:
    """Return the mean over replications of a share of one (accuracy, served, busy), with an interval within [0, 1].

    Wilson's score interval with Student's quantile t, of as many trials as give a share p the variance s² that the
    mean of the replications has: p (1 − p) / s². E. B. Wilson, JASA 22 (1927) 209; for means of clusters P. Kott and
    D. Carr, Statistics of surveys by a complex design (1997). Replications that all agree leave no width.

    >>> e = estimate_share([1.0, 0.9, 1.0])
    >>> round(e.low, 3), round(e.value, 3), round(e.high, 3)
    (0.571, 0.967, 0.998)
    """
    plain = estimate(values, random=random)
    p, chance = plain.value, plain.chance
    if p is None or not chance:
        return plain
    r = chance**2 / (p * (1 - p))  # t² over the number of trials
    middle, half = (p + r / 2) / (1 + r), math.sqrt(r * p * (1 - p) + r**2 / 4) / (1 + r)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(value=p, low=low, high=high, n=plain.n, chance=high - p)


def _quantile(level: float, n: float) -> float:
    """Return the two-sided quantile of Student's t of n values; the normal one of infinitely many."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a third of a second to load, and a run may need none

    return float(stdtrit(n - 1, (1 + level) / 2))


def _spread(
    x: NDArray[np.float64], finite: NDArray[np.float64], drawn: NDArray[np.float64], *, random: bool, level: float
) -> Spread:
    deviation = float(finite.std(ddof=1)) if random else 0.0
    if len(drawn) == 0:
        return Spread(level=level, n=len(x), deviation=deviation)
    known = np.isfinite(x) & (x > 0) & (drawn > 0)
    ratio = np.log(drawn[known] / x[known])
    logs = ratio[np.isfinite(ratio)]
    few = len(logs) < 2
    return Spread(
        level=level,
        n=len(x),
        deviation=deviation,
        n_drawn=len(logs),
        log_middle=0.0 if few else float(logs.mean()),
        log_deviation=math.inf if few else float(logs.std(ddof=1)),
        unbounded=len(logs) < len(ratio),
    )
