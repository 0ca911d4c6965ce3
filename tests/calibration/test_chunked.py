"""The costs of a server that fills its iterations: the law is found, whether the server tells its own time or not."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.bursts import bursts_of
from calibration.chunked import as_chunked
from calibration.fit import decode_terms
from calibration.recordings import Source
from calibration.session_profile import session_profile
from calibration.sessions import BATCHES, Sessions, lone_requests, no_batches, no_joules

AROUND_S, D, B, C, E, F, G = 0.002, 0.004, 6e-4, 2e-7, 1e-3, 5e-6, 2e-5
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


def burst_of_the_law(prompt_tokens, n_sequences, *, output_tokens=32, spread_s=0.0, repeat=0):
    """Return requests sent side by side, played by the law; tokens of an iteration reach clients `spread_s` apart.

    The first request is there before the others: its prompt begins alone.
    """
    done, chunks = [0] * n_sequences, [[] for _ in range(n_sequences)]
    now_s, present = AROUND_S, 1
    while any(len(tokens) < output_tokens for tokens in chunks):
        decoding = [i for i, tokens in enumerate(chunks) if 0 < len(tokens) < output_tokens]
        context = sum(prompt_tokens + len(chunks[i]) for i in decoding)
        left, took, ends = BUDGET - len(decoding), 0.0, []
        for i in range(present):
            n = min(left, prompt_tokens - done[i])
            if n > 0:
                took += B * n + C * ((done[i] + n) ** 2 - done[i] ** 2)
                done[i], left = done[i] + n, left - n
                ends += [i] if done[i] == prompt_tokens else []
        mixed_s = G * context if took else 0.0
        now_s += D + took + E * len(decoding) + F * context + mixed_s
        for place, i in enumerate([*decoding, *ends]):
            chunks[i].append(now_s + place * spread_s)
        present = n_sequences
    table = lone_requests(
        session="0",
        prompt_tokens=np.full(n_sequences, prompt_tokens),
        output_tokens=np.full(n_sequences, output_tokens),
        ttft_s=[tokens[0] for tokens in chunks],
        tpot_s=[(tokens[-1] - tokens[0]) / (output_tokens - 1) for tokens in chunks],
    )
    return table.assign(
        cell=f"p{prompt_tokens}-c{n_sequences}",
        repeat=repeat,
        concurrency=n_sequences,
        sent_s=0.0,
        first_token_s=table["ttft_s"],
        finished_s=[tokens[-1] for tokens in chunks],
        chunk_s=chunks,
    )


def with_bursts(sessions, **how):
    """Return the sessions with bursts of 2 and 4 prompts, short ones and some of several iterations."""
    bursts = [burst_of_the_law(P, n, **how) for P in (32, 74, 172, 400, 700) for n in (2, 4)]
    told = [frame.assign(server_prefill_s=np.nan) for frame in bursts]
    lone = sessions.requests.assign(sent_s=0.0, first_token_s=0.0, finished_s=0.0, chunk_s=None)
    return replace(sessions, requests=pd.concat([lone, *told], ignore_index=True))


@pytest.fixture(scope="module")
def lawful():
    return session_profile(sessions_of_the_law(told=True), name="bench/m/q", quantization="q")


@pytest.mark.parametrize("spread_s", [0.0, 2e-4])
def test_what_mixed_iterations_cost_more_is_found(spread_s):
    """Prompts beside decodes that cost G more for each token of context: G is found, and the rest as without."""
    sessions = with_bursts(sessions_of_the_law(told=True), spread_s=spread_s)
    profile = session_profile(sessions, name="bench/m/q", quantization="q", token_budget=BUDGET)
    costs = profile.seconds
    near = 0.001 if spread_s == 0 else 0.05
    assert costs.mixed_per_context_token == pytest.approx(G, rel=near)
    assert (costs.base, costs.per_sequence, costs.per_context_token) == pytest.approx((D, E, F), rel=near)
    assert costs.prefill == pytest.approx((AROUND_S + D, B, C), rel=near)
    assert profile.mixed_j is None


def test_mixed_iterations_that_cost_no_more_have_no_term(monkeypatch):
    """Where an iteration costs the sum of its parts, g is nothing beside f."""
    monkeypatch.setattr(sys.modules[__name__], "G", 0.0)
    sessions = with_bursts(sessions_of_the_law(told=True))
    costs = session_profile(sessions, name="bench/m/q", quantization="q", token_budget=BUDGET).seconds
    assert costs.mixed_per_context_token < 1e-3 * F


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), slow=st.floats(0.0, 0.3), more=st.floats(0.02, 0.25))
def test_mixed_iterations_come_to_what_was_measured(lawful, seed, slow, more):
    """On a machine that is slow now and then, bursts take by the costs together what they took when measured."""
    sessions, chance = sessions_of_the_law(told=True), np.random.default_rng(seed)
    bursts = []
    for repeat in range(6):
        factor = (1 + more * (chance.random() < slow)) * chance.uniform(1.0, 1.1)  # g stays above 0
        for P in (74, 172, 400):
            burst = burst_of_the_law(P, 4, repeat=repeat)
            late_s = burst["first_token_s"].max() * (factor - 1)
            chunks = [[at_s + late_s for at_s in found] for found in burst["chunk_s"]]
            shifted = {key: burst[key] + late_s for key in ("first_token_s", "finished_s", "ttft_s")}
            bursts.append(burst.assign(chunk_s=chunks, server_prefill_s=np.nan, **shifted))
    lone = sessions.requests.assign(sent_s=0.0, first_token_s=0.0, finished_s=0.0, chunk_s=None)
    for frame, column in (
        (lone, "ttft_s"),
        (lone, "server_prefill_s"),
        (lone, "decode_s"),
        (sessions.batches, "seconds"),
    ):
        frame[column] *= chance.lognormal(0.0, 0.06, len(frame))  # so that no burst is an outlier
    requests = pd.concat([lone, *bursts], ignore_index=True)
    profile = as_chunked(lawful, replace(sessions, requests=requests), BUDGET)
    costs, found = profile.seconds, bursts_of(requests)
    iterations = np.ceil(found["prompt_tokens"] / BUDGET) + found["n_mixed"]
    prompts = found["n_sequences"] * found["prompt_tokens"]
    by_costs = (
        profile.evidence["chunked"]["request_s"]
        + costs.base * iterations
        + costs.prefill[1] * prompts
        + costs.prefill[2] * prompts * found["prompt_tokens"]
        + costs.per_sequence * found["decoded_tokens"]
        + (costs.per_context_token + costs.mixed_per_context_token) * found["context_tokens"]
    )
    assert by_costs.sum() == pytest.approx(found["seconds"].sum(), rel=0.003)
    ((variance,),) = profile.evidence["mixed_s"]["covariance"]
    assert costs.mixed_per_context_token > variance**0.5 > 0


def test_joules_of_batches_hold_their_mixed_iterations():
    """A profile with joules costs no more of them in a mixed iteration; one without has no such term."""
    sessions = with_bursts(sessions_of_the_law(told=True))
    plain = session_profile(sessions, name="bench/m/q", quantization="q")
    joules = replace(
        plain,
        provenance=replace(plain.provenance, energy="measured"),
        energy_scope="board",
        prefill_j=(0.1, 0.01, 0.0),
        decode_j=(0.1, 0.02, 0.0),
        idle_w=5.0,
    )
    assert as_chunked(joules, sessions, BUDGET).mixed_j == 0.0
    assert as_chunked(plain, sessions, BUDGET).mixed_j is None


def test_a_burst_is_counted_until_its_last_first_token():
    """Two prompts that share no iteration: one mixed iteration, the first request's second token, and its context."""
    burst = burst_of_the_law(100, 2)
    (row,) = bursts_of(burst).itertuples(index=False)
    assert (row.prompt_tokens, row.n_sequences, row.n_mixed, row.decoded_tokens, row.context_tokens) == (
        100,
        2,
        1,
        1,
        101,
    )
    assert row.seconds == pytest.approx(burst["first_token_s"].max())
    assert bursts_of(burst.iloc[:1]).empty, "a burst of which a request failed is none"
    assert bursts_of(burst.assign(concurrency=1)).empty


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
