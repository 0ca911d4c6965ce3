"""Best-first branch and bound over subsets, bounded by a linear relaxation, with the tree as its proof.

A node keeps some experts, excludes others and leaves the rest open. Experts that no longer fit are excluded (budgets
only grow). A part is closed when even all its experts together cover too little, or when the dual of a relaxation,
its own or one solved elsewhere in the tree, says so.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from moe2.selection.growth import Growth
from moe2.selection.objective import Scorer
from moe2.selection.problem import Objective, Problem
from moe2.selection.relaxation import Dual, Relaxation, Solved
from moe2.selection.result import Leaf, Node, Selection, Tree
from moe2.selection.settle import settle

CLOSED = 5e-10  # nats: a part worth at most this much more is not searched
ROOT_ROUNDS, NODE_ROUNDS = 20, 5
POOL = 256  # duals kept for quick bounds
EXCHANGED = 128  # experts up to which subsets are improved by exchanges


def branch_and_bound(
    problem: Problem, *, objective: Objective = "fused", time_limit_s: float = inf, start: tuple[int, ...] = ()
) -> Selection:
    """Return the best feasible subset, or at the time limit the best one found with a proven bound.

    Args:
        problem: with costs "worst".
        objective: what is maximised; both are bounded by coverage, which is closer to itself than to F.
        time_limit_s: seconds after which the search stops.
        start: a feasible subset to start from.
    """
    search = Search.of(problem, objective, started_s=perf_counter(), time_limit_s=time_limit_s)
    if search.growth.addable(()).any():
        if start:
            search.offer(np.flatnonzero(np.isin(search.growth.experts, start)).tolist())
        search.run()
    return search.result("branch_and_bound", search.n_nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """An open part of the tree: its place there, and the dual that bounds it so far."""

    index: int
    inside: NDArray[np.bool_]  # (M,)
    possible: NDArray[np.bool_]  # (M,) inside and open
    active: tuple[int, ...]
    dual: Dual

    @property
    def bound(self) -> float:
        return self.dual.bound(self.inside, self.possible & ~self.inside)


@dataclass(slots=True, kw_only=True)
class Search:
    """The state of one search; read `run`."""

    growth: Growth
    scorer: Scorer
    relaxation: Relaxation
    started_s: float
    time_limit_s: float
    best: float = -inf
    chosen: list[int] = field(default_factory=list)
    nodes: list[Node | Leaf] = field(default_factory=list)
    heap: list[tuple[float, int, _Part]] = field(default_factory=list)
    pool: list[Dual] = field(default_factory=list)
    n_nodes: int = 0
    tick: "count[int]" = field(default_factory=count)

    @classmethod
    def of(cls, problem: Problem, objective: Objective, *, started_s: float, time_limit_s: float) -> "Search":
        """Return a search that has not begun."""
        growth = Growth.of(problem)
        return cls(
            growth=growth,
            scorer=Scorer.of(problem, objective),
            relaxation=Relaxation.of(growth),
            started_s=started_s,
            time_limit_s=time_limit_s,
        )

    def run(self) -> None:
        """Search until nothing is open or the time is up."""
        self.offer(self.growth.first())
        self.heap = [(0.0, 0, self.root())]
        while self.heap and not self.late():
            if self.heap[0][2].bound <= self.best + CLOSED:
                break
            self.expand(heappop(self.heap)[2])
        for _, _, part in self.heap:
            self.nodes[part.index] = _leaf(part.dual)

    def root(self) -> _Part:
        """Return the part that is the whole tree."""
        possible = self.growth.addable(())
        inside = np.zeros_like(possible)
        active = [*range(len(self.relaxation.cuts)), *self.relaxation.separate(0.3 * possible.astype(float), None)]
        solved = self.relaxation.solve(inside, possible, active)
        self.nodes.append(Leaf(why="dual"))
        everyone = np.ones_like(possible)
        return _Part(index=0, inside=inside, possible=everyone, active=solved.tight, dual=solved.dual)

    def bound_root(self) -> None:
        """Bound the best value by the relaxation alone, without a search."""
        part = self.root()
        single = self.growth.addable(())
        solved = self.tighten(part, single)
        dropped = np.flatnonzero(~single)
        self.exclude(part, dropped, _leaf(solved.dual))
        bounded = _Part(
            index=len(self.nodes) - 1, inside=part.inside, possible=single, active=solved.tight, dual=solved.dual
        )
        self.heap = [(0.0, 0, bounded)]

    def late(self) -> bool:
        """Return whether the time is up."""
        return perf_counter() - self.started_s > self.time_limit_s

    def expand(self, part: _Part) -> None:
        """Close a part, or split it in two."""
        self.n_nodes += 1
        kept = np.flatnonzero(part.inside).tolist()
        fits = self.growth.addable(kept)
        if kept and not fits[kept[0]]:
            self.nodes[part.index] = Leaf(why="infeasible")
            return
        possible = (part.possible & fits) | part.inside
        dropped = np.flatnonzero(part.possible & ~possible)
        everyone = np.flatnonzero(possible).tolist()
        self.offer(kept)
        if self.growth.fits(everyone):
            self.offer(everyone)
        if len(everyone) == len(kept) or self.growth.coverage(everyone) <= self.best + CLOSED:
            self.exclude(part, dropped, Leaf(why="single" if len(everyone) == len(kept) else "coverage"))
            return
        dual = self.known_dual(part.inside, possible)
        if dual is not None:
            self.exclude(part, dropped, _leaf(dual))
            return
        solved = self.tighten(part, possible)
        if solved.dual.bound(part.inside, possible & ~part.inside) <= self.best + CLOSED:
            self.exclude(part, dropped, _leaf(solved.dual))
        else:
            self.split(part, possible, dropped, solved)

    def tighten(self, part: _Part, possible: NDArray[np.bool_]) -> Solved:
        """Return the relaxation of a part after some rounds of cuts; the root also rounds for a first subset."""
        root = part.index == 0
        active, bound = list(part.active), inf
        centre = possible * 0.3
        for step in range(ROOT_ROUNDS if root else NODE_ROUNDS):
            solved = self.relaxation.solve(part.inside, possible, active)
            last, bound = bound, min(bound, solved.dual.bound(part.inside, possible & ~part.inside))
            if bound <= self.best + CLOSED or self.late() or (step > 1 and last - bound < 1e-6):
                break
            if root and step % 2 == 0:  # between the last centre and here: deeper cuts in fewer rounds
                fresh = self.relaxation.separate((centre + solved.y) / 2, None)
                centre = (centre + solved.y) / 2
            else:
                fresh = self.relaxation.separate(solved.y, solved.theta)
            if not fresh:
                break
            active += fresh
        self.pool.append(solved.dual)
        del self.pool[:-POOL]
        if root or self.n_nodes % 8 == 0:
            self.round(solved.y + 2.0 * part.inside)
        return solved

    def round(self, scores: NDArray[np.float64]) -> None:
        """Offer the experts of the largest scores that fit together, improved by exchanges where that is quick."""
        packed = self.growth.packed(scores)
        self.offer(self.growth.improved(packed) if packed and self.growth.n_experts <= EXCHANGED else packed)

    def known_dual(self, inside: NDArray[np.bool_], possible: NDArray[np.bool_]) -> Dual | None:
        """Return a dual found elsewhere that closes this part, None if there is none."""
        if not self.pool:
            return None
        slopes = np.array([d.slope for d in self.pool])  # (pool, M)
        bounds = np.array([d.constant for d in self.pool]) + slopes @ inside
        bounds += np.maximum(slopes, 0.0) @ (possible & ~inside)
        place = int(np.argmin(bounds))
        return self.pool[place] if bounds[place] <= self.best + CLOSED else None

    def split(self, part: _Part, possible: NDArray[np.bool_], dropped: NDArray[np.intp], solved: Solved) -> None:
        """Branch on the open expert that the relaxation is least sure of."""
        open_ = possible & ~part.inside
        unsure = np.where(open_, np.minimum(solved.y, 1 - solved.y), -1.0)
        expert = int(np.argmax(unsure))
        first = len(self.nodes)
        self.nodes += [Leaf(why="dual"), Leaf(why="dual")]
        names = self.growth.experts
        self.nodes[part.index] = Node(
            dropped=tuple(names[dropped].tolist()), expert=int(names[expert]), without=first, including=first + 1
        )
        less, more = possible.copy(), part.inside.copy()
        less[expert], more[expert] = False, True
        for index, inside, remaining in ((first, part.inside, less), (first + 1, more, possible)):
            self.push(_Part(index=index, inside=inside, possible=remaining, active=solved.tight, dual=solved.dual))

    def push(self, part: _Part) -> None:
        """Put a part in the queue, best bound first, then the latest."""
        heappush(self.heap, (-part.bound, -next(self.tick), part))

    def exclude(self, part: _Part, dropped: NDArray[np.intp], leaf: Leaf) -> None:
        """Write a leaf from which the experts `dropped` were excluded first."""
        if not dropped.size:
            self.nodes[part.index] = leaf
            return
        self.nodes[part.index] = Node(
            dropped=tuple(self.growth.experts[dropped].tolist()), expert=-1, without=len(self.nodes), including=-1
        )
        self.nodes.append(leaf)

    def offer(self, places: list[int]) -> None:
        """Keep a feasible subset when it is the best so far."""
        if not places:
            return
        if self.scorer.objective == "coverage":
            value = self.growth.coverage(places)
        else:
            value = self.scorer.fused(tuple(sorted(self.growth.experts[places].tolist())))
        if value > self.best:
            self.best, self.chosen = value, places

    def subset(self) -> tuple[int, ...]:
        """Return the best subset found, as experts of the problem."""
        places = self.growth.trimmed(self.chosen) if self.scorer.objective == "coverage" else self.chosen
        return tuple(sorted(self.growth.experts[places].tolist()))

    def upper_bound(self) -> float:
        """Return what no feasible subset exceeds."""
        return max([self.best, *(part.bound for _, _, part in self.heap)])

    def result(self, method: str, n_evaluated: int) -> Selection:
        """Return what was found, with the tree as its proof."""
        tree = Tree(groups=self.relaxation.groups, cuts=tuple(self.relaxation.cuts), nodes=tuple(self.nodes))
        return settle(
            self.scorer.problem,
            self.scorer.objective,
            method,
            subset=self.subset(),
            upper_bound=self.upper_bound(),
            proof=tree,
            n_evaluated=n_evaluated,
            seconds=perf_counter() - self.started_s,
        )


def _leaf(dual: Dual) -> Leaf:
    return Leaf(why="dual", cuts=dual.cuts, multipliers=dual.multipliers)
