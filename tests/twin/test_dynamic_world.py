"""Devices that crash, slow down, switch their power mode, load models and are shared: both engines, one meaning."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from dynamic_worlds import COLUMNS, played, worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twin_plant import expert, profile

from twin.records.tables import tabulate
from twin.servers.faults import Crash, PowerSwitch, SlowDown, drawn_crashes
from twin.world import ENGINES

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(PATIENT, max_examples=500)
@given(world=worlds(), seed=st.integers(0, 99), share=st.one_of(st.just(100.0), st.floats(0.01, 1.5)))
def test_the_engines_agree_whatever_befalls_the_devices(world, seed, share):
    """Status, reason, four times and joules of each leg, and each device's account, agree to 1e-9, cut off anywhere."""
    plant, rows, befall, network = world
    duration_s = max(row[1] for row in rows) + 1e-3
    ends = {"duration_s": duration_s, "drain_cap_s": share * duration_s, "network": network}
    fast, slow = (played(engine, plant, rows, befall, seed=seed, **ends) for engine in ("compiled", "simpy"))
    assert fast.outcomes.status.tolist() == slow.outcomes.status.tolist()
    assert fast.outcomes.reason.tolist() == slow.outcomes.reason.tolist()
    for column in COLUMNS:
        found, expected = getattr(fast.outcomes, column), getattr(slow.outcomes, column)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=column)
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)
    for column in ("busy_s", "busy_energy_j", "idle_energy_j", "overhead_energy_j", "horizon_s"):
        assert getattr(fast, column) == pytest.approx(getattr(slow, column), rel=1e-9, abs=1e-9), column


@settings(PATIENT, max_examples=100)
@given(world=worlds(), engine=st.sampled_from(ENGINES))
def test_every_joule_is_a_legs_or_idle_or_overhead(world, engine):
    """Legs + idle + overhead = device, to 1e-9; a leg that failed or was rejected has none of it.

    Nothing disappears: with time to drain every request ends served, rejected or failed, whatever link was down.
    """
    plant, rows, befall, network = world
    run = played(engine, plant, rows, befall, network=network)
    assert set(tabulate(run).requests.status) <= {"served", "rejected", "failed"}
    legs_j = dict.fromkeys(run.devices, 0.0)
    for i, joules in zip(run.legs.expert, run.outcomes.energy_j, strict=True):
        legs_j[plant[i].device] += joules
    devices = tabulate(run).devices.set_index("device")
    for name, joules in legs_j.items():
        row = devices.loc[name]
        assert joules + row.idle_energy_j + row.overhead_energy_j == pytest.approx(row.energy_j, rel=1e-9, abs=1e-9)
        assert row.busy_s + row.idle_s == pytest.approx(run.horizon_s, rel=1e-12)
    assert not run.outcomes.energy_j[np.isin(run.outcomes.status, ["failed", "rejected"])].any()


@settings(PATIENT, max_examples=100)
@given(world=worlds(), engine=st.sampled_from(ENGINES), watts=st.integers(1, 500))
def test_constant_power_is_power_times_time(world, engine, watts):
    """A device that draws W watts whatever it does takes W x horizon, and what loads and switches cost beyond that."""
    plant, rows, befall, _ = world
    run = played(engine, [at_power(e, watts) for e in plant], rows, befall)
    for i in range(len(run.devices)):
        beyond_j = run.busy_energy_j[i] + run.idle_energy_j[i] + run.overhead_energy_j[i] - watts * run.horizon_s
        assert beyond_j > -1e-9 * watts * run.horizon_s
        assert beyond_j == pytest.approx(round(beyond_j), abs=1e-9 * watts * run.horizon_s), "7 J a load, 3 J a switch"


def at_power(expert, watts):
    def flat(profile):
        seconds = profile.seconds
        return replace(
            profile,
            prefill_j=tuple(watts * x for x in seconds.prefill),
            decode_j=tuple(watts * x for x in seconds.decode),
            mixed_j=watts * seconds.mixed_per_context_token,
            idle_w=watts,
        )

    modes = {name: flat(profile) for name, profile in expert.power_modes.items()}
    return replace(expert, profile=flat(expert.profile), power_modes=modes)


@settings(PATIENT, max_examples=50)
@given(world=worlds())
def test_what_never_happens_changes_nothing(world):
    """Faults after the last leg, and power modes and loads that nothing asks for, leave every bit of the legs."""
    plant, rows, *_ = world
    plain = played("compiled", [replace(e, loads_at_start=False, power_modes={}) for e in plant], rows, {})
    late = {e.device: [Crash(at_s=9e3), SlowDown(at_s=9e3, factor=2.0)] for e in plant}
    other = played("compiled", [replace(e, loads_at_start=False) for e in plant], rows, late)
    for column in COLUMNS:
        assert getattr(plain.outcomes, column).tobytes() == getattr(other.outcomes, column).tobytes()


SECOND = {"prefill_s": (1.0, 0.0, 0.0), "decode_s": (1.0, 0.0, 0.0)}
JOULES = {"prefill_j": (100.0, 0.0, 0.0), "decode_j": (10.0, 0.0, 0.0)}  # 1 s an iteration, idle 2 W


