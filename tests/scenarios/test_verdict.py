"""Laws of the verdict."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from scenarios.verdicts.estimate import estimate, estimate_share
from scenarios.verdicts.verdict import exit_status, judge, overall, reason


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


def reach(values, drawn, budget, n):
    """How far the interval of n replications of this spread reaches towards the budget, written down a second time."""
    x, logs = np.asarray(values), np.log(np.asarray(drawn) / np.asarray(values)) if drawn else np.zeros(2)
    quantile = t.ppf(0.975, n - 1) if n < math.inf else norm.ppf(0.975)
    chance = quantile * x.std(ddof=1) / math.sqrt(n)
    half = quantile * logs.std(ddof=1) * math.sqrt(1 + 1 / n)
    sign = 1 if budget >= x.mean() else -1
    return math.hypot(chance, max(0.0, sign * x.mean() * math.expm1(logs.mean() + sign * half)))


@given(
    values=st.lists(st.floats(80.0, 120.0), min_size=2, max_size=12),
    factors=st.one_of(st.none(), st.lists(st.floats(0.8, 1.25), min_size=12, max_size=12)),
    gap=st.floats(-60.0, 60.0).filter(lambda g: abs(g) > 0.5),
)
def test_an_undecided_budget_says_what_would_decide_it(values, factors, gap):
    """With the replications that are named the interval just leaves out the budget, with fewer it does not.

    Were estimate and spread to stay. Where infinitely many replications would not do, no number is named, and no more
    replications are asked for; the side of the interval that counts is the one towards the budget.
    """
    drawn = [v * f for v, f in zip(values, factors, strict=False)] if factors else []
    budget = float(np.mean(values)) + gap
    found = verdict(values, budget, drawn=drawn)
    n, gap = len(values), abs(budget - np.mean(values))
    named = [int(w) for w in re.findall(r"about (\d+)", found.note)]
    assert found.needs_replications == (found.status == "undecided" and "errors of the profiles" not in found.note)
    if found.status != "undecided":
        assert found.note == ""
    elif "errors of the profiles" in found.note:
        assert reach(values, drawn, budget, math.inf) >= gap * (1 - 1e-9)
    elif named:
        assert f"after {n} replications" in found.note
        assert reach(values, drawn, budget, named[0]) < gap * (1 + 1e-9)
        assert named[0] <= n + 1 or reach(values, drawn, budget, max(n, 0.9 * named[0] - 1)) > gap * (1 - 1e-9)
    else:
        assert f"more than {100 * n} would be needed" in found.note
        assert reach(values, drawn, budget, 100 * n) >= gap * (1 - 1e-9)


def test_errors_of_profiles_are_blamed_on_the_side_of_the_budget():
    """Errors that reach far above an estimate decide nothing about a budget far below it: more replications do."""
    values, drawn = [50.0, 700.0, 900.0, 200.0], [80.0, 900.0, 1100.0, 300.0]
    found = verdict(values, 60.0, drawn=drawn)
    assert (found.status, found.needs_replications) == ("undecided", True)
    assert found.inputs > found.estimate - 60.0
    assert verdict(4 * values, 60.0, drawn=4 * drawn).status == "violated"


def test_what_is_not_known_asks_for_no_replications():
    """No number of replications finds joules that a profile does not have."""
    assert not verdict([math.nan, math.nan], 1.0).needs_replications


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_interval_of_a_share_is_within_0_and_1(values):
    """A share has no interval beyond nothing or beyond the whole, and its mean lies inside."""
    found = estimate_share(values)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert found.high == pytest.approx(found.value + found.chance)


def test_the_interval_of_a_share_is_the_usual_one_far_from_the_ends():
    """Of many alike replications around a half it is Student's t interval, to a thousandth of its width."""
    values = np.random.default_rng(5).normal(0.5, 0.01, 30).tolist()
    share, plain = estimate_share(values), estimate(values)
    assert (share.low, share.high) == pytest.approx((plain.low, plain.high), abs=1e-3 * plain.chance)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_the_interval_of_a_share_covers_the_truth(share):
    """Of 2,000 intervals from 5 replications of 100 trials 95 % contain the share (binomial 99.9 % band below)."""
    rng = np.random.default_rng(6)
    found = [estimate_share(rng.binomial(100, share, 5) / 100) for _ in range(2000)]
    assert np.mean([e.low <= share <= e.high for e in found]) > 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / 2000)


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
