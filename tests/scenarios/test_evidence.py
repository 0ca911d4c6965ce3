"""Laws of what verdicts rest on: warm-up, stability, drawn inputs, levels and looks."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.draws import drawn, is_uncertain
from calibration.profile import bundled_profiles, read_profile
from scenarios.files.loading import load
from scenarios.runs.replicating import assemble
from scenarios.runs.result import look_sizes
from scenarios.verdicts.estimate import estimate, look_level
from scenarios.verdicts.stability import growing_backlogs, unstable_share
from scenarios.verdicts.verdict import judge
from scenarios.verdicts.warmup import mser, warmup_s

DURATION_S = 3000.0


def queue(rate, service_s, seed, replication=0):
    """Return the legs of a single-server queue with Poisson arrivals and constant service (Lindley)."""
    random = np.random.default_rng(seed)
    arrived_s = np.cumsum(random.exponential(1 / rate, int(2 * rate * DURATION_S)))
    arrived_s = arrived_s[arrived_s < DURATION_S]
    finished_s = np.empty_like(arrived_s)
    free_s = 0.0
    for i, at in enumerate(arrived_s):
        free_s = finished_s[i] = max(free_s, at) + service_s
    return pd.DataFrame(
        {
            "replication": replication, "request_id": np.arange(len(arrived_s)), "expert": "e", "status": "served",
            "arrived_s": arrived_s, "finished_s": finished_s,
        }
    )  # fmt: skip


def replications(rate, service_s, n, seed=0):
    return pd.concat([queue(rate, service_s, seed + i, i) for i in range(n)])


@pytest.mark.parametrize("load", [1.1, 1.5, 3.0])
def test_an_overloaded_server_is_called_unstable_and_its_growth_measured(load):
    """At load rho > 1 the backlog grows by 1 - 1/rho of the arrivals."""
    found = growing_backlogs(replications(0.5, load / 0.5, 8), DURATION_S)
    assert found["e"] == pytest.approx(1 - 1 / load, abs=0.06)


def test_a_server_that_keeps_up_is_seldom_called_unstable():
    """At load 0.9, of 200 sets of 4 replications at most 2 % are called unstable."""
    wrong = sum(bool(growing_backlogs(replications(0.5, 1.8, 4, seed=10 * i), DURATION_S)) for i in range(200))
    assert wrong <= 4


def test_a_short_load_says_nothing_of_stability():
    """With fewer than twenty legs in the middle of the run no server is called unstable."""
    assert growing_backlogs(replications(0.01, 500.0, 4), DURATION_S) == {}


def test_the_unstable_share_counts_requests_once():
    """A request with several legs on unstable experts counts once, one without none."""
    requests = pd.DataFrame({"replication": 0, "request_id": [1, 2, 3, 4]})
    legs = pd.DataFrame({"replication": 0, "request_id": [1, 1, 2, 3], "expert": ["a", "b", "a", "c"]})
    assert unstable_share(requests, legs, ["a", "b"]) == 0.5
    assert unstable_share(requests, legs, []) == 0.0


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_mser_cuts_a_planted_transient(length, seed):
    """A start that lies far from the rest is cut off whole."""
    random = np.random.default_rng(seed)
    values = random.normal(10, 1, 400)
    values[:length] += 100
    cut = mser(values)
    assert cut is None or cut >= length


def test_warm_up_is_found_in_seconds():
    """Delays that start high and settle after 200 s are cut there, averaged over replications."""
    arrived_s = np.arange(0.0, 2000.0, 2.0)
    delay_s = 5 + np.where(arrived_s < 200, 50.0, 0.0)
    runs = [
        pd.DataFrame({"replication": i, "arrived_s": arrived_s, "finished_s": arrived_s + delay_s + noise})
        for i, noise in enumerate(np.random.default_rng(0).uniform(0, 1, (3, len(arrived_s))))
    ]
    assert warmup_s(pd.concat(runs)) == pytest.approx(200, abs=12)


@given(st.integers(1, 20), st.integers(1, 6))
def test_the_error_is_spent_once(n_budgets, n_looks):
    """All intervals of all looks together leave out at most 5 % (Bonferroni)."""
    assert n_budgets * n_looks * (1 - look_level(n_budgets, n_looks)) == pytest.approx(0.05)


def test_replications_are_doubled_up_to_the_cap():
    """The looks are fixed before the first one."""
    scenario = load("testbed", ["replications=6", "verdicts.max_replications=40"])
    assert look_sizes(assemble(scenario)) == [6, 12, 24, 40]


def test_replications_stop_where_only_better_profiles_could_decide():
    """An undecided budget within reach of the profiles' errors asks for no more runs; one beyond them does."""
    x = [100.0, 103.0, 98.0, 101.0, 99.0, 102.0]

    def needs(drawn, budget):
        found = estimate(x, drawn=drawn)
        return judge(metric="m", label="m", budget=budget, unit="s", found=found).needs_replications

    assert not needs([90.0, 113.0, 88.0, 111.0, 92.0, 108.0], 104.0)
    assert needs([v * f for v, f in zip(x, [1.0001, 0.9999] * 3, strict=True)], 101.5)
    assert not needs([], 200.0)


