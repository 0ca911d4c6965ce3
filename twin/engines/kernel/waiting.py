"""The legs that wait, and which of them is admitted next."""

from numpy.typing import NDArray

from twin.compiling import inlined
from twin.engines.machine import NONE, Record

__all__ = ["admit_waiting", "fits", "head", "need"]


@inlined
def admit_waiting(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> None:
    """Admit legs in their order as long as they fit; under `prefill_first` one, whose prompt is carried alone."""
    leg = head(s, slots, queue, s.now_s)
    while leg >= 0 and fits(p, s, queue, leg) and (p.chunked or s.n_prefilling == 0):
        _admit(p, s, slots, queue, leg)
        leg = head(s, slots, queue, s.now_s)


@inlined
def head(s: Record, slots: NDArray[Record], queue: NDArray[Record], at_s: float) -> int:
    """Return the leg to admit next, NONE when none waits."""
    if s.n_preempted > 0:
        return int(slots[s.n_preempted - 1].preempted)
    if s.next < len(queue) and queue[s.next].arrived_s <= at_s:
        return int(s.next)
    return NONE


@inlined
def fits(p: Record, s: Record, queue: NDArray[Record], leg: int) -> bool:
    """Tell whether a place and memory are free for the leg."""
    return bool(s.n_running + s.n_prefilling < p.max_batch and need(p, queue, leg) <= s.free)


@inlined
def need(p: Record, queue: NDArray[Record], leg: int) -> int:
    """Return the tokens or blocks that the leg takes on admission."""
    if p.paged:
        return int((queue[leg].prompt_tokens + queue[leg].generated + p.block_tokens - 1) // p.block_tokens)
    return int(queue[leg].prompt_tokens + queue[leg].output_tokens)


@inlined
def _admit(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], leg: int) -> None:
    if s.n_preempted > 0:
        s.n_preempted -= 1
    else:
        s.next += 1
    s.free -= need(p, queue, leg)
    slots[s.n_prefilling].prefilling = leg
    s.n_prefilling += 1
    queue[leg].admission = s.n_admitted
    s.n_admitted += 1
