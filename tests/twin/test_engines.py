"""Both engines, with both schedulers and both memories, against an independent simulation iteration by iteration."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twin_plant import expert, legs_to_all, profile, requests_at

from tests import oracle_chunked as oracle
from tests.strategies import MIXED, coefficients, loads
from twin.engines.kernel.server import advance
from twin.engines.machine import settings_of, slots_of, state_of
from twin.engines.queues import queue_of
from twin.network import Network
from twin.world import ENGINES, simulate

COLUMNS = ("arrived_s", "started_s", "first_token_s", "finished_s", "energy_j")
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def servers(draw):
    """Return the oracle's settings of a server; memory is often tight, the token budget often below the batch."""
    seconds, joules = draw(coefficients()), draw(coefficients())
    scheduler = draw(st.sampled_from(["prefill_first", "chunked"]))
    return {
        "prefill_s": seconds[0],
        "decode_s": seconds[1],
        "prefill_j": joules[0],
        "decode_j": joules[1],
        "max_batch": draw(st.integers(1, 6)),
        "kv_capacity_tokens": draw(st.integers(8, 60)),
        "scheduler": scheduler,
        "token_budget": draw(st.integers(1, 20)),
        "kv": draw(st.sampled_from(["reserve", "paged"])),
        "block_tokens": draw(st.integers(1, 6)),
        "knee_tokens": draw(st.integers(0, 12)),
        "tile_tokens": draw(st.integers(1, 9)) if scheduler == "prefill_first" else 1,
        "mixed_s": draw(MIXED),
        "mixed_j": draw(MIXED),
    }


def as_expert(server, *, residuals=((), ()), noise=False, name="a"):
    keys = ("prefill_s", "decode_s", "prefill_j", "decode_j", "knee_tokens", "tile_tokens", "mixed_s", "mixed_j")
    costs = {key: server[key] for key in keys if key in server}
    rest = {key: server[key] for key in server if key not in costs}
    return expert(profile(**costs, residuals=residuals), name=name, noise=noise, **rest)


def played(engine, experts, rows, *, duration_s=1e6, drain_cap_s=1e9, seed=0):
    ids, arrived_s, prompts, outputs = zip(*(row[:4] for row in rows), strict=True)
    requests = requests_at(arrived_s, prompts, outputs, ids=np.array(ids))
    return simulate(
        experts=experts,
        requests=requests,
        legs=legs_to_all(requests, len(experts)),
        network=Network(),
        duration_s=duration_s,
        drain_cap_s=drain_cap_s,
        seed=seed,
        engine=engine,
    )


def same(found, expected, what):
    assert np.isnan(found) == np.isnan(expected), f"{what}: {found}, expected {expected}"
    if not np.isnan(expected):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), what


@pytest.mark.parametrize("engine", ENGINES)
@settings(PATIENT, max_examples=150)  # of each engine
@given(server=servers(), rows=loads())
def test_every_leg_agrees_with_the_oracle(engine, server, rows):
    """Status, times and joules of each leg, and the server's busy seconds and last instant, agree to 1e-9."""
    run = played(engine, [as_expert(server)], rows)
    bench = oracle.Server(**server)
    expected = {s.request_id: s for s in oracle.simulate(bench, [oracle.Sequence(*row[:4]) for row in rows])}
    for i, request_id in enumerate(run.requests.request_id.tolist()):
        leg = expected[request_id]
        assert run.outcomes.status[i] == leg.status
        for column in COLUMNS:
            value = getattr(leg, column)
            same(getattr(run.outcomes, column)[i], np.nan if value is None else value, f"{column} of {request_id}")
    same(run.busy_s[0], bench.busy_s, "busy_s")
    same(run.busy_energy_j[0], sum(leg.energy_j for leg in expected.values()), "joules")
    assert run.horizon_s == max(1e6, bench.last_end_s)


def test_tiles_are_of_prefill_first():
    """A profile that costs prompts by whole tiles has no meaning for a server that mixes prompts: it is refused."""
    with pytest.raises(
        ValueError, match=r"scheduler is chunked, but profile 'by hand' costs prompts by whole tiles of 64"
    ):
        expert(profile(tile_tokens=64), scheduler="chunked")


RESIDUALS = ((0.25, -0.1, -0.15), (0.5, -0.125, -0.2))


