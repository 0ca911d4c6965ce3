"""Runs of decode iterations over an unchanged running set: their clock, where they end, and the step to there."""
# ruff: noqa: PLR0917 - compiled functions take their arguments by place

from math import ceil, inf, sqrt

from numpy.typing import NDArray

from twin.compiling import inlined
from twin.engines.kernel.blocks import first_short, growth
from twin.engines.kernel.running import give_tokens
from twin.engines.kernel.waiting import fits, head, need
from twin.engines.machine import BOUNDARY, Record

__all__ = ["begin_run", "boundary_s", "first_boundary", "pass_run", "run_end"]


@inlined
def begin_run(p: Record, s: Record) -> None:
    """Begin a run at the boundary at which the server is."""
    B, noise = s.n_running, s.decode_factors / s.n_running
    s.run_s, s.run_k = s.now_s, 0
    s.run_first_s = (p.d + p.e * B + p.f * s.context_tokens) * noise
    s.run_growth_s = p.f * B * noise


@inlined
def boundary_s(s: Record, k: int) -> float:
    """The clock of a run of decode iterations; DESIGN's expression, to the bit."""
    return float(s.run_s + (k * s.run_first_s + s.run_growth_s * k * (k - 1) / 2))


@inlined
def first_boundary(s: Record, at_s: float, low: int, high: int) -> int:
    """Return the first of the boundaries `low` … `high` that is at `at_s` or later, `high` when none is."""
    if boundary_s(s, low) >= at_s:
        return low
    span, g = at_s - s.run_s, s.run_growth_s
    linear = s.run_first_s - g / 2
    under = linear + sqrt(max(0.0, linear * linear + 2 * g * span))  # stable: no two large terms cancel
    root = 2 * span / under if under > 0 else inf
    k = high if root >= high else max(low, ceil(root))
    while k > low and boundary_s(s, k - 1) >= at_s:
        k -= 1
    while k < high and boundary_s(s, k) < at_s:
        k += 1
    return k


@inlined
def run_end(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], halt_s: float) -> int:
    """Return the boundary of the run, counted from its beginning, at which something may change."""
    low = s.run_k + 1
    high = s.run_k + slots[0].last - s.n_iterations
    if p.paged:
        high = s.run_k + first_short(p, s, slots, high - s.run_k)
    end_s = min(p.stop_s, halt_s)
    if boundary_s(s, high) >= end_s:
        high = first_boundary(s, end_s, low, high)
    leg = head(s, slots, queue, inf)
    if leg < 0 or not fits(p, s, queue, leg):
        return int(high)  # nothing that changes during a run can make it fit
    if s.n_preempted > 0 or queue[leg].arrived_s <= s.now_s:
        return int(low)
    k = first_boundary(s, queue[leg].arrived_s, low, high)
    if p.paged and growth(p, s, slots, k - s.run_k) + need(p, queue, leg) > s.free:
        return int(high)
    return k


@inlined
def pass_run(p: Record, s: Record, slots: NDArray[Record], queue: NDArray[Record], k: int, end_s: float) -> None:
    """Take the run to its boundary `k` at `end_s`."""
    n, B, noise = k - s.run_k, s.n_running, s.decode_factors / s.n_running
    first_j = (p.d_j + p.e_j * B + p.f_j * s.context_tokens) * noise
    spent_j = n * first_j + p.f_j * B * noise * n * (n - 1) / 2
    s.busy_s += n * s.run_first_s + s.run_growth_s * n * (k + s.run_k - 1) / 2
    s.busy_j += spent_j
    if p.paged:
        s.free -= growth(p, s, slots, n - 1)  # those of the last one are claimed there
    s.run_k = k
    s.now_s = s.last_s = end_s
    s.phase = BOUNDARY
    s.run_on = not give_tokens(p, s, slots, queue, n, spent_j / B)
