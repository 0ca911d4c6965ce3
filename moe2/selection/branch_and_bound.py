"""Best-first branch and bound over subsets, bounded by a linear relaxation, with the tree as its proof.

A node keeps some experts, excludes others and leaves the rest open. Experts that no longer fit are excluded (budgets
only grow), and so is a side of an expert that the dual shows to be worth too little. A part is closed when even all
its experts together cover too little, or when the dual of a relaxation, its own or one solved elsewhere, says so.
"""

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import perf_counter

import numpy as np

from moe2.selection.branching import PseudoCosts
from moe2.selection.growth import Floats, Growth
from moe2.selection.objective import Scorer
from moe2.selection.problem import Objective, Problem
from moe2.selection.relaxation import Dual, Relaxation, Solved
from moe2.selection.result import Leaf, Selection, Tree
from moe2.selection.settle import settle
from moe2.selection.tree import GrowingTree, Part

CLOSED = 5e-10  # nats: a part worth at most this much more is not searched
ROOT_ROUNDS, NODE_ROUNDS = 30, 12
STALLED = 0.1  # of what is left to the best: a round of cuts that gains less is the last
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

    Raises ValueError for expected costs: they do not grow with the subset, so no part of the tree could be closed.
    """
    search = Search.of(problem, objective, started_s=perf_counter(), time_limit_s=time_limit_s)
    if search.growth.addable(()).any():
        if start:
            search.offer(np.flatnonzero(np.isin(search.growth.experts, start)).tolist())
        search.run()
    return search.result("branch_and_bound", search.n_nodes)


@dataclass(slots=True, kw_only=True)
class Search:
    """The state of one search; read `run`."""

    growth: Growth
    scorer: Scorer
    relaxation: Relaxation
    tree: GrowingTree
    pseudo: PseudoCosts
    started_s: float
    time_limit_s: float
    best: float = -inf
    chosen: list[int] = field(default_factory=list)
    heap: list[tuple[float, int, Part]] = field(default_factory=list)
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
            tree=GrowingTree(experts=growth.experts),
            pseudo=PseudoCosts.of(growth.n_experts),
            started_s=started_s,
            time_limit_s=time_limit_s,
        )

    def run(self) -> None:
        """Search until nothing is open or the time is up."""
        self.offer(self.growth.first())
        self.push(self.root())
        while self.heap and not self.late():
            if self.heap[0][2].bound <= self.best + CLOSED:
                break
            self.n_nodes += 1
            part: Part | None = heappop(self.heap)[2]
            while part is not None:
                part = self.looked_at(part)
        for _, _, part in self.heap:
            self.tree.close(part.index, part.dual)

    def root(self) -> Part:
        """Return the part that is the whole tree."""
        possible = self.growth.addable(())
        inside = np.zeros_like(possible)
        self.relaxation.separate(0.3 * possible.astype(float), None)
        solved = self.relaxation.solve(inside, possible)
        return Part(index=0, inside=inside, possible=np.ones_like(possible), dual=solved.dual)

    def bound_root(self) -> None:
        """Bound the best value by the relaxation alone, without a search."""
        part = self.narrowed(self.root())
        if part is not None:
            solved = self.tighten(part)
            self.push(replace(part, dual=solved.dual))
            self.tree.close(part.index, solved.dual)

    def late(self) -> bool:
        """Return whether the time is up."""
        return perf_counter() - self.started_s > self.time_limit_s

    def looked_at(self, part: Part) -> Part | None:
        """Return what is left of a part when something of it was excluded; None when it is closed or was split."""
        narrow = self.narrowed(part)
        if narrow is None or self.closed(narrow):
            return None
        solved = self.tighten(narrow)
        if narrow.bound_by(solved.dual) <= self.best + CLOSED:
            self.tree.close(narrow.index, solved.dual)
            return None
        if self.late():
            self.push(replace(narrow, dual=solved.dual))
            return None
        fixed = self.narrowed(self.fixed(replace(narrow, dual=solved.dual)))
        if fixed is None or not fixed.open_.any() or (solved.y[narrow.possible & ~fixed.possible] > 0).any():
            return fixed  # less than it was: look again
        return self.split(fixed, solved.y)

    def narrowed(self, part: Part) -> Part | None:
        """Return the part without the experts that no longer fit; None, closed, when what it keeps does not fit."""
        kept = np.flatnonzero(part.inside).tolist()
        fits = self.growth.addable(kept)
        if kept and not fits[kept[0]]:
            self.tree.close(part.index, Leaf(why="infeasible"))
            return None
        possible = (part.possible & fits) | part.inside
        index = self.tree.drop(part.index, np.flatnonzero(part.possible & ~possible).tolist())
        return replace(part, index=index, possible=possible)

    def closed(self, part: Part) -> bool:
        """Return whether a part is closed without a linear program; offer what it keeps."""
        kept, everyone = np.flatnonzero(part.inside).tolist(), np.flatnonzero(part.possible).tolist()
        self.offer(kept)
        if self.growth.fits(everyone):
            self.offer(everyone)
        if len(everyone) == len(kept):
            self.tree.close(part.index, Leaf(why="single"))
        elif self.growth.coverage(everyone) <= self.best + CLOSED:
            self.tree.close(part.index, Leaf(why="coverage"))
        else:
            dual = self.known_dual(part)
            if dual is None:
                return False
            self.tree.close(part.index, dual)
        return True

    def tighten(self, part: Part) -> Solved:
        """Return the relaxation of a part after some rounds of cuts; the root also rounds for a first subset."""
        root = self.n_nodes <= 1
        bound = inf
        centre = part.possible * 0.3
        for step in range(ROOT_ROUNDS if root else NODE_ROUNDS):
            solved = self.relaxation.solve(part.inside, part.possible)
            last, bound = bound, min(bound, part.bound_by(solved.dual))
            left = bound - self.best
            if left <= CLOSED or self.late() or (step > 1 and last - bound < STALLED * left):
                break
            if root and step % 2 == 0:  # between the last centre and here: deeper cuts in fewer rounds
                centre = (centre + solved.y) / 2
                fresh = self.relaxation.separate(centre, None)
            else:
                fresh = self.relaxation.separate(solved.y, solved.theta)
            if not fresh:
                break
        self.pool.append(solved.dual)
        del self.pool[:-POOL]
        if root or self.n_nodes % 8 == 0:
            self.round(solved.y + 2.0 * part.inside)
        return solved

    def round(self, scores: Floats) -> None:
        """Offer the experts of the largest scores that fit together, improved by exchanges where that is quick."""
        packed = self.growth.packed(scores)
        few = packed and self.growth.n_experts <= EXCHANGED
        self.offer(self.growth.improved(packed, self.late) if few else packed)

    def known_dual(self, part: Part) -> Dual | None:
        """Return a dual found elsewhere that closes this part, None if there is none."""
        if not self.pool:
            return None
        slopes = np.array([d.slope for d in self.pool])  # (pool, M)
        bounds = np.array([d.constant for d in self.pool]) + slopes @ part.inside
        bounds += np.maximum(slopes, 0.0) @ part.open_
        place = int(np.argmin(bounds))
        return self.pool[place] if bounds[place] <= self.best + CLOSED else None

    def fixed(self, part: Part) -> Part:
        """Return the part without the sides of open experts that its own dual closes (reduced costs)."""
        slack = part.bound - self.best - CLOSED
        slope = part.dual.slope
        for place in np.flatnonzero(part.open_ & (np.abs(slope) >= slack)).tolist():
            part = self.without_side(part, place, kept=bool(slope[place] < 0), why=part.dual)
        return part

    def without_side(self, part: Part, place: int, *, kept: bool, why: Dual) -> Part:
        """Close the side of an expert (kept or excluded) and return the other one."""
        without, including = self.tree.branch(part.index, place)
        self.tree.close(including if kept else without, why)
        return part.side(place, kept=not kept, index=without if kept else including, dual=part.dual)

    def split(self, part: Part, y: Floats) -> Part | None:
        """Branch on the most promising expert; or return what is left when trying one closed a side of it."""
        scores = self.pseudo.scores(y, part.open_)
        tried: dict[int, list[Part]] = {}
        for place in self.pseudo.unsure(scores):
            tried[place] = []
            for side in (0, 1):
                half = self.half(part, place, side, moved=abs(side - y[place]))
                if half.bound <= self.best + CLOSED:
                    return self.without_side(part, place, kept=bool(side), why=half.dual)
                tried[place].append(half)
            scores[place] = self.pseudo.score(*(part.bound - half.bound for half in tried[place]))
        chosen = int(np.argmax(scores))
        duals = [half.dual for half in tried.get(chosen, [part, part])]
        for side, index in enumerate(self.tree.branch(part.index, chosen)):
            self.push(part.side(chosen, kept=bool(side), index=index, dual=duals[side]))
        return None

    def half(self, part: Part, place: int, side: int, *, moved: float) -> Part:
        """Return one side of an expert (0: excluded, 1: kept) with the better of its own and the part's dual."""
        half = part.side(place, kept=bool(side), index=-1, dual=part.dual)
        own = self.relaxation.solve(half.inside, half.possible, probe=True).dual
        self.pseudo.learn(place, side, part.bound - half.bound_by(own), moved)
        return replace(half, dual=own) if half.bound_by(own) < half.bound else half

    def push(self, part: Part) -> None:
        """Put a part in the queue, best bound first, then the latest."""
        heappush(self.heap, (-part.bound, -next(self.tick), part))

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
        cuts = self.relaxation.cuts
        tree = Tree(groups=cuts.groups, cuts=tuple(cuts.made), nodes=tuple(self.tree.nodes))
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
