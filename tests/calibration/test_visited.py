"""Laws of the iterations that a busy engine runs, and of the surfaces that say how long they take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.iterations import Limits
from calibration.sources.vllm_kernels import DECODER_LAYER, HEADS, ONCE
from calibration.visited import PROMPT_TOKENS, SPREAD, attention_of, visited_iterations

CHUNKS, DONE, SEQUENCES, CONTEXTS = (16, 256, 2048), (0, 512, 4096), (1, 8, 128), (16, 1024, 8192)
HEADER = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"


def prompt_us(n, s):
    return 3 + n / 4 + n * s / 5000


def decode_us(B, kv):
    return 2 + B / 8 + B * kv / 9000


def both_us(n, s, B, kv):
    """More than its parts: linear in each of the four, as the surface is."""
    return prompt_us(n, s) + decode_us(B, kv) + n * B * kv / 1e6


@pytest.fixture
def tables(tmp_path):
    """Tables of which every kernel is linear in each of its sizes, so that interpolation is exact."""
    dense = [f"{k},{n},{10 + n}" for k in (*DECODER_LAYER, *ONCE) for n in (1, 4096)]
    heads = [f"{k},{n},{100 + n}" for k in HEADS for n in (1, 256)]
    attention = [f"{n},{s},0,0,{prompt_us(n, s)}" for n in CHUNKS for s in DONE]
    attention += [f"0,0,{B},{kv},{decode_us(B, kv)}" for B in SEQUENCES for kv in CONTEXTS]
    attention += [
        f"{n},{s},{B},{kv},{both_us(n, s, B, kv)}" for n in CHUNKS for s in DONE for B in SEQUENCES for kv in CONTEXTS
    ]
    files = {"dense": ("layer,tokens,time_us", dense), "heads": ("layer,sequences,time_us", heads)}
    for name, (header, lines) in {**files, "attention": (HEADER, attention)}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    return [tmp_path / f"{name}.csv" for name in ("dense", "attention", "heads")]


def without(path, n, s):
    """Leave a chunk and its context out of the mixed rows."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(f"{n},{s},1,")) + "\n")


@settings(max_examples=5, deadline=None)
@given(
    slots=st.integers(1, 128),
    budget=st.integers(129, 2048),
    capacity=st.none() | st.integers(8 * PROMPT_TOKENS[1] * int(SPREAD), 10**6),
    seed=st.integers(0, 99),
)
def test_no_iteration_is_beyond_the_limits(tables_once, slots, budget, capacity, seed):
    """Sequences, tokens and memory stay within what the engine has; some iterations decode, some carry prompts."""
    limits = Limits(max_batch=slots, token_budget=budget, kv_capacity_tokens=capacity)
    found = visited_iterations(*tables_once, layers=2, limits=limits, seed=seed)
    assert found.sequences.max() <= slots
    assert (found.sequences + found.chunk_tokens).max() <= budget
    assert found.context_tokens.max() <= (capacity or np.inf)
    assert (found.sequences + found.chunk_tokens).min() >= 1
    assert ((found.chunk_tokens == 0) & (found.sequences > 0)).any()
    assert (found.chunk_tokens > 0).any()
    pairs = (found.chunk_done + found.chunk_tokens) ** 2 - found.chunk_done**2
    assert np.all(pairs >= found.chunk_tokens - 1e-6), "every token attends at least to itself"


@pytest.fixture(scope="module")
def tables_once(tmp_path_factory):
    return tables.__wrapped__(tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("holed", [False, True])
def test_the_seconds_are_those_of_the_kernels(tables, holed):
    """Linear kernels are summed exactly, mixed attention included; a point that was not timed changes nothing."""
    if holed:
        without(tables[1], 256, 512)
    found = visited_iterations(*tables, layers=2, limits=Limits(max_batch=64))
    alone = found.rows(np.flatnonzero((found.sequences + (found.chunk_tokens > 0)) <= 1))  # one user: no guess of heads
    B, n, s = alone.sequences, alone.chunk_tokens, alone.chunk_done
    tokens, kv = B + n, alone.context_tokens / np.maximum(B, 1)
    attention_us = np.where(n > 0, prompt_us(n, s), decode_us(B, kv))
    kernels = 2 + 2 * sum(DECODER_LAYER.values())
    least = (kernels * (10 + tokens) + 2 * 101 + 2 * attention_us) / 1e6  # the heads of none and of one take as long
    assert np.allclose(alone.seconds, least, rtol=1e-9)
    beside = found.rows(np.flatnonzero((found.sequences > 0) & (found.chunk_tokens > 0)))
    B, n, s = beside.sequences, beside.chunk_tokens, np.maximum(beside.chunk_done, 0)
    attention_us = both_us(n, s, B, beside.context_tokens / B)
    least, most = ((kernels * (10 + B + n) + 2 * (100 + B + more) + 2 * attention_us) / 1e6 for more in (0, B + 64))
    assert np.all((beside.seconds >= least - 1e-12) & (beside.seconds <= most + 1e-12))


def test_parts_are_added_where_too_little_was_timed_together(tables):
    """Without mixed rows an iteration's attention is that of its prompt and that of its decodes."""
    lines = [line for line in tables[1].read_text().splitlines() if line == HEADER or ",0,0," in line or line[0] == "0"]
    tables[1].write_text("\n".join(lines) + "\n")
    assert attention_of(tables[1]).both is None
    found = visited_iterations(*tables, layers=2, limits=Limits(max_batch=8))
    both = found.rows(np.flatnonzero((found.sequences > 0) & (found.chunk_tokens > 0)))
    B, kv = both.sequences, both.context_tokens / both.sequences
    parts = prompt_us(both.chunk_tokens, np.maximum(both.chunk_done, 0)) + decode_us(B, kv)
    assert np.allclose(attention_of(tables[1]).seconds(both), parts / 1e6, rtol=1e-9)


def test_a_table_without_prompts_is_refused(tables):
    """The message names the file and what was not timed."""
    lines = [line for line in tables[1].read_text().splitlines() if line == HEADER or line.startswith("0,0,")]
    tables[1].write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"attention\.csv: a prompt alone was not timed"):
        visited_iterations(*tables, layers=2, limits=Limits())
