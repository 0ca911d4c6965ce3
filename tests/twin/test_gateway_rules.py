"""The gateway's rules, in both engines: one meaning, nothing disappears, and the queue that theory solves."""

from dataclasses import replace
from math import factorial, inf

import numpy as np
import pytest
from dynamic_worlds import COLUMNS, played, worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from twin_plant import expert, legs_to_all, profile, requests_at

from twin.gateway.rules import Rules
from twin.network import Network
from twin.records.outcomes import FAILED, REJECTED
from twin.records.tables import tabulate
from twin.servers.faults import Crash
from twin.servers.outages import Outage
from twin.world import ENGINES, simulate

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

RULES = st.builds(
    Rules,
    k=st.sampled_from([None, 1]),
    quorum=st.sampled_from([None, 1]),
    load_aware=st.booleans(),
    timeout_s=st.sampled_from([inf, 5.0, 1.3]),
    max_attempts=st.integers(1, 3),
    backoff_s=st.sampled_from([0.0, 0.37]),
    retry=st.sampled_from(["next", "same"]),
    admission_limit=st.sampled_from([None, 3]),
    gate_s=st.sampled_from([0.0, 0.013]),
)


def same_runs(one, other):
    assert one.status_code.tolist() == other.status_code.tolist()
    assert one.outcomes.status.tolist() == other.outcomes.status.tolist()
    assert one.outcomes.reason.tolist() == other.outcomes.reason.tolist()
    assert one.attempt.tolist() == other.attempt.tolist()
    for column in COLUMNS:
        found, expected = getattr(one.outcomes, column), getattr(other.outcomes, column)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=column)
    for column in ("finished_s", "busy_s", "busy_energy_j", "idle_energy_j", "overhead_energy_j", "horizon_s"):
        found, expected = getattr(one, column), getattr(other, column)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=column)


@settings(PATIENT, max_examples=150)
@given(world=worlds(), rules=RULES, seed=st.integers(0, 99), share=st.one_of(st.just(100.0), st.floats(0.01, 1.5)))
def test_the_engines_agree_under_any_rules(world, rules, seed, share):
    """Every attempt at every leg agrees to 1e-9, under timeouts, retries, quorum, limits and faults, cut off anywhere.

    Nothing disappears: every request sent has one status; it is served when, and only when, its answer came; a served
    one has enough served legs; and legs + idle + overhead are the device's joules.
    """
    plant, rows, befall, network = world
    duration_s = max(row[1] for row in rows) + 1e-3
    ends = {"duration_s": duration_s, "drain_cap_s": share * duration_s, "seed": seed}
    ends["network"] = replace(network, access_delay_s=0.1234, lan_delay_s=0.0171)  # no boundary when the gateway acts
    fast, slow = (played(engine, plant, rows, befall, rules=rules, **ends) for engine in ("compiled", "simpy"))
    same_runs(fast, slow)
    requests = tabulate(fast).requests
    assert sorted(requests.request_id) == sorted(row[0] for row in rows)
    assert set(requests.status) <= {"served", "rejected", "failed", "unfinished"}
    assert ((requests.status == "served") == requests.finished_s.notna()).all()
    needed = min(rules.quorum or 99, rules.k or 99, len(plant))
    n_served = np.bincount(fast.legs.request, weights=fast.outcomes.status == "served", minlength=len(requests))
    assert (n_served[requests.status == "served"] == needed).all()
    assert fast.outcomes.energy_j.sum() == pytest.approx(fast.busy_energy_j.sum(), rel=1e-9, abs=1e-9)
    assert fast.attempt.max(initial=1) <= rules.max_attempts


@settings(PATIENT, max_examples=50)
@given(world=worlds(), engine=st.sampled_from(ENGINES))
def test_no_rules_change_nothing(world, engine):
    """A gateway that has rules which never apply gives the run of an open load, legs on boundaries included.

    But it tells a user of the first leg that failed, before it knows whether one that is on its way will be rejected.
    """
    plant, rows, befall, network = world
    ruled, plain = (played(engine, plant, rows, befall, rules=rules, network=network) for rules in (Rules(), None))
    early = (ruled.status_code == FAILED) & (plain.status_code == REJECTED)
    ruled.status_code[early] = REJECTED
    assert not early.any() or any(network.device_outages.values()) or network.random_outages
    same_runs(ruled, plain)


SECOND = {"prefill_s": (1.0, 0.0, 0.0), "decode_s": (1.0, 0.0, 0.0)}
SLOW = {"prefill_s": (4.0, 0.0, 0.0), "decode_s": (4.0, 0.0, 0.0)}


