"""The coarse level: which experts to keep, under budgets that bound the worst case the gate could choose.

Objective and budgets are DESIGN's "Selection objective" and "Budgets bound the worst case". Every subset of a
feasible subset is feasible (both costs grow with the subset), so the best feasible F is also the best feasible
F_bar(S) = max over T within S of F(T): to maximise F over feasible subsets is enough.
"""

from dataclasses import dataclass
from itertools import combinations
from math import ceil, floor, inf, log10
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MAX_EXPERTS = 16  # 65,535 subsets: about two minutes on 1,700 prompts
TIE = 1e-12  # values closer than this are ties: fewest experts first, then lowest indices
LISTED = 5  # subsets listed beside the chosen one


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A choice of experts: n prompts, N experts, C categories; every prompt is a validation prompt.

    `energy_j` is NaN for an expert whose energy is unknown. Budgets: +inf is no limit on a category's delay,
    None no limit on energy.
    """

    experts: tuple[str, ...]  # (N,) names
    categories: tuple[str, ...]  # (C,) names
    logits: NDArray[np.floating]  # (n, N) of the gate
    likelihood: NDArray[np.float64]  # (n, N) p_n(gold | x), above 0
    delay_s: NDArray[np.float64]  # (n, N)
    energy_j: NDArray[np.float64]  # (n, N)
    category: NDArray[np.intp]  # (n,) index into categories
    delay_budget_s: NDArray[np.float64]  # (C,)
    energy_budget_j: float | None  # per request
    idle_j_per_request: NDArray[np.float64]  # (N,) idle watts / planned requests per second
    k: int

    def __post_init__(self) -> None:
        n, N = self.logits.shape
        for name in ("likelihood", "delay_s", "energy_j"):
            if getattr(self, name).shape != (n, N):
                raise ValueError(f"selection: {name} is {getattr(self, name).shape}, must be {(n, N)}")
        if n == 0 or len(self.experts) != N or len(self.idle_j_per_request) != N or len(self.category) != n:
            raise ValueError(f"selection: {n} prompts and {N} experts need names, idle joules and categories")
        if self.k < 1:
            raise ValueError(f"selection: k is {self.k}, must be at least 1")
        if not np.all(self.likelihood > 0) or not np.all(np.isfinite(self.logits)):
            raise ValueError("selection: every likelihood must be above 0 and every logit finite")
        if not np.all(self.delay_s >= 0):
            raise ValueError("selection: a delay is negative or NaN; every expert needs a latency profile")
        self._check_budgets()

    def _check_budgets(self) -> None:
        if len(self.delay_budget_s) != len(self.categories) or not np.all(self.delay_budget_s > 0):
            raise ValueError("selection: every category needs a delay budget above 0 s; inf is no limit")
        if self.energy_budget_j is not None and not self.energy_budget_j > 0:
            raise ValueError(
                f"selection: energy budget is {self.energy_budget_j} J per request, must be above 0 or None"
            )
        seen = np.bincount(self.category, minlength=len(self.categories))
        for c in np.flatnonzero((seen == 0) & np.isfinite(self.delay_budget_s)):
            raise ValueError(
                f"selection: category {self.categories[c]!r} has a delay budget but no validation prompt to "
                "judge it on; leave its budget out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One subset: its objective F and its worst-case costs."""

    subset: tuple[int, ...]  # indices of experts, ascending
    value: float  # F: mean log-likelihood of the fused answer, nats per prompt
    delay_s: tuple[float, ...]  # worst case by category; NaN for a category without prompts
    energy_j: float  # worst case per request; NaN when unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen subset, how good it is, and what stood beside it."""

    subset: tuple[int, ...]
    value: float
    upper_bound: float  # no feasible subset is better than this
    gap: float  # upper_bound - value
    status: Literal["optimal", "gap", "infeasible"]
    n_evaluated: int
    seconds: float
    delay_s: tuple[float, ...]  # worst case by category
    energy_j: float  # worst case per request; NaN when unknown
    alternatives: tuple[Candidate, ...]  # the next best feasible subsets
    refused: tuple[Candidate, ...]  # the best of the subsets that would be better but break a budget
    left_out: tuple[int, ...]  # experts whose energy is unknown, under an energy budget


