"""The server does what DESIGN's "exact semantics" say: order, admission, clock, memory, energy, drain."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_plant import expert, legs_to_all, profile, requests_at, run_all

from twin.network import Network
from twin.records.tables import tabulate
from twin.world import simulate

LOADS = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: n / 8), st.integers(1, 60), st.integers(1, 12)),
    min_size=1,
    max_size=25,
)
UNEVEN = {"prefill_s": (0.01, 0.001, 1e-6), "decode_s": (0.02, 0.003, 1e-4)}
UNEVEN_J = {"prefill_j": (0.3, 0.1, 1e-3), "decode_j": (0.7, 0.2, 1e-3)}


def test_a_lone_leg_takes_its_prefill_and_then_one_iteration_per_further_token():
    """A lone leg's times and energy are the closed form of its costs."""
    costs = profile(**UNEVEN, **UNEVEN_J)
    out = run_all(requests_at([3.0], [100], [50]), expert(costs)).outcomes
    assert out.started_s[0] == 3.0
    assert out.first_token_s[0] - 3.0 == pytest.approx(0.01 + 0.1 + 0.01, rel=1e-12)
    assert out.finished_s[0] - 3.0 == pytest.approx(costs.seconds.leg_of(100, 50).item(), rel=1e-12)
    assert out.energy_j[0] == pytest.approx(costs.joules.leg_of(100, 50).item(), rel=1e-12)


def test_a_prefill_stalls_the_running_sequences_and_then_they_share_iterations():
    """Worked by hand: A starts at 0, B arrives at 2.5 and is prefilled at the boundary 3, and A stalls for 1 s.

    Prefill 1 s, iteration B seconds long. A has 4 tokens: first at 1, second at 2, third at 3. B is prefilled from
    3 to 4. The next iteration has two sequences and ends at 6: A has its fourth token; B, with 3 tokens, runs
    one more alone, to 7. Iteration joules are 10·B, prefills 100.
    """
    costs = profile((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), prefill_j=(100.0, 0.0, 0.0), decode_j=(0.0, 10.0, 0.0))
    run = run_all(requests_at([0.0, 2.5], [5, 5], [4, 3]), expert(costs, max_batch=2), duration_s=10.0)
    out = run.outcomes
    assert out.started_s.tolist() == [0.0, 3.0]
    assert out.first_token_s.tolist() == [1.0, 4.0]
    assert out.finished_s.tolist() == [6.0, 7.0]
    assert out.energy_j.tolist() == [100.0 + 10 + 10 + 10, 100.0 + 10 + 10]
    devices = tabulate(run).devices.iloc[0]
    assert (devices.busy_s, devices.idle_s, devices.idle_energy_j) == (7.0, 3.0, 6.0)
    assert devices.energy_j == 250.0 + 6.0


@pytest.mark.parametrize("step_s", [0.125, 0.1, 0.007])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 29])
def test_a_leg_that_arrives_exactly_on_a_boundary_is_admitted_at_it(step_s, k):
    """A leg placed on the k-th boundary of a decode run starts there; the next float after it, one later."""
    costs = profile((step_s, 0.0, 0.0), (step_s, 0.0, step_s / 64))
    D, g = step_s + step_s / 64 * 9, step_s / 64
    boundary_s = step_s + (k * D + g * 1 * k * (k - 1) / 2)
    next_s = step_s + ((k + 1) * D + g * 1 * (k + 1) * k / 2)
    for arrived_s, started_s in ((boundary_s, boundary_s), (np.nextafter(boundary_s, np.inf), next_s)):
        requests = requests_at([0.0, arrived_s], [8, 8], [40, 1])
        out = run_all(requests, expert(costs, max_batch=2)).outcomes
        assert out.arrived_s[1] == arrived_s
        assert out.started_s[1] == started_s


@pytest.mark.parametrize("step_s", [0.125, 0.1])
def test_a_leg_that_cannot_be_admitted_leaves_the_clock_alone(step_s):
    """Arrivals that have to wait change no bit of the times of the legs that run."""
    costs = profile((step_s, 0.0, 0.0), (step_s, 0.0, step_s / 64))
    alone = run_all(requests_at([0.0], [8], [50]), expert(costs)).outcomes
    arrived_s = [0.0, *(np.arange(1, 20) * 0.3)]
    crowded = run_all(requests_at(arrived_s, [8] * 20, [50] * 20), expert(costs)).outcomes
    assert crowded.finished_s[0] == alone.finished_s[0]
    assert crowded.started_s[1] == alone.finished_s[0]


