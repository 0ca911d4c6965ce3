"""An independent check of a selection's claim; shares no code with the solvers, only the records they write.

Everything is computed again from the problem's arrays: values, costs, each cut's coefficients, each leaf's bound.
Sums in another order differ in the last bits: values and bounds are compared with a tolerance of 1e-9. A budget may
be exceeded by rounding only, and what is claimed to exceed it must do so by more: met exactly, it is met.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import inf, isfinite, isnan

import numpy as np
from numpy.typing import NDArray

from moe2.selection.problem import OBJECTIVES, Objective, Problem
from moe2.selection.result import Certificate, Cover, Cut, Enumeration, Leaf, Node, Tree

TOLERANCE = 1e-9  # nats
AT_MOST, OVER = 2e-12, 5e-13  # relative, either side of the rounding of 1e-12 that a budget is given
ENUMERATED = 16  # experts


def verify(certificate: Certificate) -> None:
    """Raise ValueError unless the subset fits, is worth its value, and nothing that fits exceeds the upper bound.

    An empty subset is worth -inf; with a bound of -inf the claim is that nothing fits. An enumeration is repeated
    here, for up to 16 experts; it is the one proof that holds for expected costs, which do not grow with the subset.
    """
    problem, proof = certificate.problem, certificate.proof
    _check_subset(certificate)
    if not isinstance(proof, Enumeration):
        _check(problem.costs == "worst", "only an enumeration proves anything of expected costs")
    if certificate.upper_bound == -inf and problem.costs == "worst":
        _check(not any(fits(problem, (i,), OVER) for i in known(problem)), "an expert fits alone")
    elif isinstance(proof, Tree):
        _TreeCheck(certificate, proof).run()
    elif isinstance(proof, Cover):
        _check_cover(certificate, proof)
    else:
        _check_enumeration(certificate, proof)


def _check_subset(certificate: Certificate) -> None:
    """Check the subset that is claimed to fit, and what it is worth."""
    problem, subset, claimed = certificate.problem, certificate.subset, certificate.value
    _check(certificate.objective in OBJECTIVES, f"the objective {certificate.objective!r} is not known")
    _check(not isnan(certificate.upper_bound), "the bound is not a number")
    if not subset:
        _check(claimed == -inf, f"an empty subset is worth nothing, not {claimed}")
        return
    _check(set(subset) <= set(known(problem)) and len(set(subset)) == len(subset), f"subset {subset} is not allowed")
    _check(fits(problem, subset), f"subset {subset} breaks a budget")
    value = worth(problem, certificate.objective, subset)
    _check(abs(value - claimed) <= TOLERANCE, f"subset {subset} is worth {value}, not {claimed}")
    _check(certificate.upper_bound >= value - TOLERANCE, f"the bound {certificate.upper_bound} is below the value")


def _check(holds: bool, complaint: str) -> None:
    if not holds:
        raise ValueError(f"certificate refused: {complaint}")


def known(problem: Problem) -> list[int]:
    """Return the experts whose energy is known, all of them where no energy budget is set."""
    if problem.energy_budget_j is None:
        return list(range(len(problem.experts)))
    unknown = np.isnan(problem.energy_j).any(axis=0) | np.isnan(problem.idle_j_per_request)
    return [i for i in range(len(problem.experts)) if not unknown[i]]


def worth(problem: Problem, objective: Objective, subset: Sequence[int]) -> float:
    """Return the objective of a subset, by its definition."""
    members = sorted(subset)
    likelihood = problem.likelihood[:, members]
    if objective == "coverage":
        return float(np.mean(np.log(likelihood.max(axis=1))))
    asked = _asked(problem, members)
    logits = np.take_along_axis(problem.logits[:, members].astype(float), asked, axis=1)
    weights = np.exp(logits - logits[:, :1])
    mixture = (weights * np.take_along_axis(likelihood, asked, axis=1)).sum(axis=1) / weights.sum(axis=1)
    return float(np.mean(np.log(mixture)))


def fits(problem: Problem, subset: Sequence[int], slack: float = AT_MOST) -> bool:
    """Return whether the subset's costs are within the budgets times 1 + slack."""
    members = sorted(subset)
    delay_s, energy_j = problem.delay_s[:, members], problem.energy_j[:, members]
    if problem.costs == "expected":
        asked = _asked(problem, members)
        delay_s, energy_j = (np.take_along_axis(cost, asked, axis=1) for cost in (delay_s, energy_j))
    slowest_s = delay_s.max(axis=1)
    for c, budget_s in enumerate(problem.delay_budget_s.tolist()):
        rows = problem.category == c
        if budget_s < inf and slowest_s[rows].mean() > budget_s * (1 + slack):
            return False
    if problem.energy_budget_j is None:
        return True
    costliest = np.sort(energy_j, axis=1)[:, -problem.k :].sum(axis=1).mean()
    joules = costliest + problem.idle_j_per_request[members].sum()
    return bool(joules <= problem.energy_budget_j * (1 + slack))