@settings(PATIENT, max_examples=200)  # 500 with all that befalls devices: test_dynamic_world.py
@given(server=servers(), rows=loads(), noise=st.booleans(), seed=st.integers(0, 99), share=st.floats(0.01, 1.5))
def test_the_engines_agree(server, rows, noise, seed, share):
    """Status, reason, four times and joules of each leg agree to 1e-9, with noise and without, cut off anywhere."""
    last_s = max(row[1] for row in rows)
    duration_s = last_s + 1e-3
    experts = [as_expert(server, residuals=RESIDUALS, noise=noise)]
    ends = {"duration_s": duration_s, "drain_cap_s": share * duration_s}
    fast, slow = (played(engine, experts, rows, seed=seed, **ends) for engine in ("compiled", "simpy"))
    assert fast.outcomes.status.tolist() == slow.outcomes.status.tolist()
    assert fast.outcomes.reason.tolist() == slow.outcomes.reason.tolist()
    for column in COLUMNS:
        found, expected = getattr(fast.outcomes, column), getattr(slow.outcomes, column)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=column)
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)
    for column in ("busy_s", "busy_energy_j", "horizon_s"):
        assert getattr(fast, column) == pytest.approx(getattr(slow, column), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
@pytest.mark.parametrize("kv", ["reserve", "paged"])
def test_the_engines_agree_on_a_long_crowded_load(scheduler, kv):
    """Thousands of legs on a server with realistic costs, tight memory and noise: the same to 1e-9."""
    chance = np.random.default_rng(5)
    rows = [(i, at, int(p), int(o)) for i, (at, p, o) in enumerate(zip(
        np.round(np.sort(chance.uniform(0, 600, 1500)), 3), chance.integers(1, 800, 1500),
        chance.geometric(1 / 120, 1500), strict=True))]  # fmt: skip
    costs = profile(
        (0.011, 1.3e-4, 2e-8), (0.017, 3e-4, 1.1e-7), prefill_j=(1.0, 0.02, 1e-6), decode_j=(4.0, 0.1, 1e-5),
        residuals=RESIDUALS, knee_tokens=64,
    )  # fmt: skip
    server = expert(
        costs, max_batch=24, kv_capacity_tokens=9000, noise=True, scheduler=scheduler, token_budget=256, kv=kv
    )
    fast, slow = (played(engine, [server], rows) for engine in ("compiled", "simpy"))
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(fast.outcomes, column), getattr(slow.outcomes, column), rtol=1e-9)
    assert fast.busy_energy_j == pytest.approx(slow.busy_energy_j, rel=1e-9)
    assert fast.busy_energy_j == pytest.approx(fast.outcomes.energy_j.sum(), rel=1e-9)


@settings(PATIENT, max_examples=100)
@given(server=servers(), rows=loads(), pauses=st.lists(st.floats(0, 60), max_size=8))
def test_pausing_the_compiled_server_changes_nothing(server, rows, pauses):
    """World events that touch nothing leave every bit as it was, wherever they fall."""
    whole, paused = advanced(server, rows, []), advanced(server, rows, sorted(pauses))
    assert whole[:3].tobytes() == paused[:3].tobytes()
    np.testing.assert_allclose(whole[3], paused[3], rtol=1e-9)


def advanced(server, rows, pauses):
    settings = settings_of(as_expert(server), 1e9)
    fitting = sorted(row[1:4] for row in rows if as_expert(server).why_never(*row[2:4]) is None)
    arrived_s, prompt_tokens, output_tokens = (
        np.array([row[i] for row in fitting], dtype=kind) for i, kind in enumerate((np.float64, np.int64, np.int64))
    )
    ones = np.ones(len(fitting))
    queue = queue_of(np.arange(len(fitting)), arrived_s, prompt_tokens, output_tokens, ones, ones)
    state, slots = state_of(settings), slots_of(settings, len(queue))
    for until_s in [*pauses, np.inf]:
        assert advance(settings, state, slots, queue, until_s, np.inf) >= until_s
    return np.stack([queue["started_s"], queue["first_token_s"], queue["finished_s"], queue["energy_j"]])


def test_memory_runs_short_often_enough_to_be_tested():
    """The random servers preempt: the laws above would hold of a twin without preemption otherwise."""
    n = 0
    for seed in range(20):
        chance = np.random.default_rng(seed)
        rows = [(i, float(i % 7), int(chance.integers(1, 12)), int(chance.integers(1, 12))) for i in range(25)]
        server = {
            "prefill_s": (0.5, 0.1, 0.01), "decode_s": (0.25, 0.1, 0.01), "prefill_j": (1.0, 0.0, 0.0),
            "decode_j": (1.0, 0.0, 0.0), "max_batch": 6, "kv_capacity_tokens": 30, "scheduler": "chunked",
            "token_budget": 8, "kv": "paged", "block_tokens": 1 + seed % 4, "knee_tokens": 3,
        }  # fmt: skip
        bench = oracle.Server(**server)
        oracle.simulate(bench, [oracle.Sequence(*row) for row in rows])
        n += bench.preemptions
    assert n > 20
