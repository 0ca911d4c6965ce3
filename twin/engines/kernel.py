"""The compiled server: `advance` takes it from one world event to the next, a run of decode iterations in one step.

It means what `server`, `prefill_first`, `chunked` and `memory` say. All its parts stand in this file, long as it is:
numba notices a change of the file that it compiled, not of those that it calls.
"""
# ruff: noqa: PLR0917 - compiled functions take their arguments by place

from math import ceil, inf, isnan, sqrt
from typing import Any

from numpy.typing import NDArray

from twin.compiling import compiled, inlined

Record = Any  # of machine.SETTINGS, STATE, SLOT and LEG: compiled code reads their fields as attributes
IDLE, BOUNDARY, PROMPT, RUN, STOPPED = range(5)
NONE, ALL = -1, -2


@compiled
def advance(
    settings: NDArray[Record],
    state: NDArray[Record],
    slots: NDArray[Record],
    queue: NDArray[Record],
    until_s: float,
    halt_s: float,
) -> float:
    """Do everything that happens before `until_s`; return when the next thing happens, inf for never.

    Iterations that end at `until_s` or later stay under way, so that what happens there comes before their end. At the
    first boundary at or after `halt_s`, and before `until_s`, the server halts and its instant is returned.
    """
    p, s = settings[0], state[0]
    while s.phase != STOPPED:
        if s.phase == IDLE:
            arrived_s = queue[s.next].arrived_s if s.next < len(queue) else inf
            at_s = max(s.now_s, min(arrived_s, halt_s))
            if at_s >= until_s:
                return float(at_s)
            s.now_s = at_s
            s.phase = BOUNDARY
        elif s.phase == BOUNDARY:
            if s.now_s >= until_s or (s.now_s >= halt_s and s.now_s < p.stop_s):
                return float(s.now_s)
            _decide(p, s, slots, queue)
        elif s.phase == PROMPT:
            if s.end_s >= until_s:
                return float(s.end_s)
            _end_prompt(p, s, slots, queue)
        else:
            k = _run_end(p, s, slots, queue, halt_s)
            end_s = _boundary_s(s, k)
            if end_s >= until_s:
                return float(end_s)
            _pass_run(p, s, slots, queue, k, end_s)
    return inf


