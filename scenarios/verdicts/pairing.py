"""Paired differences: the same replications, the same chance, one thing changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from scenarios.verdicts.estimate import LEVEL, Estimate

__all__ = ["paired"]


def paired(values: Sequence[float], base: Sequence[float], *, random: bool = True) -> Estimate:
    """Return the mean of values − base over the replications that both have, with Student's t interval.

    The replications share their seeds, so what chance does to both cancels. None where a replication of either is
    unknown or infinite: a difference of infinities says nothing. Without randomness the difference is exact.

    >>> e = paired([9.0, 10.0, 11.0], [8.0, 9.0, 9.0])
    >>> round(e.low, 3), round(e.value, 3), round(e.high, 3)
    (-0.101, 1.333, 2.768)
    """
    n = min(len(values), len(base))
    x, y = np.asarray(values[:n], dtype=float), np.asarray(base[:n], dtype=float)
    if n == 0 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Estimate(value=None, low=None, high=None, n=n)
    d = x - y
    mean = float(d.mean())
    if not random or not d.any():
        return Estimate(value=mean, low=mean, high=mean, n=n)
    if n == 1:
        return Estimate(value=mean, low=None, high=None, n=n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * d.std(ddof=1) / math.sqrt(n))
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)
