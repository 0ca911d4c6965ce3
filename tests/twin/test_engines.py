"""Both engines, with both schedulers and both memories, against an independent simulation iteration by iteration."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twin_plant import expert, legs_to_all, profile, requests_at

from tests import oracle_chunked as oracle
from tests.strategies import coefficients, loads
from twin.network import Network
from twin.world import simulate

ENGINES = ("simpy",)
COLUMNS = ("arrived_s", "started_s", "first_token_s", "finished_s", "energy_j")
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def servers(draw):
    """Return the oracle's settings of a server; memory is often tight, the token budget often below the batch."""
    seconds, joules = draw(coefficients()), draw(coefficients())
    return {
        "prefill_s": seconds[0],
        "decode_s": seconds[1],
        "prefill_j": joules[0],
        "decode_j": joules[1],
        "max_batch": draw(st.integers(1, 6)),
        "kv_capacity_tokens": draw(st.integers(8, 60)),
        "scheduler": draw(st.sampled_from(["prefill_first", "chunked"])),
        "token_budget": draw(st.integers(1, 20)),
        "kv": draw(st.sampled_from(["reserve", "paged"])),
        "block_tokens": draw(st.integers(1, 6)),
        "knee_tokens": draw(st.integers(0, 12)),
    }


def as_expert(server, *, residuals=((), ()), noise=False, name="a"):
    costs = {key: server[key] for key in ("prefill_s", "decode_s", "prefill_j", "decode_j", "knee_tokens")}
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
@settings(PATIENT, max_examples=300)
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
