"""Laws of the intervals of differences: they hold the truth as often as they say, also where requests wait."""

import numpy as np
import pytest

from scenarios.comparing.resampling import interval, relative_error


def test_intervals_of_dependent_requests_are_drawn_in_blocks():
    """Where errors wander slowly, the 90 % interval of the mean's error holds the truth; by single requests it lies."""
    chance = np.random.default_rng(11)
    n, hits, naive_hits = 600, 0, 0
    for _ in range(60):
        steps = chance.standard_normal(n)
        wander = np.zeros(n)
        for i in range(1, n):
            wander[i] = 0.8 * wander[i - 1] + np.sqrt(1 - 0.8**2) * steps[i]
        real = chance.exponential(1.0, n) + 5.0
        twin = real * (1.1 + 0.1 * wander)
        found = interval(real, twin, np.zeros(n))
        assert found.method.startswith("paired block bootstrap")
        hits += found.low["mean"] <= 0.1 <= found.high["mean"]
        spread = 1.645 * (twin / twin.mean() - real / real.mean()).std() / np.sqrt(n)
        naive_hits += abs(relative_error(real.mean(), twin.mean()) - 0.1) <= 1.1 * spread
    assert hits >= 48  # 54 expected
    assert naive_hits <= 38


def test_independent_errors_are_drawn_one_by_one():
    """With white errors the interval is a plain paired bootstrap, as wide as the standard error says."""
    chance = np.random.default_rng(12)
    real = chance.exponential(1.0, 500) + 1.0
    twin = real * (1 + 0.2 * chance.standard_normal(500))
    found = interval(real, twin, np.zeros(500))
    assert found.method.startswith("paired bootstrap of 500")
    half = 1.645 * (twin / real.mean() - real / real.mean()).std() / np.sqrt(500)
    assert (found.high["mean"] - found.low["mean"]) / 2 == pytest.approx(half, rel=0.2)
    few = interval(real[:5], twin[:5], np.zeros(5))
    assert np.isnan(few.low["mean"])