def asked(engine, rows, rules, *costs, befall=None, **network):
    plant = [expert(profile(**c), name=f"e{i}", device=f"d{i}") for i, c in enumerate(costs)]
    network = Network(**network)
    return tabulate(played(engine, plant, rows, befall or {}, rules=rules, network=network, duration_s=50.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_timeout_and_a_retry_by_hand(engine):
    """The first expert takes 4 s and is given up after 2 s; after 0.5 s the next is asked and takes 1 s.

    The leg that is given up runs on, and keeps what it used.
    """
    tables = asked(engine, [(0, 0.0, 1, 1)], Rules(k=1, timeout_s=2.0, max_attempts=2, backoff_s=0.5), SLOW, SECOND)
    legs = tables.legs
    assert legs.expert.tolist() == ["e0", "e1"]
    assert legs.attempt.tolist() == [1, 2]
    assert legs.status.tolist() == ["failed", "served"]
    assert legs.reason[0] == "no answer within 2 s"
    assert legs.energy_j.tolist() == [1.0, 1.0]
    assert tables.requests.finished_s.tolist() == [2.0 + 0.5 + 1.0]
    assert tables.devices.busy_s.tolist() == [4.0, 1.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_crash_and_a_retry_by_hand(engine):
    """The leg is lost at 0.5 s, tried again on the same expert at once and refused, and after 1 s served from 1.5 s."""
    rules = Rules(max_attempts=3, backoff_s=0.5, retry="same")
    befall = {"d0": [Crash(at_s=0.5, repaired_s=1.25)]}
    legs = asked(engine, [(0, 0.0, 1, 1)], rules, SECOND, befall=befall).legs
    assert legs.arrived_s.tolist() == [0.0, 1.0, 2.0]
    assert legs.status.tolist() == ["failed", "failed", "served"]
    assert legs.finished_s.tolist()[2] == 3.0


@pytest.mark.parametrize("engine", ENGINES)
def test_what_falls_on_one_instant_has_an_order(engine):
    """A crash and a repair come before all else of their instant, and an answer at the timeout comes too late.

    1. A retry that arrives at the repair is taken, ends with the next crash and is lost to it, and the last one
    arrives at the third crash and is refused. 2. The answer is back at 2 s, when the gateway gives up. 3. Leg and
    timeout take 2 s both: the leg that is given up as it arrives still runs, and so does its retry.
    """
    crashes = [Crash(at_s=at, repaired_s=at + lasts) for at, lasts in ((0.5, 0.5), (2.0, 0.5), (3.0, 0.5))]
    rules = Rules(max_attempts=3, backoff_s=0.5, retry="same")
    legs = asked(engine, [(0, 0.0, 1, 1)], rules, SECOND, befall={"d0": crashes}).legs
    assert legs.arrived_s.tolist() == [0.0, 1.0, 3.0]
    assert legs.started_s.tolist()[:2] == [0.0, 1.0]
    assert legs.reason.tolist() == [
        "d0 crashed at 0.500 s",
        "d0 crashed at 2.000 s",
        "d0 refused it, down since 3.000 s",
    ]
    late = asked(engine, [(0, 0.0, 1, 1)], Rules(timeout_s=2.0), SECOND, lan_delay_s=0.5)
    assert late.legs.finished_s.tolist() == [1.5]
    assert late.legs.reason.tolist() == ["no answer within 2 s"]
    tables = asked(engine, [(0, 0.0, 1, 1)], Rules(timeout_s=2.0, max_attempts=2), SECOND, lan_delay_s=2.0)
    assert tables.legs.arrived_s.tolist() == [2.0, 4.0]
    assert tables.legs.finished_s.tolist() == [3.0, 5.0]
    assert tables.legs.energy_j.tolist() == [1.0, 1.0]
    assert tables.requests.status.tolist() == ["failed"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_device_that_is_cut_off_by_hand(engine):
    """What goes to d1 waits until 2 s, what comes from d0 until 9 s; the gateway gives up meanwhile and asks another.

    The leg that it gave up still arrives, runs and keeps its joule: a link that is down loses nothing.
    """
    cut = {"d0": [Outage(at_s=1.25, ends_s=8.5)], "d1": [Outage(at_s=0.0, ends_s=2.0)]}
    both = [
        asked(engine, [(0, 0.0, 1, 1)], r, SECOND, SECOND, lan_delay_s=0.5, device_outages=cut) for r in (None, Rules())
    ]
    for tables in both:
        assert tables.legs.arrived_s.tolist() == [0.5, 2.5]
        assert tables.legs.finished_s.tolist() == [1.5, 3.5]
        assert tables.requests.finished_s.tolist() == [9.0]
    rules = Rules(k=1, timeout_s=1.0, max_attempts=2)
    cut = {"d0": [Outage(at_s=0.0, ends_s=5.0)]}
    tables = asked(
        engine, [(0, 0.0, 1, 1)], rules, SECOND, {**SECOND, "prefill_s": (0.25, 0.0, 0.0)}, device_outages=cut
    )
    assert tables.legs.arrived_s.tolist() == [5.0, 1.0]
    assert tables.legs.finished_s.tolist() == [6.0, 1.25]
    assert tables.legs.energy_j.tolist() == [1.0, 1.0]
    assert tables.requests.finished_s.tolist() == [1.25]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quorum_by_hand(engine):
    """One of two answers suffices: the user has it after 1 s; the other leg runs on and is not needed."""
    tables = asked(engine, [(0, 0.0, 1, 1)], Rules(quorum=1), SLOW, SECOND)
    assert tables.requests.finished_s.tolist() == [1.0]
    assert tables.requests.status.tolist() == ["served"]
    assert tables.legs.status.tolist() == ["failed", "served"]
    assert tables.legs.reason[0].startswith("not needed")
    assert tables.devices.busy_s.tolist() == [4.0, 1.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_admission_limit_by_hand(engine):
    """With one request at the gateway the next is rejected, and has no leg; after the answer one is admitted again."""
    rows = [(0, 0.0, 1, 1), (1, 0.5, 1, 1), (2, 1.5, 1, 1)]
    requests = asked(engine, rows, Rules(admission_limit=1), SECOND).requests
    assert requests.status.tolist() == ["served", "rejected", "served"]
    assert requests.n_legs.tolist() == [1, 0, 1]
    assert requests.energy_j.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_gate_decides_in_batches(engine):
    """0.5 s a prompt: the first alone until 0.5 s; the two that came meanwhile together, until 1.5 s."""
    rows = [(0, 0.0, 1, 1), (1, 0.25, 1, 1), (2, 0.375, 1, 1)]
    legs = asked(engine, rows, Rules(gate_s=0.5), SECOND).legs
    assert legs.arrived_s.tolist() == [0.5, 1.5, 1.5]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rules", [None, Rules()], ids=["open", "rules"])
def test_an_outage_holds_what_is_sent_until_it_is_over(engine, rules):
    """By hand: access 0.25 s, LAN 0.5 s; the access link is down from 1 to 2 s, the LAN from 4 to 6 s.

    A request of 0 s is at its server at 0.75 s and back at 2.5 s; one of 1 s leaves at 2 s, is there at 2.75 s and done
    at 3.75 s: back over the LAN it is at the gateway at 4.25 s. One of 3.75 s is held at the gateway until 6 s.
    """
    network = Network(
        access_delay_s=0.25,
        lan_delay_s=0.5,
        access_outages=(Outage(at_s=1.0, ends_s=2.0),),
        lan_outages=(Outage(at_s=4.0, ends_s=6.0),),
    )
    plant = [expert(profile(**SECOND), max_batch=1)]
    rows = [(0, 0.0, 1, 1), (1, 1.0, 1, 1), (2, 3.75, 1, 1)]
    run = played(engine, plant, rows, {}, rules=rules, network=network, duration_s=50.0)
    assert run.outcomes.arrived_s.tolist() == [0.75, 2.75, 6.5]
    assert run.finished_s.tolist() == [1.75 + 0.5 + 0.25, 3.75 + 0.5 + 0.25, 7.5 + 0.5 + 0.25]


@pytest.mark.parametrize("engine", ENGINES)
def test_one_slot_experts_behind_a_load_aware_gateway_are_one_queue(engine):
    """M/M/c: to join the shortest work is to be served first come, first served by c: the mean wait is Erlang's.

    Inside the 99.9 % interval of independent replications. Prompts are long and prefill alone costs, so that the
    seconds of service are exponential to within a thousandth.
    """
    c, service_s, load, n = 3, 1.0, 0.8, 1500 if engine == "simpy" else 3000
    waits_s = []
    for seed in range(10):
        chance = np.random.default_rng(seed)
        arrived_s = np.cumsum(chance.exponential(service_s / (c * load), n))
        prompts = np.ceil(chance.exponential(1000.0, n)).astype(int)
        plant = [expert(profile((0.0, service_s / 1000, 0.0)), name=f"e{i}") for i in range(c)]
        requests = requests_at(arrived_s, prompts, [1] * n)
        out = simulate(
            experts=plant,
            requests=requests,
            legs=legs_to_all(requests, c),
            network=Network(),
            duration_s=float(arrived_s[-1]) + 1,
            drain_cap_s=1e9,
            seed=seed,
            engine=engine,
            rules=Rules(k=1, load_aware=True),
        ).outcomes
        waits_s.append(float((out.started_s - out.arrived_s)[n // 10 :].mean()))
    a = c * load  # Erlang C; source: Kleinrock, Queueing Systems I, 3.5
    queued = a**c / factorial(c) / (1 - load)
    expected_s = queued / (sum(a**i / factorial(i) for i in range(c)) + queued) * service_s / (c * (1 - load))
    half = stats.t.ppf(0.9995, len(waits_s) - 1) * stats.sem(waits_s)
    assert abs(np.mean(waits_s) - expected_s) < half
    assert half < 0.5 * expected_s, "the interval is too wide to say anything"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"quorum": 3, "k": 2}, "quorum is 3.*k = 2"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0, must be above 0"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"retry": "nex"}, "did you mean 'next'"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, message):
    """One message that says what is wrong."""
    with pytest.raises(ValueError, match=message):
        Rules(**rules)
