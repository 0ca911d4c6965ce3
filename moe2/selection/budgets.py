"""Whether a subset fits its budgets, and what to say when no expert does."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, log10

import numpy as np

from moe2.selection.problem import Problem
from moe2.selection.result import Candidate

ROUNDING = 1e-12  # relative: sums in another order must not break a budget that is met exactly


def known_energy(problem: Problem) -> tuple[list[int], tuple[int, ...]]:
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
class Load:
    """A subset's worst-case cost beside one budget."""

    budget: str
    unit: str
    cost: float
    allowed: float

    @property
    def share(self) -> float:
        """Cost over budget; above 1 breaks it."""
        return self.cost / self.allowed


def loads(problem: Problem, candidate: Candidate) -> list[Load]:
    """Return the subset's cost under every finite budget."""
    delays = zip(problem.categories, candidate.delay_s, problem.delay_budget_s.tolist(), strict=True)
    found = [
        Load(budget=f"delay_s of category {category!r}", unit="s", cost=cost_s, allowed=budget_s)
        for category, cost_s, budget_s in delays
        if budget_s < inf
    ]
    if problem.energy_budget_j is not None:
        budget = "energy_j_per_request"
        found.append(Load(budget=budget, unit="J", cost=candidate.energy_j, allowed=problem.energy_budget_j))
    return found


def holds(problem: Problem, candidate: Candidate) -> bool:
    """Return whether the subset fits every budget."""
    return all(load.share <= 1 + ROUNDING for load in loads(problem, candidate))


def why_infeasible(problem: Problem, singles: Sequence[Candidate]) -> str:
    """Return why no expert fits: the tightest budget, and the smallest relaxation that admits one expert."""
    found = [loads(problem, single) for single in singles]  # [expert][budget]
    tightest = max((min(budget, key=lambda load: load.share) for budget in zip(*found, strict=True)), key=_share)
    nearest = min(range(len(singles)), key=lambda i: max(load.share for load in found[i]))
    broken = [load for load in found[nearest] if load.share > 1 + ROUNDING]
    raises = " and ".join(
        f"{load.budget} from {load.allowed:.6g} to {_up(load.cost):.6g} {load.unit}" for load in broken
    )
    by = "in the worst case, not even one expert alone" if problem.costs == "worst" else "by what the gate would choose"
    return (
        f"no subset of experts holds the budgets {by}; tightest budget: "
        f"{tightest.budget} is {tightest.allowed:.6g} {tightest.unit}, the best expert for it needs "
        f"{tightest.cost:.6g} {tightest.unit}; smallest relaxation: raising {raises} admits "
        f"{problem.experts[singles[nearest].subset[0]]!r}"
    )


def _share(load: Load) -> float:
    return load.share


def _up(value: float) -> float:
    """Return the value rounded up to six figures, so that the printed budget is large enough."""
    step = 10.0 ** (floor(log10(value)) - 5)
    return ceil(value / step) * step