def test_legs_that_arrive_together_start_in_the_order_of_their_ids():
    """Integer ids compare as integers, others as text; an earlier arrival goes before both."""
    n = 12
    for ids in (list(range(n)), [f"r{i}" for i in range(n)]):
        shuffled = np.random.default_rng(3).permutation(np.array(ids, dtype=object if ids[0] == "r0" else np.int64))
        late = [float(request == ids[4]) for request in shuffled]
        run = run_all(requests_at(late, [1] * n, [2] * n, ids=shuffled), expert(profile()))
        started = run.requests.request_id[np.argsort(run.outcomes.started_s)].tolist()
        assert started == [i for i in sorted(ids) if i != ids[4]][:4] + started[4:]
        assert [i for i in started if i != ids[4]] == [i for i in sorted(ids) if i != ids[4]]


def test_an_idle_server_sees_all_legs_of_an_instant_before_it_chooses():
    """Two legs wake a sleeping server together; the lower id starts, though it was sent last.

    They are sent one float apart, which the way to the server rounds away.
    """
    requests = requests_at([1.0, np.nextafter(1.0, 2.0)], [1, 1], [1, 1], ids=[9, 2])
    assert requests.request_id.tolist() == [9, 2]
    out = run_all(requests, expert(profile()), network=Network(access_delay_s=99.0)).outcomes
    assert out.arrived_s.tolist() == [100.0, 100.0]
    assert out.started_s.tolist() == [100.125, 100.0]


def test_the_head_of_the_queue_blocks_those_behind_it():
    """A large leg at the head waits for memory, and a small one behind it that would fit waits with it."""
    requests = requests_at([0.0, 0.1, 0.2], [50, 60, 5], [10, 10, 5])
    out = run_all(requests, expert(profile(), max_batch=4, kv_capacity_tokens=100)).outcomes
    assert out.started_s[1] == out.finished_s[0]
    assert out.started_s[2] > out.started_s[1]


def test_a_leg_that_can_never_fit_is_rejected_on_arrival():
    """It has a reason, its times are null and its energy 0; one that just fits is served; both are counted."""
    run = run_all(requests_at([0.0, 1.0], [90, 90], [11, 10]), expert(profile(), kv_capacity_tokens=100))
    tables = tabulate(run)
    rejected, served = tables.legs.iloc[0], tables.legs.iloc[1]
    assert (rejected.status, rejected.arrived_s, rejected.energy_j) == ("rejected", 0.0, 0.0)
    assert rejected[["started_s", "first_token_s", "finished_s"]].isna().all()
    assert "101" in rejected.reason
    assert "100" in rejected.reason
    assert served.status == "served"
    assert pd.isna(served.reason)
    assert tables.requests.status.tolist() == ["rejected", "served"]
    assert np.isnan(tables.requests.finished_s[0])


@pytest.mark.parametrize(
    ("cap_s", "finished_s", "energy_j"),
    # 0.125 s an iteration, boundaries at multiples: arrivals end at 1.0, the leg would finish at 2.5 with 20 J
    [(1.5, 2.5, 20.0), (1.4, 2.5, 20.0), (1.375, np.nan, 19.0), (0.5, np.nan, 12.0), (0.49, np.nan, 12.0)],
)
def test_no_iteration_starts_at_or_after_the_drain_cap(cap_s, finished_s, energy_j):
    """The iteration in progress completes; a leg unfinished then keeps its energy and the times it reached."""
    requests = requests_at([0.0, 0.5], [1, 1], [20, 1])
    run = run_all(requests, expert(profile()), duration_s=1.0, drain_cap_s=cap_s)
    out = run.outcomes
    np.testing.assert_equal(out.finished_s[0], finished_s)
    assert out.energy_j[0] == energy_j
    assert out.first_token_s[0] == 0.125
    assert out.status[1] == "unfinished"
    assert out.energy_j[1] == 0.0
    assert run.horizon_s == energy_j * 0.125
    assert run.busy_energy_j[0] == out.energy_j.sum()