def test_more_replications_narrow_chance_and_not_the_inputs():
    """The interval around a wrong model does not shrink to nothing."""
    random = np.random.default_rng(3)

    def interval(n):
        x = random.normal(100, 10, n)
        return estimate(x.tolist(), drawn=(x + random.normal(0, 5, n)).tolist())

    few, many = interval(8), interval(2000)
    assert many.chance < few.chance / 5
    assert many.inputs == pytest.approx(1.96 * 5, rel=0.1)
    assert many.high - many.value == pytest.approx(math.hypot(many.chance, many.inputs))


def test_the_interval_covers_the_true_figure_when_the_inputs_are_wrong():
    """The truth lies one draw away from the nominal figure; 95 % intervals contain it (binomial 99.9 % band)."""
    random = np.random.default_rng(4)
    hits = 0
    for _ in range(1500):
        truth = 100 + random.normal(0, 5)
        x = random.normal(100, 3, 10)
        found = estimate(x.tolist(), drawn=(x + random.normal(0, 5, 10)).tolist())
        hits += found.low <= truth <= found.high
    assert hits / 1500 > 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / 1500)


@pytest.mark.parametrize("name", sorted(bundled_profiles()))
def test_bundled_profiles_are_drawn_around_themselves(name):
    """A draw is repeatable, valid, centred on the profile, and spread."""
    profile = read_profile(bundled_profiles()[name])
    assert is_uncertain(profile)
    assert drawn(profile, seed=1) == drawn(profile, seed=1) != drawn(profile, seed=2)
    legs_s = np.array([drawn(profile, seed=i).seconds.leg_of(1200, 80).item() for i in range(300)])
    assert np.median(legs_s) == pytest.approx(profile.seconds.leg_of(1200, 80).item(), rel=0.05)
    assert 0 < legs_s.std() / legs_s.mean() < 0.3


def test_cards_share_the_draw_of_their_assumed_watts():
    """Profiles scaled from one card's assumed watts are wrong together."""
    profiles = [read_profile(bundled_profiles()[f"rtx-4090/{m}/bf16"]) for m in ("mathstral-7b", "yi-6b-chat")]
    watts = np.array(
        [
            [d.joules.base / d.seconds.base for d in (drawn(p, seed=i) for p in profiles)]
            for i in range(50)
        ]
    )  # fmt: skip
    assert np.corrcoef(watts.T)[0, 1] > 0.999
    assert watts.min() >= 218
    assert watts.max() <= 385


def test_verdicts_on_a_queue_with_a_known_answer_are_right():
    """M/D/1 with the truth 10 % from the budget: none of 2 x 15 sequential verdicts is wrong, none undecided."""
    from tools.results_verdicts import SYSTEMS, verdict

    known = SYSTEMS[0]
    found = {off: [verdict(known, known.truth_s / (1 + off), seed=i)[0] for i in range(15)] for off in (-0.1, 0.1)}
    assert set(found[-0.1]) == {"holds"}
    assert set(found[0.1]) == {"violated"}
