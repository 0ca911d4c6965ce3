"""The twin against a recorded server, and the fit of iterations against the form that it assumes."""

import numpy as np
import pytest

from calibration.iterations import Iterations, Limits, fit_iterations
from tools.table_replay import of_costs, replay
from tools.vllm_record import (
    MAX_SEQUENCES,
    TOKEN_BUDGET,
    fitted,
    halves,
    host_time_s,
    read_record,
    replayed,
    replayed_by_tables,
)


def test_a_real_server_replayed_is_near(data):
    """With costs from kernel tables alone: TPOT and E2E within 5 %, TTFT within 10 %, all on the fast side."""
    for name, (measured, simulated) in replayed(data, fitted(data)).items():
        error = simulated.mean() / measured.mean() - 1
        assert {"TTFT": -0.1, "TPOT": -0.05, "E2E": -0.05}[name] < error < 0, f"{name}: {error:+.3f}"


def test_a_plain_loop_over_iterations_is_the_twin(data):
    """With the same cost form, a loop that visits every iteration gives every request the twin's TTFT and E2E."""
    fit, record = fitted(data), read_record(data)
    load = [record[name].to_numpy() for name in ("arrived_s", "prompt_tokens", "output_tokens")]
    first_s, last_s = replay(*load, of_costs(fit.costs, fit.knee_tokens), slots=MAX_SEQUENCES, budget=TOKEN_BUDGET)
    found = replayed(data, fit)
    assert np.allclose(first_s - load[0], found["TTFT"][1], rtol=1e-6)
    assert np.allclose(last_s - load[0], found["E2E"][1], rtol=1e-6)


def test_the_cost_form_says_what_its_tables_say(data):
    """Iterations of the fitted form bring every mean within 4 % of what the tables themselves bring it to."""
    by_form, by_tables = replayed(data, fitted(data)), replayed_by_tables(data)
    for name, (_, simulated) in by_tables.items():
        assert by_form[name][1].mean() == pytest.approx(simulated.mean(), rel=0.04), name


def test_one_host_time_found_on_half_of_the_record_serves_the_other_half(data):
    """Found by the first half's TPOT alone, it brings all three means of the second half within 5 %."""
    fit = fitted(data)
    host_s = host_time_s(data, fit)
    assert 0.0005 < host_s < 0.005, "not the size of a scheduler's pass"
    held_out = halves(replayed(data, fit, host_s=host_s))[1]
    for name, (measured, simulated) in held_out.items():
        assert len(measured) == pytest.approx(150, abs=2)
        assert abs(simulated.mean() / measured.mean() - 1) < 0.05, name


def test_iterations_of_the_assumed_form_give_their_costs_back():
    """Exact iterations of known costs and knee are fitted exactly."""
    chance = np.random.default_rng(2)
    n, d, e, f, b, c, g, knee = 600, 0.01, 2e-5, 9e-8, 3e-5, 1e-9, 1e-7, 256
    B, chunk = chance.integers(0, 128, n) * (chance.random(n) < 0.6), chance.integers(1, 1500, n)
    chunk = chunk * ((B == 0) | (chance.random(n) < 0.5))
    C, done = B * chance.integers(1, 4000, n), chance.integers(0, 8000, n) * (chunk > 0)
    light = np.clip(knee - B, 0, chunk)
    seconds = d + e * (B + light) + (f + g * (chunk > 0)) * C + b * (chunk - light)
    seconds += c * ((done + chunk) ** 2 - done**2.0)
    columns = {"sequences": B, "context_tokens": C, "chunk_tokens": chunk, "chunk_done": done, "seconds": seconds}
    found = fit_iterations(Iterations(**{name: column.astype(np.float64) for name, column in columns.items()}))
    assert found.knee_tokens == knee
    costs = [*found.costs.prefill, *found.costs.decode, found.costs.mixed_per_context_token]
    assert np.allclose(costs, [d, b, c, d, e, f, g], rtol=1e-5)


@pytest.mark.parametrize(("limit", "kept"), [({"max_batch": 2}, 2), ({"token_budget": 10}, 2), ({}, 3)])
def test_only_iterations_that_an_engine_can_run_are_kept(limit, kept):
    """An iteration beyond the slots, the token budget or the memory is left out."""
    columns = {"sequences": [1, 2, 3], "context_tokens": [9, 9, 9], "chunk_tokens": [5, 9, 0], "chunk_done": [0, 0, 0]}
    iterations = Iterations(**{k: np.array(v, dtype=np.float64) for k, v in columns.items()}, seconds=np.ones(3))
    limits = {"max_batch": 9, "token_budget": 99, "kv_capacity_tokens": 99, **limit}
    assert len(iterations.within(Limits(**limits)).seconds) == kept
