"""Paged memory: blocks that the running legs claim as they grow, and legs that lose theirs to older ones."""

from numpy.typing import NDArray

from twin.compiling import inlined
from twin.engines.kernel.running import leave, remove
from twin.engines.machine import ALL, NONE, Record

__all__ = ["claim", "first_short", "growth"]


@inlined
def claim(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record]) -> bool:
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
def growth(p: Record, s: Record, slots: NDArray[Record], n: int) -> int:
    """Return the blocks that the running legs claim at the next `n` boundaries."""
    blocks = n // p.block_tokens * s.n_running
    for k in range(1, n % p.block_tokens + 1):
        blocks += slots[(1 - s.n_iterations - k) % p.block_tokens].phase
    return int(blocks)


@inlined
def first_short(p: Record, s: Record, slots: NDArray[Record], n: int) -> int:
    """Return the first of the next `n` boundaries whose claims cannot all be met; `n`, where a leg leaves, if none."""
    cycles = min(s.free // s.n_running, (n - 1) // p.block_tokens)
    free = s.free - cycles * s.n_running
    for k in range(cycles * p.block_tokens + 1, n):
        free -= slots[(1 - s.n_iterations - k) % p.block_tokens].phase
        if free < 0:
            return int(k)
    return n


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
        remove(s, slots, i)
        tokens = leave(p, s, slots, queue, leg) - 1
    else:
        tokens = queue[leg].prompt_tokens + queue[leg].generated
        s.n_prefilling -= 1  # those in prefill were admitted in this order: it is the last one
    queue[leg].prefilled = 0
    s.free += (tokens + p.block_tokens - 1) // p.block_tokens
    slots[s.n_preempted].preempted = leg
    s.n_preempted += 1