@pytest.mark.parametrize("engine", ENGINES)
def test_a_crash_by_hand(engine):
    """The leg's prompt (100 J), one iteration (10 J) and half of one (5 J) are lost; then refused; then loaded."""
    server = expert(profile(**SECOND, **JOULES), device="x", load_s=2.0, load_j=7.0)
    rows = [(0, 0.0, 5, 5), (1, 2.0, 5, 1), (2, 2.5, 5, 1), (3, 3.0, 5, 1), (4, 4.0, 5, 2)]
    run = played(engine, [server], rows, {"x": [Crash(at_s=2.5, repaired_s=4.0)]}, duration_s=10.0)
    out = run.outcomes
    assert out.status.tolist() == ["failed"] * 4 + ["served"]
    assert [reason and reason.split(" ")[1] for reason in out.reason] == ["crashed"] * 2 + ["refused"] * 2 + [None]
    assert (out.started_s[0], out.first_token_s[0]) == (0.0, 1.0), "what it reached it keeps"
    assert (out.started_s[4], out.finished_s[4]) == (6.0, 8.0)
    assert out.energy_j.tolist() == [0.0, 0.0, 0.0, 0.0, 110.0]
    devices = tabulate(run).devices.iloc[0]
    assert (devices.busy_s, devices.idle_s) == (4.5, 5.5)
    assert (devices.busy_energy_j, devices.idle_energy_j, devices.overhead_energy_j) == (110.0, 11.0, 115.0 + 7.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_slow_down_by_hand(engine):
    """From the boundary after 2.5 s an iteration lasts 2 s and takes twice the joules, until that after 4.5 s."""
    server = expert(profile(**SECOND, **JOULES), device="x")
    run = played(engine, [server], [(0, 0.0, 5, 6)], {"x": [SlowDown(at_s=2.5, ends_s=4.5, factor=2.0)]})
    assert run.outcomes.finished_s.tolist() == [1 + 2 + 2 + 2 * 1.0]  # 2 at 2, 3 at 3, 4 at 5, then 6, 7
    assert run.outcomes.energy_j.tolist() == [100 + 10 + 10 + 20 + 10 + 10.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_power_switch_by_hand(engine):
    """At the boundary after 2.5 s the leg stalls for 1.5 s; then an iteration lasts 0.5 s, and idle watts are 4."""
    fast = profile((0.5, 0, 0), (0.5, 0, 0), prefill_j=(70.0, 0, 0), decode_j=(7.0, 0, 0), idle_w=4.0)
    server = expert(profile(**SECOND, **JOULES), device="x", power_modes={"fast": fast})
    switch = PowerSwitch(at_s=2.5, mode="fast", lasts_s=1.5, energy_j=9.0)
    run = played(engine, [server], [(0, 0.0, 5, 5)], {"x": [switch]}, duration_s=10.0)
    assert run.outcomes.finished_s.tolist() == [3.0 + 1.5 + 2 * 0.5]
    assert run.outcomes.energy_j.tolist() == [100 + 10 + 10 + 7 + 7.0]
    assert run.overhead_energy_j.tolist() == [9.0]
    assert run.idle_energy_j.tolist() == [2 * 1.5 + 4 * (10.0 - 5.5)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_shared_device_by_hand(engine):
    """Two experts take turns by the iteration while both have work, and the device idles once, at the larger watts."""
    slow = profile((2.0, 0, 0), (2.0, 0, 0), prefill_j=(20.0, 0, 0), decode_j=(20.0, 0, 0), idle_w=3.0)
    plant = [expert(profile(**SECOND, **JOULES), device="x"), expert(slow, name="b", device="x")]
    run = played(engine, plant, [(0, 0.0, 5, 3)], {}, duration_s=12.0)
    # a's prompt 0-1, b's 1-3, a 3-4, b 4-6, a 6-7, b 7-9
    assert run.outcomes.first_token_s.tolist() == [1.0, 3.0]
    assert run.outcomes.finished_s.tolist() == [7.0, 9.0]
    devices = tabulate(run).devices
    assert len(devices) == 1
    assert devices.iloc[0].drop("device").tolist() == [0, 9.0, 3.0, 180.0, 9.0, 0.0, 189.0, 0.75]


def test_crashes_are_drawn_from_a_stream_of_their_own():
    """The same device and seed crash at the same instants, another device at others; a longer run keeps them."""
    drawn = partial(drawn_crashes, mtbf_s=100.0, mean_repair_s=10.0, seed=4)
    short, long = (drawn(device="x", stop_s=stop_s) for stop_s in (1e4, 1e5))
    assert long[: len(short)] == short
    assert drawn(device="y", stop_s=1e4)[0] != short[0]
    up_s = np.diff([0.0, *(c.at_s for c in long)])[1:] - [c.repaired_s - c.at_s for c in long[:-1]]
    assert up_s.mean() == pytest.approx(100.0, rel=5 / np.sqrt(len(up_s)))
    assert np.mean([c.repaired_s - c.at_s for c in long]) == pytest.approx(10.0, rel=5 / np.sqrt(len(long)))


@pytest.mark.parametrize(
    ("befall", "message"),
    [
        ({"y": []}, "no device 'y'.*devices: x"),
        ({"x": [PowerSwitch(at_s=1.0, mode="hig")]}, "'hig'.*power_modes: high.*did you mean 'high'"),
    ],
)
def test_faults_that_no_device_can_have_are_refused(befall, message):
    """One message that says what is wrong and what there is."""
    plant = [expert(profile(), device="x", power_modes={"high": profile()})]
    with pytest.raises(ValueError, match=message):
        played("compiled", plant, [(0, 0.0, 1, 1)], befall)