def _asked(problem: Problem, subset: Sequence[int]) -> NDArray[np.intp]:
    """Return (n, k) the places in the subset of the k largest logits; ties: the lower expert."""
    return np.argsort(-problem.logits[:, sorted(subset)], axis=1, kind="stable")[:, : problem.k]


def _check_enumeration(certificate: Certificate, proof: Enumeration) -> None:
    problem, experts = certificate.problem, known(certificate.problem)
    _check(isinstance(proof, Enumeration), f"a proof of type {type(proof).__name__} is not known")
    _check(len(experts) <= ENUMERATED, f"{len(experts)} experts are too many to enumerate")
    bound = certificate.upper_bound + TOLERANCE
    for subset in (s for size in range(1, len(experts) + 1) for s in combinations(experts, size)):
        if worth(problem, certificate.objective, subset) > bound:
            _check(not fits(problem, subset, OVER), f"subset {subset} fits and exceeds the bound")


def _check_cover(certificate: Certificate, proof: Cover) -> None:
    """Every feasible subset lies below a vertex that is worth at most the bound, or was looked at itself."""
    problem, bound = certificate.problem, certificate.upper_bound + TOLERANCE
    waiting = [frozenset(known(problem))]
    seen = set(waiting)
    while waiting:
        vertex = waiting.pop()
        if not vertex or worth(problem, "coverage", sorted(vertex)) <= bound:
            continue
        core = proof.splits.get(vertex)
        _check(core is not None, f"vertex {sorted(vertex)} is worth more than the bound and not split")
        assert core is not None  # noqa: S101 - for the type checker
        _check(bool(core) and core <= vertex, f"vertex {sorted(vertex)} is split at experts it does not hold")
        if fits(problem, sorted(core), OVER):
            _check(core == vertex, f"the part {sorted(core)} fits, so it cannot split vertex {sorted(vertex)}")
            value = worth(problem, certificate.objective, sorted(vertex))
            _check(value <= bound, f"subset {sorted(vertex)} fits and exceeds the bound")
        for child in (vertex - {expert} for expert in core):
            if child not in seen:
                seen.add(child)
                waiting.append(child)


