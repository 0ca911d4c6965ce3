"""The costs of a server that fills its iterations: the law is found, whether the server tells its own time or not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.chunked import as_chunked
from calibration.fit import decode_terms
from calibration.recordings import Source
from calibration.session_profile import session_profile
from calibration.sessions import BATCHES, Sessions, lone_requests, no_batches, no_joules

AROUND_S, D, B, C, E, F = 0.002, 0.004, 6e-4, 2e-7, 1e-3, 5e-6
BUDGET = 256


def sessions_of_the_law(*, told, batched=True, n_sessions=2):
    """Return sessions that follow the law exactly; a server that tells its prompt time leaves o out of it."""
    P = np.tile([32, 74, 172, 400, 700], n_sessions)
    out = np.full_like(P, 32)
    served_s = D * np.ceil(P / BUDGET) + B * P + C * P**2
    n, context = decode_terms(P, out).T
    requests = lone_requests(
        session=np.repeat([str(i) for i in range(n_sessions)], 5),
        prompt_tokens=P,
        output_tokens=out,
        ttft_s=AROUND_S + served_s,
        tpot_s=((D + E) * n + F * context) / (out - 1),
    )
    requests["server_prefill_s"] = served_s if told else np.nan
    iterations, sequences, contexts = (
        np.tile(column, n_sessions // 2) for column in ([30.0, 30.0, 30.0], [2, 4, 4], [200.0, 400.0, 1600.0])
    )
    seconds = iterations * (D + E * sequences + F * contexts)
    batches = pd.DataFrame(dict(zip(BATCHES, (iterations, sequences, contexts, seconds), strict=True)))
    return Sessions(
        source=Source(file="law", sha256="0"),
        manifest={"device": "bench", "model": "m", "host": {}, "meter": {"scope": None}, "runtime": {}},
        requests=requests,
        batches=batches if batched else no_batches(),
        prefill_j=no_joules(),
        decode_j=no_joules(),
        idle_w=None,
        refused=(),
    )


@pytest.mark.parametrize("told", [True, False])
def test_what_follows_the_law_gives_its_coefficients(told):
    """Prefill (o + d, b, c) and decode (d, e, f); a prompt of several iterations pays d in each."""
    sessions = sessions_of_the_law(told=told)
    profile = session_profile(sessions, name="bench/m/q", quantization="q", token_budget=BUDGET)
    costs = profile.seconds
    assert costs.prefill == pytest.approx((AROUND_S + D, B, C), rel=1e-4)
    assert (costs.base, costs.per_sequence, costs.per_context_token) == pytest.approx((D, E, F), rel=1e-4)
    assert profile.evidence["chunked"]["request_s"] == pytest.approx(AROUND_S, rel=1e-3)
    assert profile.evidence["prefill_s"]["left_out"]["median_abs_error"] < 1e-3


def test_a_batch_is_needed_and_a_budget():
    """One sequence at a time does not tell an iteration from a sequence in it; an iteration takes tokens."""
    sessions = sessions_of_the_law(told=True, batched=False)
    with pytest.raises(ValueError, match="--concurrency"):
        session_profile(sessions, name="bench/m/q", quantization="q", token_budget=BUDGET)
    with pytest.raises(ValueError, match="at least 1 token"):
        session_profile(sessions_of_the_law(told=True), name="bench/m/q", quantization="q", token_budget=0)


@pytest.fixture(scope="module")
def lawful():
    return session_profile(sessions_of_the_law(told=True), name="bench/m/q", quantization="q")


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), slow=st.floats(0.0, 0.3), more=st.floats(0.02, 0.25))
def test_costs_come_to_what_was_measured(lawful, seed, slow, more):
    """On a machine that is slow now and then, prompts and decoding take together what they took when measured."""
    sessions, chance = sessions_of_the_law(told=True, n_sessions=6), np.random.default_rng(seed)
    requests, batches = sessions.requests, sessions.batches
    for frame, column in ((requests, "server_prefill_s"), (requests, "decode_s"), (batches, "seconds")):
        factors = (1 + more * (chance.random(len(frame)) < slow)) * chance.lognormal(0.0, 0.06, len(frame))
        frame[column] *= factors
    requests["ttft_s"] = AROUND_S * chance.lognormal(0.0, 0.2, len(requests)) + requests["server_prefill_s"]
    costs = as_chunked(lawful, sessions, BUDGET).seconds
    P, out = (requests[f"asked_{key}_tokens"].to_numpy() for key in ("prompt", "output"))
    assert costs.prefill_of(P).sum() + costs.base * (np.ceil(P / BUDGET) - 1).sum() == pytest.approx(
        requests["ttft_s"].sum(), rel=0.01
    )
    steps, B, C = (batches[key].to_numpy() for key in ("n_iterations", "n_sequences", "context_tokens"))
    decoding_s = (costs.leg_of(P, out) - costs.prefill_of(P)).sum() + (steps * costs.decode_of(B, C)).sum()
    assert decoding_s == pytest.approx(requests["decode_s"].sum() + batches["seconds"].sum(), rel=0.001)