@settings(max_examples=60, deadline=None)
@given(load=LOADS, max_batch=st.integers(1, 5), capacity=st.integers(20, 200), noise=st.booleans())
def test_nothing_is_lost_and_legs_idle_and_overhead_make_up_the_devices_joules(load, max_batch, capacity, noise):
    """Each leg ends in one status; busy joules are the legs', busy and idle seconds the horizon; the queue is fair."""
    costs = profile(**UNEVEN, **UNEVEN_J, idle_w=5.0, residuals=((0.2, -0.2), (0.1, -0.3, 0.2)))
    server = expert(costs, max_batch=max_batch, kv_capacity_tokens=capacity, noise=noise)
    requests = requests_at(*zip(*load, strict=True))
    run = run_all(requests, server, duration_s=6.0, drain_cap_s=2.0, seed=5)
    tables, out = tabulate(run), run.outcomes
    assert len(tables.legs) == len(tables.requests) == len(load)
    assert set(tables.legs.status) <= {"served", "rejected", "unfinished"}
    device = tables.devices.iloc[0]
    assert out.energy_j.sum() == pytest.approx(device.busy_energy_j, rel=1e-12)
    assert device.energy_j == pytest.approx(out.energy_j.sum() + device.idle_energy_j, rel=1e-12)
    assert device.busy_s + device.idle_s == pytest.approx(run.horizon_s, rel=1e-12)
    assert device.idle_energy_j == pytest.approx(5.0 * device.idle_s, rel=1e-12)
    assert np.all(np.diff(out.started_s[out.started_s >= 0]) > 0), "first come, first served"
    assert ((out.status == "served") == ~np.isnan(out.finished_s)).all()


