"""The costs of a server that fills its iterations: the law is found, whether the server tells its own time or not."""

import numpy as np
import pandas as pd
import pytest

from calibration.fit import decode_terms
from calibration.recordings import Source
from calibration.session_profile import session_profile
from calibration.sessions import BATCHES, Sessions, lone_requests, no_batches, no_joules

AROUND_S, D, B, C, E, F = 0.002, 0.004, 6e-4, 2e-7, 1e-3, 5e-6
BUDGET = 256


def sessions_of_the_law(*, told, batched=True):
    """Return two sessions that follow the law exactly; a server that tells its prompt time leaves o out of it."""
    P = np.tile([32, 74, 172, 400, 700], 2)
    out = np.full_like(P, 32)
    served_s = D * np.ceil(P / BUDGET) + B * P + C * P**2
    n, context = decode_terms(P, out).T
    requests = lone_requests(
        session=np.repeat(["a", "b"], 5),
        prompt_tokens=P,
        output_tokens=out,
        ttft_s=AROUND_S + served_s,
        tpot_s=((D + E) * n + F * context) / (out - 1),
    )
    requests["server_prefill_s"] = served_s if told else np.nan
    iterations, sequences, contexts = (
        np.array([30.0, 30.0, 30.0]),
        np.array([2, 4, 4]),
        np.array([200.0, 400.0, 1600.0]),
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
