"""Intervals of relative errors by drawing again: requests that wait for each other are drawn in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from twin.records.metrics import PERCENTILES

__all__ = ["LEAST_PAIRS", "Interval", "interval", "relative_error", "spreads_of"]

Floats = NDArray[np.float64]

LEVEL = 0.9
LEAST_PAIRS = 20
"""Pairs below which no interval is given."""
_N_DRAWS = 400
_MOST_AT_ONCE = 2**22
_SEED = 0
_NAMES = ("mean", *(f"p{p}" for p in PERCENTILES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The central 90 % of the redrawn relative errors of mean and percentiles, and how they were drawn."""

    low: dict[str, float]
    high: dict[str, float]
    method: str


def interval(real: Floats, twin: Floats, runs: NDArray[np.generic]) -> Interval:
    """Return the interval of twin / real - 1 in each figure of `spreads_of`, for pairs (n,) in the order of arrival.

    Both sides are drawn together: the same requests stand on both. Where the pairs' errors are correlated from one
    request to the next, runs of consecutive requests are drawn whole, as long as the correlation reaches (moving
    block bootstrap; Künsch, 1989); no block crosses replications, which `runs` tells apart. The ends are widened by
    Student's t over the normal quantile, as few blocks know little of their own spread.
    """
    n = len(real)
    if n < LEAST_PAIRS:
        unknown = dict.fromkeys(_NAMES, nan)
        return Interval(low=unknown, high=unknown, method=f"none: {n} pairs are too few, needs {LEAST_PAIRS}")
    length = _block_length(real, twin)
    rows = _drawn_rows(runs, length)
    errors = _errors(rows, real, twin)
    wider = float(stdtrit(max(n // length - 1, 1), (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2))
    measured, found = spreads_of(real, twin)
    ends = {name: _ends(e, relative_error(measured[name], found[name]), wider) for name, e in errors.items()}
    if length == 1:
        method = f"paired bootstrap of {n} pairs: their errors are not correlated from one to the next"
    else:
        method = f"paired block bootstrap: {n} pairs in blocks of {length} consecutive ones"
    return Interval(low={k: e[0] for k, e in ends.items()}, high={k: e[1] for k, e in ends.items()}, method=method)


def spreads_of(real: Floats, twin: Floats) -> tuple[dict[str, float], dict[str, float]]:
    """Return mean and percentiles of both sides of pairs (n,), of which there is at least one.

    The mean is of the pairs that are finite on both sides, or it would be of other requests on each, and NaN without
    one; percentiles are of all.

    >>> [side["mean"] for side in spreads_of(np.array([1.0, 9.0]), np.array([2.0, np.inf]))]
    [1.0, 2.0]
    """
    sides = _spreads(real[None, :], twin[None, :])
    measured, simulated = ({name: float(column[0]) for name, column in side.items()} for side in sides)
    return measured, simulated


def _spreads(real: Floats, twin: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return mean and percentiles (nearest rank, as in `twin.records.metrics.percentile`) along rows, each (draws,)."""
    n, both = real.shape[1], np.isfinite(real) & np.isfinite(twin)
    count = both.sum(axis=1)

    def of(values: Floats) -> dict[str, Floats]:
        mean = np.where(count > 0, np.where(both, values, 0.0).sum(axis=1) / np.maximum(count, 1), nan)
        ordered = np.sort(values, axis=1)
        return dict(zip(_NAMES, (mean, *(ordered[:, ceil(p * n / 100) - 1] for p in PERCENTILES)), strict=True))

    return of(real), of(twin)


def _drawn_rows(runs: NDArray[np.generic], length: int) -> NDArray[np.intp]:
    """Return the rows of every draw, shape (draws, n); a replication shorter than a block is drawn by single rows."""
    n = len(runs)
    starts = np.flatnonzero(runs[: n - length + 1] == runs[length - 1 :])
    if not len(starts):
        starts, length = np.arange(n), 1
    chance = np.random.default_rng(_SEED)
    n_draws = max(50, min(_N_DRAWS, _MOST_AT_ONCE // n))
    begins = starts[chance.integers(len(starts), size=(n_draws, ceil(n / length)))]
    return np.asarray((begins[:, :, None] + np.arange(length)).reshape(n_draws, -1)[:, :n])


def _errors(rows: NDArray[np.intp], real: Floats, twin: Floats) -> dict[str, Floats]:
    measured, simulated = _spreads(real[rows], twin[rows])
    relative = np.frompyfunc(relative_error, 2, 1)
    return {name: np.asarray(relative(measured[name], simulated[name]), dtype=np.float64) for name in measured}


def _block_length(real: Floats, twin: Floats) -> int:
    """Return how many consecutive requests hang together: 1, or what the errors' autocorrelation reaches over."""
    both = np.isfinite(real) & np.isfinite(twin)
    if not both.any() or real[both].mean() <= 0 or twin[both].mean() <= 0:
        return 1
    # what each pair adds to the relative error of the mean
    error = pd.Series(twin[both] / twin[both].mean() - real[both] / real[both].mean())
    n = len(error)
    if n < LEAST_PAIRS or float(error.std()) < 1e-12:
        return 1
    noise = 2.0 / np.sqrt(n)
    most = n // 10  # ten blocks at least, or there is nothing to draw from
    reach = next((lag for lag in range(1, most + 1) if not error.autocorr(lag) > noise), most)
    return 1 if reach <= 1 else min(max(reach, ceil(n ** (1 / 3))), most)


def _ends(values: Floats, point: float, wider: float) -> tuple[float, float]:
    known = np.sort(values[~np.isnan(values)])
    if not len(known) or np.isnan(point):
        return nan, nan
    out = int((1 - LEVEL) / 2 * len(known))  # one of the values, so that infinite ones do no harm
    low, high = float(known[out]), float(known[len(known) - 1 - out])
    if not np.isfinite([low, high, point]).all():
        return low, high
    return point - wider * (point - low), point + wider * (high - point)


def relative_error(real: float, twin: float) -> float:
    """Return twin / real - 1; 0 where both are infinite, NaN where it has no meaning.

    >>> relative_error(2.0, 2.5), relative_error(np.inf, np.inf), relative_error(0.0, 0.0)
    (0.25, 0.0, 0.0)
    """
    if np.isnan(real) or np.isnan(twin):
        return nan
    if real == twin:
        return 0.0
    if real == 0.0 or np.isinf(real):
        return nan if real == 0.0 else -1.0
    return twin / real - 1.0
