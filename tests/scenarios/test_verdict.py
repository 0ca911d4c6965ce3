"""Laws of the verdict."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.verdicts.verdict import estimate, exit_status, judge, overall


def verdict(values, budget, **kw):
    return judge(metric="m", label="m", budget=budget, unit="s", found=estimate(values, **kw))


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20), st.floats(0.1, 1e6))
def test_a_verdict_follows_from_its_interval(values, budget):
    """Holds: all of the interval within; violated: all beyond; else undecided. The mean lies inside."""
    v = verdict(values, budget)
    assert v.low <= v.estimate + 1e-9 * abs(v.estimate)
    assert v.estimate <= v.high + 1e-9 * abs(v.estimate)
    expected = "holds" if v.high <= budget else "violated" if v.low > budget else "undecided"
    assert v.status == expected


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Of 2,000 intervals from 8 normal replications about 95 % contain the mean (binomial 99.9 % band)."""
    rng = np.random.default_rng(1)
    found = [estimate(rng.normal(10, 2, 8)) for _ in range(2000)]
    share = np.mean([e.low <= 10 <= e.high for e in found])
    assert abs(share - 0.95) < 3.3 * math.sqrt(0.95 * 0.05 / 2000)


def test_refusing_work_never_helps():
    """An infinite percentile in every replication violates; in some, it can never hold, and may violate."""
    assert verdict([math.inf, math.inf], 1e9).status == "violated"
    assert verdict([1.0, math.inf], 1e9).status == "undecided"
    assert verdict([9.0, 9.1, math.inf], 5.0).status == "violated"
    assert verdict([9.0, 9.1, math.inf], 5.0).high == math.inf


def test_missing_is_not_zero():
    """An unknown figure is undecided under any budget."""
    v = verdict([math.nan, 1.0], 1e9)
    assert (v.estimate, v.status) == (None, "undecided")


def test_without_randomness_one_run_decides():
    """A scenario without randomness is judged on its value alone, a random one needs two replications."""
    assert verdict([2.0], 2.0, random=False).status == "holds"
    assert verdict([2.1], 2.0, random=False).status == "violated"
    assert verdict([2.0], 3.0).status == "undecided"


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [([1.0, 1.0], "holds", 0), ([9.0, 9.0], "violated", 1), ([4.0, 6.0], "undecided", 3)],
)
def test_exit_status(values, status, code):
    """0 holds, 1 violated, 3 undecided; violated beats undecided."""
    v = verdict(values, 5.0)
    assert (overall([v]), exit_status([v])) == (status, code)
    assert exit_status([v, verdict([4.0, 6.0], 5.0), verdict([9.0, 9.0], 5.0)]) == 1
