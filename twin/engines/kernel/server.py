"""The compiled server: from one world event to the next, a run of decode iterations in one step."""
# ruff: noqa: PLR0917 - compiled functions take their arguments by place

from math import inf

from numpy.typing import NDArray

from twin.compiling import compiled, inlined
from twin.engines.kernel.blocks import claim
from twin.engines.kernel.prompts import begin_chunks, begin_whole, end_prompt
from twin.engines.kernel.runs import begin_run, boundary_s, first_boundary, pass_run, run_end
from twin.engines.kernel.waiting import admit_waiting
from twin.engines.machine import BOUNDARY, IDLE, PROMPT, RUN, STOPPED, Record

__all__ = ["advance", "begin", "cut"]


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
            end_prompt(p, s, slots, queue)
        else:
            k = run_end(p, s, slots, queue, halt_s)
            end_s = boundary_s(s, k)
            if end_s >= until_s:
                return float(end_s)
            pass_run(p, s, slots, queue, k, end_s)
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
        k = first_boundary(s, at_s, s.run_k + 1, s.run_k + slots[0].last - s.n_iterations) - 1
        if k > s.run_k:
            pass_run(p, s, slots, queue, k, boundary_s(s, k))
        B, noise = s.n_running, s.decode_factors / s.n_running
        share = (at_s - s.now_s) / (boundary_s(s, k + 1) - s.now_s)
        spent_j = share * (p.d_j + p.e_j * B + p.f_j * s.context_tokens) * noise
        s.busy_s += at_s - s.now_s
        s.busy_j += spent_j
        s.last_s = at_s
    return float(spent_j)


@inlined
def _decide(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """Claim memory, admit, and begin what there is to run."""
    if s.now_s >= p.stop_s:
        _stop(s, slots, queue)
        return
    if p.paged and claim(p, s, slots, queue):
        s.run_on = False
    else:
        admit_waiting(p, s, slots, queue)
    if s.n_prefilling > 0 and (not p.chunked or s.n_running < p.token_budget):
        s.run_on = False
        s.phase = PROMPT
        if p.chunked:
            begin_chunks(p, s, slots, queue)
        else:
            begin_whole(p, s, slots, queue)
    elif s.n_running > 0:
        s.phase = RUN
        if not s.run_on:
            begin_run(p, s)
    else:
        s.phase = IDLE


@inlined
def _stop(s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """Leave unfinished what runs; it keeps the energy that it took."""
    for i in range(s.n_running):
        leg = slots[i].running
        queue[leg].energy_j += s.each_j - queue[leg].joined_j
    s.phase = STOPPED
