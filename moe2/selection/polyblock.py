"""Outer approximation of the feasible subsets by vertices (polyblock), each cut down by minimal infeasible subsets.

Discrete monotonic optimisation (Tuy, Minoux, Hoai-Phuong 2006) on {0, 1}^N: the feasible set is closed downwards, so
it lies below the vertices that remain when a vertex that holds an infeasible subset M is replaced by the vertices
without one expert of M.
"""

from heapq import heappop, heappush
from itertools import count
from math import inf
from time import perf_counter

from moe2.selection.growth import Growth
from moe2.selection.objective import Scorer
from moe2.selection.problem import Objective, Problem
from moe2.selection.result import Cover, Selection
from moe2.selection.settle import settle

CLOSED = 5e-10  # nats


def polyblock(problem: Problem, *, objective: Objective = "fused", time_limit_s: float = inf) -> Selection:
    """Return the best feasible subset; at the time limit the best one found, with a proven bound.

    A vertex is bounded by its coverage. For the objective "fused" a feasible vertex is split too, as a part of it
    may fuse better than all of it.
    """
    started_s = perf_counter()
    growth, scorer = Growth.of(problem), Scorer.of(problem, objective)
    chosen = growth.first()
    best = _value(growth, scorer, chosen) if chosen else -inf
    top = frozenset(range(growth.n_experts))
    splits: dict[frozenset[int], frozenset[int]] = {}
    tick = count()
    heap = [(-growth.coverage(sorted(top)), next(tick), top)]
    seen = {top}
    while heap and chosen and perf_counter() - started_s <= time_limit_s:
        bound, _, vertex = heap[0]
        if -bound <= best + CLOSED:
            break
        heappop(heap)
        core, inner = _split(growth, vertex)
        for subset in (inner,) if inner else ():
            value = _value(growth, scorer, subset)
            if value > best:
                best, chosen = value, subset
        if not core and objective == "coverage":
            continue  # all of it fits: its coverage is its value
        splits[vertex] = core or vertex
        for expert in sorted(core or vertex):
            child = vertex - {expert}
            if child and child not in seen:
                seen.add(child)
                heappush(heap, (-growth.coverage(sorted(child)), next(tick), child))
    names = growth.experts
    return settle(
        problem,
        objective,
        "polyblock",
        subset=tuple(sorted(names[growth.trimmed(chosen) if objective == "coverage" else chosen].tolist())),
        upper_bound=max([best, *(-entry[0] for entry in heap[:1])]),
        proof=Cover(splits={_named(growth, v): _named(growth, m) for v, m in splits.items()}),
        n_evaluated=len(splits),
        seconds=perf_counter() - started_s,
    )


def _split(growth: Growth, vertex: frozenset[int]) -> tuple[frozenset[int], list[int]]:
    """Return a minimal infeasible part of the vertex (empty when it fits) and a part that fits."""
    members = sorted(vertex)
    if growth.fits(members):
        return frozenset(), members
    core = list(members)
    for expert in members:
        rest = [e for e in core if e != expert]
        if rest and not growth.fits(rest):
            core = rest
    inner: list[int] = []
    for expert in members:
        if growth.fits([*inner, expert]):
            inner.append(expert)
    return frozenset(core), inner


def _value(growth: Growth, scorer: Scorer, places: list[int]) -> float:
    if scorer.objective == "coverage":
        return growth.coverage(places)
    return scorer.fused(tuple(sorted(growth.experts[places].tolist())))


def _named(growth: Growth, places: frozenset[int]) -> frozenset[int]:
    return frozenset(growth.experts[sorted(places)].tolist())