def exhaustive(problem: Problem) -> Selection:
    """Return the best feasible subset by trying all; ties: fewest experts, then the lowest indices.

    Raises ValueError when no single expert is feasible (naming the tightest budget and the smallest relaxation
    that admits an expert) and for more than 16 experts.
    """
    started_s = perf_counter()
    allowed, left_out = _known_energy(problem)
    if len(allowed) > MAX_EXPERTS:
        raise ValueError(
            f"exhaustive selection tries every subset: {len(allowed)} experts found, at most {MAX_EXPERTS} are "
            "allowed; name the subset in the scenario, or drop experts"
        )
    objective = _Objective.of(problem)
    candidates = [
        objective.candidate(subset) for size in range(1, len(allowed) + 1) for subset in combinations(allowed, size)
    ]
    feasible = [c for c in candidates if _holds(problem, c)]
    if not feasible:
        raise ValueError(_infeasible(problem, candidates[: len(allowed)]))
    best = feasible[0]  # smaller and lower subsets come first: only a clear gain displaces them
    for candidate in feasible[1:]:
        if candidate.value > best.value + TIE:
            best = candidate
    others = sorted((c for c in feasible if c is not best), key=lambda c: -c.value)
    better = [c for c in candidates if c.value > best.value + TIE and not _holds(problem, c)]
    return Selection(
        subset=best.subset,
        value=best.value,
        upper_bound=best.value,
        gap=0.0,
        status="optimal",
        n_evaluated=len(candidates),
        seconds=perf_counter() - started_s,
        delay_s=best.delay_s,
        energy_j=best.energy_j,
        alternatives=tuple(others[:LISTED]),
        refused=tuple(sorted(better, key=lambda c: -c.value)[:LISTED]),
        left_out=left_out,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objective:
    """The problem's arrays, experts of each prompt sorted by the gate, so that a subset costs one pass."""

    problem: Problem
    order: NDArray[np.intp]  # (n, N) experts, best first; ties: the lower index
    logits: NDArray[np.float64]  # (n, N) in that order
    likelihood: NDArray[np.float64]  # (n, N) in that order
    by_energy: NDArray[np.intp]  # (n, N) experts, most joules first

    @classmethod
    def of(cls, problem: Problem) -> "_Objective":
        order = np.argsort(-problem.logits, axis=1, kind="stable")
        return cls(
            problem=problem,
            order=order,
            logits=np.take_along_axis(np.asarray(problem.logits, dtype=np.float64), order, axis=1),
            likelihood=np.take_along_axis(problem.likelihood, order, axis=1),
            by_energy=np.argsort(-problem.energy_j, axis=1, kind="stable"),
        )

    def candidate(self, subset: tuple[int, ...]) -> Candidate:
        """Return F and the worst-case costs of one subset."""
        p, members = self.problem, list(subset)
        kept = np.zeros(len(p.experts), dtype=bool)
        kept[members] = True
        chosen = kept[self.order]  # (n, N)
        chosen &= np.cumsum(chosen, axis=1) <= p.k
        logits = np.where(chosen, self.logits, -inf)
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        mixture = (weight * self.likelihood).sum(axis=1) / weight.sum(axis=1)  # (n,)
        slowest_s = p.delay_s[:, members].max(axis=1)  # (n,)
        with np.errstate(invalid="ignore"):  # 0 / 0: a category without prompts is NaN
            delay_s = np.bincount(p.category, slowest_s, len(p.categories)) / np.bincount(
                p.category, minlength=len(p.categories)
            )
        return Candidate(
            subset=subset,
            value=float(np.log(mixture).mean()),
            delay_s=tuple(delay_s.tolist()),
            energy_j=self._energy_j(kept),
        )

    def _energy_j(self, kept: NDArray[np.bool_]) -> float:
        p = self.problem
        costly = kept[self.by_energy]
        costly &= np.cumsum(costly, axis=1) <= p.k
        joules = np.take_along_axis(p.energy_j, self.by_energy, axis=1)
        if np.isnan(p.energy_j[:, kept]).any():
            return float("nan")
        return float(np.where(costly, joules, 0.0).sum(axis=1).mean() + p.idle_j_per_request[kept].sum())


def _known_energy(problem: Problem) -> tuple[list[int], tuple[int, ...]]:
    """Return the experts that may be chosen, and those left out because their energy is unknown."""
    unknown = np.isnan(problem.energy_j).any(axis=0) | np.isnan(problem.idle_j_per_request)
    if problem.energy_budget_j is None:
        unknown[:] = False
    allowed = np.flatnonzero(~unknown).tolist()
    if not allowed:
        raise ValueError(
            f"an energy budget of {problem.energy_budget_j} J per request cannot be judged: no expert's energy is "
            "known; give one of the profiles prefill_j, decode_j and idle_w, or drop the budget"
        )
    return allowed, tuple(np.flatnonzero(unknown).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """A subset's worst-case cost beside one budget."""

    budget: str
    unit: str
    cost: float
    allowed: float

    @property
    def share(self) -> float:
        """Cost over budget; above 1 breaks it."""
        return self.cost / self.allowed


def _loads(problem: Problem, candidate: Candidate) -> list[_Load]:
    """Return the subset's cost under every finite budget."""
    delays = zip(problem.categories, candidate.delay_s, problem.delay_budget_s.tolist(), strict=True)
    loads = [
        _Load(budget=f"delay_s of category {category!r}", unit="s", cost=cost_s, allowed=budget_s)
        for category, cost_s, budget_s in delays
        if budget_s < inf
    ]
    if problem.energy_budget_j is not None:
        budget = "energy_j_per_request"
        loads.append(_Load(budget=budget, unit="J", cost=candidate.energy_j, allowed=problem.energy_budget_j))
    return loads


def _holds(problem: Problem, candidate: Candidate) -> bool:
    return all(load.share <= 1 for load in _loads(problem, candidate))


def _infeasible(problem: Problem, singles: list[Candidate]) -> str:
    """Return why no expert fits: the tightest budget, and the smallest relaxation that admits one expert."""
    loads = [_loads(problem, single) for single in singles]  # [expert][budget]
    tightest = max((min(budget, key=lambda load: load.share) for budget in zip(*loads, strict=True)), key=_share)
    nearest = min(range(len(singles)), key=lambda i: max(load.share for load in loads[i]))
    broken = [load for load in loads[nearest] if load.share > 1]
    raises = " and ".join(
        f"{load.budget} from {load.allowed:.6g} to {_up(load.cost):.6g} {load.unit}" for load in broken
    )
    return (
        "no subset of experts holds the budgets in the worst case, not even one expert alone; tightest budget: "
        f"{tightest.budget} is {tightest.allowed:.6g} {tightest.unit}, the best expert for it needs "
        f"{tightest.cost:.6g} {tightest.unit}; smallest relaxation: raising {raises} admits "
        f"{problem.experts[singles[nearest].subset[0]]!r}"
    )


def _share(load: _Load) -> float:
    return load.share


def _up(value: float) -> float:
    """Return the value rounded up to six figures, so that the printed budget is large enough."""
    step = 10.0 ** (floor(log10(value)) - 5)
    return ceil(value / step) * step