@compiled
def begin(settings: NDArray[Record], state: NDArray[Record], slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """Begin an iteration at the boundary at which the server is, if there is one to run."""
    _decide(settings[0], state[0], slots, queue)


@compiled
def cut(
    settings: NDArray[Record], state: NDArray[Record], slots: NDArray[Record], queue: NDArray[Record], at_s: float
) -> float:
    """End the iteration under way at `at_s`, before its end; return the joules that it took and no leg was given."""
    p, s = settings[0], state[0]
    spent_j = 0.0
    if s.phase == PROMPT:
        share = (at_s - s.now_s) / (s.end_s - s.now_s)
        spent_j = share * s.spent_j - (s.spent_j - (s.decode_j if s.n_running > 0 else 0.0))
        s.busy_s -= s.end_s - at_s
        s.busy_j -= (1 - share) * s.spent_j
        s.last_s = at_s
    elif s.phase == RUN:
        k = _first_boundary(s, at_s, s.run_k + 1, s.run_k + slots[0].last - s.n_iterations) - 1
        if k > s.run_k:
            _pass_run(p, s, slots, queue, k, _boundary_s(s, k))
        B, noise = s.n_running, s.decode_factors / s.n_running
        share = (at_s - s.now_s) / (_boundary_s(s, k + 1) - s.now_s)
        spent_j = share * (p.d_j + p.e_j * B + p.f_j * s.context_tokens) * noise
        s.busy_s += at_s - s.now_s
        s.busy_j += spent_j
        s.last_s = at_s
    return float(spent_j)


@inlined
def _decide(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """Claim memory, admit, and begin what there is to run."""
    if s.now_s >= p.stop_s:
        for i in range(s.n_running):  # unfinished: they keep the energy that they took
            leg = slots[i].running
            queue[leg].energy_j += s.each_j - queue[leg].joined_j
        s.phase = STOPPED
        return
    if p.paged and _claim(p, s, slots, queue):
        s.run_on = False
    else:
        leg = _head(s, slots, queue, s.now_s)
        while leg >= 0 and _fits(p, s, queue, leg) and (p.chunked or s.n_prefilling == 0):
            _admit(p, s, slots, queue, leg)
            leg = _head(s, slots, queue, s.now_s)
    if s.n_prefilling > 0 and (not p.chunked or s.n_running < p.token_budget):
        s.run_on = False
        s.phase = PROMPT
        if p.chunked:
            _begin_chunks(p, s, slots, queue)
        else:
            _begin_whole(p, s, slots, queue)
    elif s.n_running > 0:
        s.phase = RUN
        if not s.run_on:
            B, noise = s.n_running, s.decode_factors / s.n_running
            s.run_s, s.run_k = s.now_s, 0
            s.run_first_s = (p.d + p.e * B + p.f * s.context_tokens) * noise
            s.run_growth_s = p.f * B * noise
    else:
        s.phase = IDLE


@inlined
def _head(s: Record, slots: NDArray[Record], queue: NDArray[Record], at_s: float) -> int:
    """Return the leg to admit next, -1 when none waits."""
    if s.n_preempted > 0:
        return int(slots[s.n_preempted - 1].preempted)
    if s.next < len(queue) and queue[s.next].arrived_s <= at_s:
        return int(s.next)
    return -1


@inlined
def _need(p: Record, queue: NDArray[Record], leg: int) -> int:
    """Return the tokens or blocks that the leg takes on admission."""
    if p.paged:
        return int((queue[leg].prompt_tokens + queue[leg].generated + p.block_tokens - 1) // p.block_tokens)
    return int(queue[leg].prompt_tokens + queue[leg].output_tokens)


@inlined
def _fits(p: Record, s: Record, queue: NDArray[Record], leg: int) -> bool:
    return bool(s.n_running + s.n_prefilling < p.max_batch and _need(p, queue, leg) <= s.free)


@inlined
def _admit(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], leg: int) -> None:
    if s.n_preempted > 0:
        s.n_preempted -= 1
    else:
        s.next += 1
    s.free -= _need(p, queue, leg)
    slots[s.n_prefilling].prefilling = leg
    s.n_prefilling += 1
    queue[leg].admission = s.n_admitted
    s.n_admitted += 1


@inlined
def _begin_whole(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
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
def _begin_chunks(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
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
def _end_prompt(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """End an iteration that carried prompts: all running legs have a token more, complete prompts their first."""
    s.now_s = s.last_s = s.end_s
    s.phase = BOUNDARY
    if p.chunked and s.n_running > 0:
        _pass(p, s, slots, queue, 1, s.decode_j / s.n_running)
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
        tokens = queue[leg].prompt_tokens + queue[leg].generated
        _finish(s, queue, leg)
        s.free += (tokens + p.block_tokens - 2) // p.block_tokens if p.paged else tokens
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
    _push(s, slots, queue[leg].last, leg)


@inlined
def _boundary_s(s: Record, k: int) -> float:
    """The clock of a run of decode iterations; DESIGN's expression, to the bit."""
    return float(s.run_s + (k * s.run_first_s + s.run_growth_s * k * (k - 1) / 2))


@inlined
def _first_boundary(s: Record, at_s: float, low: int, high: int) -> int:
    """Return the first of the boundaries `low` … `high` that is at `at_s` or later, `high` when none is."""
    if _boundary_s(s, low) >= at_s:
        return low
    span, g = at_s - s.run_s, s.run_growth_s
    linear = s.run_first_s - g / 2
    under = linear + sqrt(max(0.0, linear * linear + 2 * g * span))  # stable: no two large terms cancel
    root = 2 * span / under if under > 0 else inf
    k = high if root >= high else max(low, ceil(root))
    while k > low and _boundary_s(s, k - 1) >= at_s:
        k -= 1
    while k < high and _boundary_s(s, k) < at_s:
        k += 1
    return k


@inlined
def _run_end(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], halt_s: float) -> int:
    """Return the boundary of the run, counted from its beginning, at which something may change."""
    low = s.run_k + 1
    high = s.run_k + slots[0].last - s.n_iterations
    if p.paged:
        high = s.run_k + _first_short(p, s, slots, high - s.run_k)
    end_s = min(p.stop_s, halt_s)
    if _boundary_s(s, high) >= end_s:
        high = _first_boundary(s, end_s, low, high)
    leg = _head(s, slots, queue, inf)
    if leg < 0 or not _fits(p, s, queue, leg):
        return int(high)  # nothing that changes during a run can make it fit
    if s.n_preempted > 0 or queue[leg].arrived_s <= s.now_s:
        return int(low)
    k = _first_boundary(s, queue[leg].arrived_s, low, high)
    if p.paged and _growth(p, s, slots, k - s.run_k) + _need(p, queue, leg) > s.free:
        return int(high)
    return k


@inlined
def _growth(p: Record, s: Record, slots: NDArray[Record], n: int) -> int:
    """Return the blocks that the running legs claim at the next `n` boundaries."""
    blocks = n // p.block_tokens * s.n_running
    for k in range(1, n % p.block_tokens + 1):
        blocks += slots[(1 - s.n_iterations - k) % p.block_tokens].phase
    return int(blocks)


@inlined
def _first_short(p: Record, s: Record, slots: NDArray[Record], n: int) -> int:
    """Return the first of the next `n` boundaries whose claims cannot all be met; `n`, where a leg leaves, if none."""
    cycles = min(s.free // s.n_running, (n - 1) // p.block_tokens)
    free = s.free - cycles * s.n_running
    for k in range(cycles * p.block_tokens + 1, n):
        free -= slots[(1 - s.n_iterations - k) % p.block_tokens].phase
        if free < 0:
            return int(k)
    return n


@inlined
def _pass_run(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], k: int, end_s: float) -> None:
    """Take the run to its boundary `k` at `end_s`."""
    n, B, noise = k - s.run_k, s.n_running, s.decode_factors / s.n_running
    first_j = (p.d_j + p.e_j * B + p.f_j * s.context_tokens) * noise
    spent_j = n * first_j + p.f_j * B * noise * n * (n - 1) / 2
    s.busy_s += n * s.run_first_s + s.run_growth_s * n * (k + s.run_k - 1) / 2
    s.busy_j += spent_j
    if p.paged:
        s.free -= _growth(p, s, slots, n - 1)  # those of the last one are claimed there
    s.run_k = k
    s.now_s = s.last_s = end_s
    s.phase = BOUNDARY
    s.run_on = not _pass(p, s, slots, queue, n, spent_j / B)


@inlined
def _pass(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], n: int, spent_j: float) -> bool:
    """Give every running leg `n` tokens and `spent_j` joules; return whether one was complete and left."""
    s.each_j += spent_j
    s.n_iterations += n
    s.context_tokens += n * s.n_running
    s.unclaimed = ALL
    left = False
    while s.n_running > 0 and slots[0].last == s.n_iterations:
        leg = slots[0].running
        _remove(s, slots, 0)
        tokens = _leave(p, s, slots, queue, leg)
        s.free += (tokens + p.block_tokens - 2) // p.block_tokens if p.paged else tokens
        _finish(s, queue, leg)
        left = True
    return left


@inlined
def _finish(s: Record, queue: NDArray[Record], leg: int) -> None:
    queue[leg].finished_s = s.now_s
    queue[s.n_finished].finished = leg
    s.n_finished += 1


@inlined
def _leave(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], leg: int) -> int:
    """Take a leg out of the sums over the running set; return its tokens."""
    queue[leg].generated = queue[leg].output_tokens - (queue[leg].last - s.n_iterations)
    tokens = queue[leg].prompt_tokens + queue[leg].generated
    queue[leg].energy_j += s.each_j - queue[leg].joined_j
    queue[leg].last = -1
    s.context_tokens -= tokens
    s.decode_factors -= queue[leg].decode_factor
    if p.paged:
        slots[(tokens - s.n_iterations) % p.block_tokens].phase -= 1
    return int(tokens)


@inlined
def _claim(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> bool:
    """Claim blocks for the newest tokens, oldest leg first; return whether a leg was preempted for it."""
    due = 0
    if s.unclaimed == ALL:
        due = slots[(1 - s.n_iterations) % p.block_tokens].phase
    elif s.unclaimed != NONE:
        due = 1 if _is_due(p, s, queue, s.unclaimed) else 0
    if due <= s.free:
        s.free -= due
        s.unclaimed = NONE
        return False
    n, i = _sort_admitted(s, slots, queue), 0
    while i < n:
        leg = slots[i].ordered
        if queue[leg].last >= 0 and (s.unclaimed in (ALL, leg)) and _is_due(p, s, queue, leg):
            while s.free == 0 and n > i:
                n -= 1
                _preempt(p, s, slots, queue, slots[n].ordered)
            if n > i:
                s.free -= 1
        i += 1
    s.unclaimed = NONE
    return True


@inlined
def _is_due(p: Record, s: Record, queue: NDArray[Record], leg: int) -> bool:
    """Tell whether the newest token of a running leg is the first of a block."""
    tokens = queue[leg].prompt_tokens + queue[leg].output_tokens - (queue[leg].last - s.n_iterations)
    return bool((tokens - 1) % p.block_tokens == 0)


@inlined
def _sort_admitted(s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> int:
    """Write the admitted legs, in the order of their admission, to `ordered`; return their number."""
    n = s.n_running + s.n_prefilling
    for i in range(n):
        slots[i].ordered = slots[i].running if i < s.n_running else slots[i - s.n_running].prefilling
    for i in range(1, n):
        leg, j = slots[i].ordered, i
        while j > 0 and queue[slots[j - 1].ordered].admission > queue[leg].admission:
            slots[j].ordered = slots[j - 1].ordered
            j -= 1
        slots[j].ordered = leg
    return int(n)


@inlined
def _preempt(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], leg: int) -> None:
    """Take a leg's blocks away; its newest token has none yet."""
    if queue[leg].last >= 0:
        i = 0
        while slots[i].running != leg:
            i += 1
        _remove(s, slots, i)
        tokens = _leave(p, s, slots, queue, leg) - 1
    else:
        tokens = queue[leg].prompt_tokens + queue[leg].generated
        s.n_prefilling -= 1  # those in prefill were admitted in this order: it is the last one
    queue[leg].prefilled = 0
    s.free += (tokens + p.block_tokens - 1) // p.block_tokens
    slots[s.n_preempted].preempted = leg
    s.n_preempted += 1


@inlined
def _push(s: Record, slots: NDArray[Record], last: int, leg: int) -> None:
    """Add a running leg to the heap."""
    i = s.n_running
    s.n_running += 1
    _sift_up(slots, i, last, leg)


@inlined
def _sift_up(slots: NDArray[Record], i: int, last: int, leg: int) -> None:
    while i > 0 and slots[(i - 1) // 2].last > last:
        slots[i].last, slots[i].running = slots[(i - 1) // 2].last, slots[(i - 1) // 2].running
        i = (i - 1) // 2
    slots[i].last, slots[i].running = last, leg


@inlined
def _remove(s: Record, slots: NDArray[Record], i: int) -> None:
    """Remove the entry at place `i` of the heap."""
    s.n_running -= 1
    n = s.n_running
    last, leg = slots[n].last, slots[n].running
    if i == n:
        return
    child = 2 * i + 1
    while child < n:
        if child + 1 < n and slots[child + 1].last < slots[child].last:
            child += 1
        if slots[child].last >= last:
            break
        slots[i].last, slots[i].running = slots[child].last, slots[child].running
        i, child = child, 2 * child + 1
    _sift_up(slots, i, last, leg)
