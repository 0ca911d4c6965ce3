"""Iterations that carry prompts: one whole (`prefill_first`), or chunks of several beside the running legs."""

from math import isnan

from numpy.typing import NDArray

from twin.compiling import inlined
from twin.engines.kernel.running import finish, give_tokens, push
from twin.engines.machine import ALL, BOUNDARY, Record

__all__ = ["begin_chunks", "begin_whole", "end_prompt"]


@inlined
def begin_whole(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """`prefill_first`: the admitted leg's prompt alone."""
    leg = slots[0].prefilling
    tokens = queue[leg].prompt_tokens + queue[leg].generated
    P = (tokens + p.tile_tokens - 1) // p.tile_tokens * p.tile_tokens  # up to the next whole tile
    lasted_s = (p.a + p.b * P + p.c * (P * P)) * queue[leg].prefill_factor
    spent_j = (p.a_j + p.b_j * P + p.c_j * (P * P)) * queue[leg].prefill_factor
    s.n_chunks, slots[0].chunk = 1, tokens
    s.spent_j, s.decode_j = spent_j, 0.0
    _begin(s, queue, leg, spent_j)
    s.end_s = s.now_s + lasted_s
    s.busy_s += lasted_s
    s.busy_j += spent_j


@inlined
def begin_chunks(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """`chunked`: prompts in the order of admission, as long as the token budget lasts."""
    B, C = s.n_running, s.context_tokens
    noise = s.decode_factors / B if B > 0 else 1.0
    lasted_s = (p.d + p.e * B + p.g * C) * noise
    s.spent_j = s.decode_j = (p.d_j + p.e_j * B + p.g_j * C) * noise
    tokens, s.n_chunks = B, 0
    for i in range(s.n_prefilling):
        leg = slots[i].prefilling
        left = queue[leg].prompt_tokens + queue[leg].generated - queue[leg].prefilled
        n = min(p.token_budget - tokens, left)
        if n <= 0:
            break
        light = max(0, min(n, p.knee_tokens - tokens))
        done = queue[leg].prefilled
        squares, factor = (done + n) ** 2 - done**2, queue[leg].prefill_factor
        spent_j = (p.c_j * squares + (p.e_j * light + p.b_j * (n - light))) * factor
        lasted_s += (p.c * squares + (p.e * light + p.b * (n - light))) * factor
        s.spent_j += spent_j
        _begin(s, queue, leg, spent_j)
        slots[i].chunk = n
        s.n_chunks += 1
        tokens += n
    s.end_s = s.now_s + lasted_s
    s.busy_s += lasted_s
    s.busy_j += s.spent_j
    if B == 0:
        for i in range(s.n_chunks):
            queue[slots[i].prefilling].energy_j += s.decode_j / s.n_chunks


@inlined
def _begin(s: Record, queue: NDArray[Record], leg: int, spent_j: float) -> None:
    queue[leg].energy_j += spent_j
    if isnan(queue[leg].started_s):
        queue[leg].started_s = s.now_s


@inlined
def end_prompt(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """End an iteration that carried prompts: all running legs have a token more, complete prompts their first."""
    s.now_s = s.last_s = s.end_s
    s.phase = BOUNDARY
    if p.chunked and s.n_running > 0:
        give_tokens(p, s, slots, queue, 1, s.decode_j / s.n_running)
    kept = 0
    for i in range(s.n_prefilling):
        leg = slots[i].prefilling
        if i < s.n_chunks:
            queue[leg].prefilled += slots[i].chunk
        if queue[leg].prefilled == queue[leg].prompt_tokens + queue[leg].generated:
            _emit(p, s, slots, queue, leg)
        else:
            slots[kept].prefilling = leg
            kept += 1
    s.n_prefilling = kept


@inlined
def _emit(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], leg: int) -> None:
    """The leg's prompt is in memory: it emits a token, and then decodes or is finished."""
    queue[leg].generated += 1
    if isnan(queue[leg].first_token_s):
        queue[leg].first_token_s = s.now_s
    if queue[leg].generated == queue[leg].output_tokens:
        finish(p, s, queue, leg, queue[leg].prompt_tokens + queue[leg].generated)
        return
    if s.n_running == 0:
        s.each_j = 0.0  # a small sum loses no digits
    queue[leg].joined_j = s.each_j
    queue[leg].last = s.n_iterations + queue[leg].output_tokens - queue[leg].generated
    tokens = queue[leg].prompt_tokens + queue[leg].generated
    s.context_tokens += tokens
    s.decode_factors += queue[leg].decode_factor
    if p.paged:
        slots[(tokens - s.n_iterations) % p.block_tokens].phase += 1
        s.unclaimed = ALL if p.chunked else leg
    push(s, slots, queue[leg].last, leg)
