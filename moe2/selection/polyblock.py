"""Outer approximation of the feasible subsets by vertices (polyblock), each cut down by minimal infeasible subsets.

Discrete monotonic optimisation (Tuy, Minoux, Hoai-Phuong 2006) on {0, 1}^N: the feasible set is closed downwards, so
it lies below the vertices that remain when a vertex that holds an infeasible subset M is replaced by the vertices
without one expert of M.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
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

    A vertex is bounded by its coverage. For the objective "fused" a feasible vertex is split too, as a part of it may
    fuse better than all of it. Raises ValueError for expected costs, which do not grow with the subset.
    """
    started_s = perf_counter()
    cover = _GrowingCover.of(problem, objective, until_s=started_s + time_limit_s)
    while cover.is_open() and not cover.late():
        cover.split()
    return settle(
        problem,
        objective,
        "polyblock",
        subset=cover.subset(),
        upper_bound=max([cover.best, *(-entry[0] for entry in cover.heap[:1])]),
        proof=cover.proof(),
        n_evaluated=len(cover.splits),
        seconds=perf_counter() - started_s,
    )


@dataclass(slots=True, kw_only=True)
class _GrowingCover:
    """The vertices above all feasible subsets that are still open, those that were split, and the best subset found."""

    growth: Growth
    scorer: Scorer
    until_s: float  # on the clock of perf_counter
    best: float = -inf
    chosen: list[int] = field(default_factory=list)
    heap: list[tuple[float, int, frozenset[int]]] = field(default_factory=list)  # the largest coverage first
    seen: set[frozenset[int]] = field(default_factory=set)
    splits: dict[frozenset[int], frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, objective: Objective, *, until_s: float) -> "_GrowingCover":
        """Return the cover that is the set of all experts; no vertex where not even one of them fits."""
        cover = cls(growth=Growth.of(problem), scorer=Scorer.of(problem, objective), until_s=until_s)
        first = cover.growth.first()
        if first:
            cover.offer(first)
            cover.add(frozenset(range(cover.growth.n_experts)))
        return cover

    def is_open(self) -> bool:
        """Return whether a vertex may hold something better."""
        return bool(self.heap) and -self.heap[0][0] > self.best + CLOSED

    def late(self) -> bool:
        """Return whether the time is up."""
        return perf_counter() > self.until_s

    def split(self) -> None:
        """Replace the vertex of the largest coverage by those without one expert of what does not fit in it."""
        vertex = self.heap[0][2]
        members = sorted(vertex)
        fits = self.growth.fits(members)
        inner = members if fits else self.inner(members)
        if inner:
            self.offer(inner)
        core = frozenset() if fits else self.core(members)
        if self.late():
            return  # the vertex stays open
        heappop(self.heap)
        if not core and self.scorer.objective == "coverage":
            return  # all of it fits: its coverage is its value
        self.splits[vertex] = core or vertex
        for expert in sorted(core or vertex):
            self.add(vertex - {expert})

    def core(self, members: list[int]) -> frozenset[int]:
        """Return a minimal part of the experts that does not fit; one that is not minimal when it is late."""
        core = list(members)
        for expert in members:
            rest = [e for e in core if e != expert]
            if rest and not self.growth.fits(rest):
                core = rest
            if self.late():
                break
        return frozenset(core)

    def inner(self, members: list[int]) -> list[int]:
        """Return a part of the experts that fits."""
        inner: list[int] = []
        for expert in members:
            if self.growth.fits([*inner, expert]):
                inner.append(expert)
            if self.late():
                break
        return inner

    def add(self, vertex: frozenset[int]) -> None:
        """Open a vertex, once."""
        if vertex and vertex not in self.seen:
            self.seen.add(vertex)
            heappush(self.heap, (-self.growth.coverage(sorted(vertex)), len(self.seen), vertex))

    def offer(self, places: list[int]) -> None:
        """Keep a feasible subset when it is the best so far."""
        value = _value(self.growth, self.scorer, places)
        if value > self.best:
            self.best, self.chosen = value, places

    def subset(self) -> tuple[int, ...]:
        """Return the best subset found, as experts of the problem."""
        trimmed = self.scorer.objective == "coverage"
        return tuple(sorted(_named(self.growth, self.growth.trimmed(self.chosen) if trimmed else self.chosen)))

    def proof(self) -> Cover:
        """Return the splits by experts of the problem."""
        return Cover(splits={_named(self.growth, v): _named(self.growth, m) for v, m in self.splits.items()})


def _value(growth: Growth, scorer: Scorer, places: list[int]) -> float:
    if scorer.objective == "coverage":
        return growth.coverage(places)
    return scorer.fused(tuple(sorted(growth.experts[places].tolist())))


def _named(growth: Growth, places: Iterable[int]) -> frozenset[int]:
    return frozenset(growth.experts[sorted(places)].tolist())