class _TreeCheck:
    """The walk through a search tree."""

    def __init__(self, certificate: Certificate, tree: Tree) -> None:
        self.problem, self.objective, self.tree = certificate.problem, certificate.objective, tree
        self.bound = certificate.upper_bound + TOLERANCE
        self.value = np.log(self.problem.likelihood)
        n = len(self.value)
        groups = np.asarray(tree.groups)
        _check(groups.shape == (n,) and groups.dtype.kind in "iu" and groups.min() >= 0, "prompts lack a group")
        self.rows_of = [np.flatnonzero(groups == g) for g in range(int(groups.max()) + 1)]
        _check(all(rows.size for rows in self.rows_of), "a group holds no prompt")
        self.share = np.array([rows.size / n for rows in self.rows_of])
        allowed = self.value[:, known(self.problem)]
        self.low = np.array([allowed[rows].min(axis=1).mean() for rows in self.rows_of])
        self.high = np.array([allowed[rows].max(axis=1).mean() for rows in self.rows_of])
        self.cuts: dict[int, tuple[NDArray[np.float64], int, float]] = {}

    def run(self) -> None:
        """Check that the leaves cover every subset and that each is closed rightly."""
        nodes = self.tree.nodes
        _check(bool(nodes), "the tree is empty")
        waiting = [(0, frozenset[int](), frozenset(known(self.problem)))]
        while waiting:
            index, inside, possible = waiting.pop()
            node = nodes[index]
            if isinstance(node, Leaf):
                self.check_leaf(node, sorted(inside), sorted(possible))
            else:
                waiting += self.children(index, node, inside, possible)

    def children(
        self, index: int, node: Node, inside: frozenset[int], possible: frozenset[int]
    ) -> Iterable[tuple[int, frozenset[int], frozenset[int]]]:
        """Return the parts a node is split into."""
        dropped = frozenset(node.dropped) & possible
        _check(not dropped & inside, f"node {index} drops what it keeps")
        for expert in dropped:
            _check(not fits(self.problem, [*inside, expert], OVER), f"node {index}: expert {expert} still fits")
        rest = possible - dropped
        places = [node.without] if node.expert == -1 else [node.without, node.including]
        _check(all(index < place < len(self.tree.nodes) for place in places), f"node {index} has no such child")
        if node.expert == -1:
            return [(node.without, inside, rest)]
        _check(node.expert in rest - inside, f"node {index} branches on an expert that is not open")
        return [(node.without, inside, rest - {node.expert}), (node.including, inside | {node.expert}, rest)]

    def check_leaf(self, leaf: Leaf, inside: list[int], possible: list[int]) -> None:
        """Check why a part was closed."""
        if not possible:
            return  # only the empty subset, which serves nobody
        if leaf.why == "infeasible":
            _check(bool(inside) and not fits(self.problem, inside, OVER), f"subset {inside} fits after all")
        elif leaf.why == "single":
            _check(inside == possible, f"a leaf of {len(possible)} experts is not a single subset")
            worse = worth(self.problem, self.objective, inside) <= self.bound
            _check(worse or not fits(self.problem, inside, OVER), f"subset {inside} exceeds the bound")
        elif leaf.why == "coverage":
            _check(worth(self.problem, "coverage", possible) <= self.bound, f"experts {possible} exceed the bound")
        else:
            _check(self.dual_bound(leaf, inside, possible) <= self.bound, f"the dual above {inside} is too weak")

    def dual_bound(self, leaf: Leaf, inside: list[int], possible: list[int]) -> float:
        """Return the bound that the multipliers prove: theta in its range, experts inside 1, open ones 0 or 1."""
        price = leaf.multipliers
        _check(len(price) == len(leaf.cuts) and all(m >= 0 and isfinite(m) for m in price), "wrong multipliers")
        slope, left, constant = np.zeros(len(self.problem.experts)), self.share.copy(), 0.0
        for index, multiplier in zip(leaf.cuts, price, strict=True):
            row, group, limit = self.cut(index)
            slope -= multiplier * row
            constant += multiplier * limit
            if group >= 0:
                left[group] -= multiplier
        constant += float(np.maximum(left * self.low, left * self.high).sum())
        open_ = [i for i in possible if i not in set(inside)]
        return constant + float(slope[inside].sum() + np.maximum(slope[open_], 0.0).sum())

    def cut(self, index: int) -> tuple[NDArray[np.float64], int, float]:
        """Return the coefficients (N,), the group (-1: none) and the limit of a cut, computed once."""
        if index not in self.cuts:
            _check(0 <= index < len(self.tree.cuts), f"there is no cut {index}")
            cut = self.tree.cuts[index]
            self.cuts[index] = self._value_cut(cut) if cut.kind == "value" else self._cost_cut(cut)
        return self.cuts[index]

    def _value_cut(self, cut: Cut) -> tuple[NDArray[np.float64], int, float]:
        _check(0 <= cut.index < len(self.rows_of) and cut.levels is not None, "a value cut has no group or levels")
        assert cut.levels is not None  # noqa: S101 - for the type checker
        rows, u = self.rows_of[cut.index], np.asarray(cut.levels, dtype=float)
        _check(u.shape == rows.shape and bool(np.isfinite(u).all()), "a value cut has wrong levels")
        excess = np.clip(self.value[rows] - u[:, None], 0.0, None).mean(axis=0)
        return -excess, cut.index, float(u.mean())

    def _cost_cut(self, cut: Cut) -> tuple[NDArray[np.float64], int, float]:
        order = [] if cut.order is None else np.asarray(cut.order).tolist()
        _check(len(set(order)) == len(order) > 0 and set(order) <= set(known(self.problem)), "a cut has a wrong order")
        row = np.zeros(len(self.problem.experts))
        before = 0.0
        for size, expert in enumerate(order, start=1):
            cost = self._cost(cut, order[:size]) if size <= 2 else self._next_cost(cut, expert)
            row[expert] = cost - before
            before = cost
        return row, -1, 1.0

    def _cost(self, cut: Cut, members: list[int]) -> float:
        """Return the cost of a few experts as a share of the budget, and remember it prompt by prompt."""
        p = self.problem
        if cut.kind == "delay":
            budget_s = float(p.delay_budget_s[cut.index]) if 0 <= cut.index < len(p.categories) else inf
            _check(budget_s < inf, f"category {cut.index} has no delay budget")
            self.kept = p.delay_s[p.category == cut.index][:, members].max(axis=1)
            return float(self.kept.mean()) / budget_s
        _check(cut.kind == "energy" and p.energy_budget_j is not None, f"a cut of kind {cut.kind!r} has no budget")
        self.kept = -np.sort(-p.energy_j[:, members], axis=1)[:, : p.k]
        self.idle_j = float(p.idle_j_per_request[members].sum())
        return (float(self.kept.sum(axis=1).mean()) + self.idle_j) / float(p.energy_budget_j or inf)

    def _next_cost(self, cut: Cut, expert: int) -> float:
        """Return the share with one expert more than were remembered."""
        p = self.problem
        if cut.kind == "delay":
            self.kept = np.maximum(self.kept, p.delay_s[p.category == cut.index, expert])
            return float(self.kept.mean()) / float(p.delay_budget_s[cut.index])
        self.kept = -np.sort(-np.column_stack([self.kept, p.energy_j[:, expert]]), axis=1)[:, : p.k]
        self.idle_j += float(p.idle_j_per_request[expert])
        return (float(self.kept.sum(axis=1).mean()) + self.idle_j) / float(p.energy_budget_j or inf)
