"""The running legs: a heap by their last iterations, and sums over them that no iteration has to take anew."""
# ruff: noqa: PLR0917 - compiled functions take their arguments by place

from numpy.typing import NDArray

from twin.compiling import inlined
from twin.engines.machine import ALL, Record

__all__ = ["finish", "give_tokens", "leave", "push", "remove"]


@inlined
def give_tokens(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], n: int, spent_j: float) -> bool:
    """Give every running leg `n` tokens and `spent_j` joules; return whether one was complete and left."""
    s.each_j += spent_j
    s.n_iterations += n
    s.context_tokens += n * s.n_running
    s.unclaimed = ALL
    left = False
    while s.n_running > 0 and slots[0].last == s.n_iterations:
        leg = slots[0].running
        remove(s, slots, 0)
        finish(p, s, queue, leg, leave(p, s, slots, queue, leg))
        left = True
    return left


@inlined
def leave(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], leg: int) -> int:
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
def finish(p: Record, s: Record, queue: NDArray[Record], leg: int, tokens: int) -> None:
    """Note that a leg of so many tokens is finished, and free its memory; its newest token never took any."""
    s.free += (tokens + p.block_tokens - 2) // p.block_tokens if p.paged else tokens
    queue[leg].finished_s = s.now_s
    queue[s.n_finished].finished = leg
    s.n_finished += 1


@inlined
def push(s: Record, slots: NDArray[Record], last: int, leg: int) -> None:
    """Add a running leg to the heap."""
    i = s.n_running
    s.n_running += 1
    _sift_up(slots, i, last, leg)


@inlined
def remove(s: Record, slots: NDArray[Record], i: int) -> None:
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


@inlined
def _sift_up(slots: NDArray[Record], i: int, last: int, leg: int) -> None:
    while i > 0 and slots[(i - 1) // 2].last > last:
        slots[i].last, slots[i].running = slots[(i - 1) // 2].last, slots[(i - 1) // 2].running
        i = (i - 1) // 2
    slots[i].last, slots[i].running = last, leg
