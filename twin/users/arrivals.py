"""When requests arrive: random processes on the line, as sorted instants in [0, duration), in seconds."""

from collections.abc import Sequence
from itertools import cycle
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

Instants = NDArray[np.float64]


def poisson_arrivals_s(chance: np.random.Generator, *, requests_per_s: float, duration_s: float) -> Instants:
    """Return a Poisson process; a longer duration keeps the earlier instants."""
    _check_rate("requests_per_s", requests_per_s)
    arrived_s: Instants = np.zeros(1)
    while arrived_s[-1] < duration_s:
        expected = requests_per_s * (duration_s - arrived_s[-1])
        gaps_s = chance.exponential(1 / requests_per_s, size=int(expected + 4 * sqrt(expected)) + 10)
        gaps_s[0] += arrived_s[-1]
        arrived_s = np.concatenate([arrived_s, np.cumsum(gaps_s)])
    return _before(arrived_s[1:], duration_s)


def gamma_arrivals_s(chance: np.random.Generator, *, requests_per_s: float, cv: float, duration_s: float) -> Instants:
    """Return a renewal process with gamma gaps of a given coefficient of variation; 1 is Poisson, above it bursty.

    The first gap is an ordinary one, so the process begins as if a request had just come.
    """
    _check_rate("requests_per_s", requests_per_s)
    _check_rate("cv", cv)
    shape = 1 / cv**2
    gaps_s: NDArray[np.float64] = np.empty(0)
    while gaps_s.sum() < 2 * duration_s:
        more = chance.gamma(shape, 1 / (shape * requests_per_s), size=int(2 * requests_per_s * duration_s) + 10)
        gaps_s = np.concatenate([gaps_s, more])
    return _before(np.cumsum(gaps_s), duration_s)


def modulated_arrivals_s(
    chance: np.random.Generator,
    modulation: np.random.Generator,
    *,
    requests_per_s: Sequence[float],
    mean_s: Sequence[float],
    duration_s: float,
) -> Instants:
    """Return a Markov-modulated Poisson process that goes round its states, exponentially long in each.

    State i sends `requests_per_s[i]` for `mean_s[i]` on average; the first state is where it starts.
    """
    if len(requests_per_s) != len(mean_s) or len(mean_s) < 2:
        raise ValueError(f"mmpp: {len(requests_per_s)} rates and {len(mean_s)} durations; give at least two of each")
    for rate, mean in zip(requests_per_s, mean_s, strict=True):
        _check_rate("requests_per_s of a state", rate, zero=True)
        _check_rate("mean_s of a state", mean)
    ends_s, rates, now_s = [], [], 0.0
    for rate, mean in cycle(zip(requests_per_s, mean_s, strict=True)):
        now_s += modulation.exponential(mean)
        ends_s.append(now_s)
        rates.append(rate)
        if now_s >= duration_s:
            break
    return _with_rates(chance, np.array(ends_s), np.array(rates), duration_s)


def diurnal_arrivals_s(
    chance: np.random.Generator,
    *,
    requests_per_s: float,
    shape: Sequence[float],
    period_s: float,
    duration_s: float,
) -> Instants:
    """Return a Poisson process whose rate follows `shape`, equal parts of a period, and is `requests_per_s` on average.

    The average is that of a whole period; the run starts at the first part.
    """
    _check_rate("requests_per_s", requests_per_s)
    _check_rate("period_s", period_s)
    for part in shape:
        _check_rate("a part of shape", part, zero=True)
    if not shape or sum(shape) == 0:
        raise ValueError("diurnal: shape has no part above 0; give the relative rate of each part of the period")
    parts = np.asarray(shape, dtype=np.float64)
    n = int(np.ceil(duration_s / (period_s / len(parts)))) + 1
    ends_s: Instants = np.arange(1, n + 1, dtype=np.float64) * (period_s / len(parts))
    rates: NDArray[np.float64] = np.resize(parts / parts.mean() * requests_per_s, n)
    return _with_rates(chance, ends_s, rates, duration_s)


def _with_rates(
    chance: np.random.Generator, ends_s: Instants, rates: NDArray[np.float64], duration_s: float
) -> Instants:
    """Return a Poisson process with a rate that is constant up to each of `ends_s`: unit gaps, time stretched."""
    lasts_s = np.diff(ends_s, prepend=0.0)
    expected = np.concatenate([[0.0], np.cumsum(rates * lasts_s)])  # arrivals up to each end
    arrivals = np.empty(0)
    while arrivals.size == 0 or arrivals[-1] < expected[-1]:
        gaps = chance.exponential(1.0, size=int(expected[-1]) + 100)
        arrivals = np.concatenate([arrivals, np.cumsum(gaps) + (arrivals[-1] if arrivals.size else 0.0)])
    arrivals = arrivals[arrivals < expected[-1]]
    part = (
        np.searchsorted(expected, arrivals, side="right") - 1
    )  # the last part that begins at or before: it has a rate
    starts_s = np.concatenate([[0.0], ends_s])[part]
    return _before(starts_s + (arrivals - expected[part]) / rates[part], duration_s)


def _before(arrived_s: Instants, duration_s: float) -> Instants:
    return arrived_s[arrived_s < duration_s]


def _check_rate(key: str, found: float, *, zero: bool = False) -> None:
    if not (isfinite(found) and (found > 0 or (zero and found == 0))):
        raise ValueError(f"load: {key} is {found}, must be a finite number {'of at least' if zero else 'above'} 0")
