"""Laws of the verdict."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.verdicts.verdict import Estimate, estimate, exit_status, judge, overall, reason


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


@given(
    n=st.integers(2, 40),
    gap=st.floats(0.01, 5.0),
    spread=st.floats(0.1, 20.0),
    inputs=st.one_of(st.none(), st.floats(0.0, 6.0)),
)
def test_an_undecided_budget_says_what_would_decide_it(n, gap, spread, inputs):
    """With the replications that are named the interval just leaves out the budget, with fewer it does not.

    Chance narrows as 1/√n. Where the errors of the profiles alone reach the budget, no number is named.
    """
    found = Estimate(value=10.0, low=0.0, high=99.0, n=n, chance=spread, inputs=inputs)
    budget = 10.0 + gap
    note = judge(metric="m", label="m", budget=budget, unit="s", found=found).note
    gap = budget - 10.0  # as it is rounded

    def width(replications):
        return math.hypot(spread * math.sqrt(n / replications), inputs or 0.0)

    named = [int(w) for w in re.findall(r"about (\d+)", note)]
    if (inputs or 0.0) >= gap:
        assert "errors of the profiles" in note
    elif named:
        assert f"after {n} replications" in note
        assert width(named[0]) <= gap * (1 + 1e-9)
        assert named[0] <= n + 1 or width(0.9 * named[0] - 1) > gap  # rounded up to two digits
    else:
        assert f"more than {100 * n} would be needed" in note
        assert width(100 * n) > gap


def test_a_reason_names_each_budget_behind_a_status_once():
    """Budgets that share a note stand together; of several numbers of replications the largest decides them all."""
    judged = [
        *((f"delay p95, {c}", "undecided", f"why; about {n} would decide it, if the estimate stays")
          for c, n in (("law", 20), ("math", 90), ("art", 30))),
        ("energy per request", "undecided", "the joules of x are not known"),
    ]  # fmt: skip
    every = "every delay budget: why; about 90 would decide it, if the estimate stays"
    assert reason("undecided", judged) == f"{every}; energy per request: the joules of x are not known"
    assert reason("undecided", judged[:2]).startswith("delay p95, law, math: why; about 90")
    assert reason("undecided", judged, notes=False) == "every delay budget, energy per request"


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [([1.0, 1.0], "holds", 0), ([9.0, 9.0], "violated", 1), ([4.0, 6.0], "undecided", 3)],
)
def test_exit_status(values, status, code):
    """0 holds, 1 violated, 3 undecided; violated beats undecided."""
    v = verdict(values, 5.0)
    assert (overall([v]), exit_status([v])) == (status, code)
    assert exit_status([v, verdict([4.0, 6.0], 5.0), verdict([9.0, 9.0], 5.0)]) == 1