@settings(max_examples=40, deadline=None)
@given(load=LOADS, max_batch=st.integers(1, 5), capacity=st.integers(80, 200))
def test_without_a_cost_per_iteration_batching_saves_nothing(load, max_batch, capacity):
    """Where iterations cost only by sequence and by context token, all legs together cost what each would alone."""
    terms = (0.0, 0.003, 1e-4)
    costs = profile((0.01, 0.001, 1e-6), terms, prefill_j=(0.3, 0.1, 1e-3), decode_j=(0.0, 0.2, 1e-3))
    server = expert(costs, max_batch=max_batch, kv_capacity_tokens=capacity)
    run = run_all(requests_at(*zip(*load, strict=True)), server)
    tokens = (run.legs.prompt_tokens, run.legs.output_tokens)
    assert run.busy_s[0] == pytest.approx(costs.seconds.leg_of(*tokens).sum(), rel=1e-12)
    assert run.busy_energy_j[0] == pytest.approx(costs.joules.leg_of(*tokens).sum(), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(load=LOADS, max_batch=st.integers(1, 5), capacity=st.integers(80, 200))
def test_a_server_never_runs_more_sequences_or_holds_more_memory_than_it_has(load, max_batch, capacity):
    """At every admission, the legs between their start and their finish fit in the slots and in the memory."""
    server = expert(profile(**UNEVEN), max_batch=max_batch, kv_capacity_tokens=capacity)
    run = run_all(requests_at(*zip(*load, strict=True)), server)
    start_s, end_s, tokens = (
        run.outcomes.started_s,
        run.outcomes.finished_s,
        run.legs.prompt_tokens + run.legs.output_tokens,
    )
    for now_s in start_s:
        inside = (start_s <= now_s) & (now_s < end_s)
        assert inside.sum() <= max_batch
        assert tokens[inside].sum() <= capacity


def test_noise_depends_on_seed_request_and_expert_and_not_on_order():
    """Taking half of the requests away, or listing the experts the other way round, changes no other's noise."""
    costs = profile(residuals=((0.5, -0.5, 0.25, -0.25), (0.5, -0.5, 0.25, -0.25)))
    experts = [expert(costs, name=name, noise=True) for name in ("a", "b")]
    ids = np.arange(40)
    spread_s = ids * 100.0
    whole = run_all(requests_at(spread_s, [1] * 40, [5] * 40, ids=ids), *experts).outcomes
    half = run_all(requests_at(spread_s[::2], [1] * 20, [5] * 20, ids=ids[::2]), *experts[::-1]).outcomes
    other = run_all(requests_at(spread_s, [1] * 40, [5] * 40, ids=ids), *experts, seed=1).outcomes
    whole_s, half_s, other_s = (x.finished_s - x.arrived_s for x in (whole, half, other))
    np.testing.assert_array_equal(whole_s.reshape(40, 2)[::2], half_s.reshape(20, 2)[:, ::-1])
    assert len(np.unique(np.round(whole_s, 9))) > 8
    assert not np.array_equal(whole_s[::2], whole_s[1::2]), "each expert has its own noise"
    assert not np.array_equal(whole_s, other_s)
    np.testing.assert_allclose(whole.energy_j, whole_s * 8, rtol=1e-12, err_msg="joules scale with time")


def test_noise_multiplies_an_iteration_by_the_mean_factor_of_those_who_run():
    """Two sequences that decode together for their whole lives see the mean of their own factors."""
    costs = profile((0.0, 0.0, 0.0), (0.125, 0.0, 0.01), residuals=((), (0.5, -0.5)))
    requests = requests_at([0.0] * 2, [10] * 2, [9] * 2)
    alone = [
        run_all(requests_at([0.0], [10], [9], ids=[i]), expert(costs, noise=True)).outcomes.finished_s[0]
        for i in range(2)
    ]
    quiet = run_all(requests, expert(costs, max_batch=2)).outcomes.finished_s
    one = run_all(requests_at([0.0], [10], [9]), expert(costs)).outcomes.finished_s[0]
    noisy = run_all(requests, expert(costs, max_batch=2, noise=True)).outcomes.finished_s
    mean = sum(alone) / one / 2
    assert min(abs(mean - m) for m in (0.5, 1.0, 1.5)) < 1e-12
    np.testing.assert_allclose(noisy, quiet * mean, rtol=1e-12)


def test_unknown_energy_is_null_and_never_zero():
    """An expert without energy costs has null joules for the work it did, and 0 for work it never did."""
    costs = profile(prefill_j=None, idle_w=None)
    run = run_all(requests_at([0.0, 1.0], [5, 200], [5, 5]), expert(costs, kv_capacity_tokens=100))
    assert np.isnan(run.outcomes.energy_j[0])
    assert run.outcomes.energy_j[1] == 0.0
    devices = tabulate(run).devices
    assert devices[["busy_energy_j", "idle_energy_j", "energy_j"]].isna().all(axis=None)
    assert devices.busy_s[0] > 0


def test_all_devices_share_one_horizon():
    """A device that never works idles for as long as the longest of the others runs."""
    busy, lazy = expert(profile()), expert(profile(idle_w=3.0), name="b", kv_capacity_tokens=1)
    run = run_all(requests_at([0.0], [1], [80]), busy, lazy, duration_s=2.0)
    devices = tabulate(run).devices
    assert run.horizon_s == 10.0
    assert devices.idle_s.tolist() == [0.0, 10.0]
    assert devices.idle_energy_j[1] == 30.0


def test_two_experts_on_one_device_are_refused():
    """Sharing a device is not modelled."""
    same = [expert(profile()), expert(profile())]
    with pytest.raises(ValueError, match="'a' is used 2 times"):
        run_all(requests_at([0.0], [1], [1]), *same)


def test_a_batch_needs_a_profile_that_knows_about_batches():
    """Where batch terms were not measured, only one sequence at a time can be simulated."""
    alone = profile(decode_s=(0.125, None, 0.0), decode_j=(1.0, None, 0.0))
    with pytest.raises(ValueError, match="max_batch = 1"):
        expert(alone, max_batch=2)
    assert run_all(requests_at([0.0], [1], [3]), expert(alone)).outcomes.finished_s[0] == 0.375


def test_every_request_needs_a_leg():
    """A request that goes nowhere is a mistake of the caller, not a served one."""
    requests = requests_at([0.0, 1.0], [1, 1], [1, 1])
    one = requests_at([0.0], [1], [1])
    with pytest.raises(ValueError, match="1 of 2 requests have no leg"):
        simulate(
            experts=[expert(profile())],
            requests=requests,
            legs=legs_to_all(one),
            network=Network(),
            duration_s=9.0,
            drain_cap_s=1.0,
            seed=0,
        )
