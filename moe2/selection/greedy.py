"""Lazy greedy for coverage, and how far from the best it can be at most."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from moe2.selection.branch_and_bound import EXCHANGED, Search
from moe2.selection.growth import Floats, Growth
from moe2.selection.problem import Problem
from moe2.selection.result import Selection


def greedy(problem: Problem, *, time_limit_s: float = inf) -> Selection:
    """Return a subset of good coverage, and an a-posteriori bound from the linear relaxation.

    Twice, once by gain and once by gain per share of the budgets, the best expert that still fits is added; gains
    only shrink as the subset grows (coverage is submodular), so an old gain is an upper bound and most are never
    computed again (Minoux 1978). The better of the two is returned. Raises ValueError for expected costs: an expert
    that does not fit now could fit later.
    """
    search = Search.of(problem, "coverage", started_s=perf_counter(), time_limit_s=time_limit_s)
    if search.growth.addable(()).any():
        for per_cost in (False, True):
            search.offer(lazy_greedy(search.growth, search.late, per_cost=per_cost))
        if search.growth.n_experts <= EXCHANGED:
            search.offer(search.growth.improved(search.chosen, search.late))
        search.bound_root()
    return search.result("greedy", len(search.chosen))


def lazy_greedy(growth: Growth, late: Callable[[], bool], *, per_cost: bool) -> list[int]:
    """Return places, at least one, added while one fits and improves, and it is not late."""
    chosen: list[int] = []
    best = growth.value.min(axis=1)  # (n,) the worth of nothing: no expert is worth less
    price = _price(growth) if per_cost else np.ones(growth.n_experts)
    start = (growth.value - best[:, None]).mean(axis=0) / price
    heap = [(-gain, place) for place, gain in enumerate(start.tolist())]
    heapify(heap)
    while heap:
        fits = growth.addable(chosen)
        place = _next(growth, heap, best, price, fits)
        if place is None:
            break
        chosen.append(place)
        if late():
            break
        best = np.maximum(best, growth.value[:, place])
    return chosen


def _next(
    growth: Growth, heap: list[tuple[float, int]], best: Floats, price: Floats, fits: NDArray[np.bool_]
) -> int | None:
    """Return the place of the largest gain, computing only gains that could be it; None when none is left."""
    while heap:
        _, place = heappop(heap)
        if not fits[place]:
            continue  # nor will it fit later
        gain = float(np.maximum(growth.value[:, place] - best, 0.0).mean() / price[place])
        if not heap or gain >= -heap[0][0]:
            return place if gain > 0 or not best.size else None
        heappush(heap, (-gain, place))
    return None


def _price(growth: Growth) -> Floats:
    """Return (M,) the largest share of a budget that each expert takes alone."""
    share = growth.mean @ growth.delay_s / growth.delay_budget_s[:, None]  # (J, M)
    if growth.energy_budget_j < inf:
        joules = growth.energy_j.mean(axis=0) + growth.idle_j
        share = np.vstack([share, joules / growth.energy_budget_j])
    return np.asarray(np.maximum(share.max(axis=0, initial=1e-9), 1e-9))
