"""A choice of experts, as arrays: what each could cost and answer on every validation prompt, and the budgets."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Objective = Literal["fused", "coverage"]
OBJECTIVES = ("fused", "coverage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A choice of experts: n prompts, N experts, C categories; every prompt is a validation prompt.

    `energy_j` is NaN for an expert whose energy is unknown. Budgets: +inf is no limit on a category's delay,
    None no limit on energy. `costs` says what the budgets bound:

    - "worst": what the gate could choose at worst. A category's delay is its mean over prompts of the slowest kept
      expert; energy is the mean over prompts of the k costliest kept experts, plus the idle joules of all kept.
      Both grow with the subset, so whatever fits keeps fitting when experts are dropped.
    - "expected": what the gate does choose, the top k: the slowest of those asked, the sum of their joules, the
      same idle joules. This is not monotone: a subset may fit although part of it does not, so only `exhaustive`
      takes it, and nothing is guaranteed when experts are dropped or when another gate routes.
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
    costs: Literal["worst", "expected"] = "worst"

    def __post_init__(self) -> None:
        if self.logits.ndim != 2:
            raise ValueError(f"selection: logits are {self.logits.shape}, must be (prompts, experts)")
        n, N = self.logits.shape
        for name in ("likelihood", "delay_s", "energy_j"):
            if getattr(self, name).shape != (n, N):
                raise ValueError(f"selection: {name} is {getattr(self, name).shape}, must be {(n, N)}")
        if n == 0 or N == 0 or len(self.experts) != N or len(self.idle_j_per_request) != N or len(self.category) != n:
            raise ValueError(f"selection: {n} prompts and {N} experts need names, idle joules and categories")
        if self.costs not in {"worst", "expected"}:
            raise ValueError(f"selection: costs are {self.costs!r}, must be 'worst' or 'expected'")
        if self.k < 1:
            raise ValueError(f"selection: k is {self.k}, must be at least 1")
        self._check_costs()
        self._check_budgets()

    def _check_costs(self) -> None:
        if not np.all((self.likelihood > 0) & (self.likelihood <= 1)) or not np.all(np.isfinite(self.logits)):
            raise ValueError("selection: every likelihood must be above 0 and at most 1, and every logit finite")
        if not np.all((self.delay_s >= 0) & np.isfinite(self.delay_s)):
            raise ValueError("selection: a delay is negative, infinite or NaN; every expert needs a latency profile")
        if np.any(self.energy_j < 0) or np.any(self.idle_j_per_request < 0):  # NaN: not known
            raise ValueError("selection: an energy is negative; joules are at least 0, NaN where they are not known")

    def _check_budgets(self) -> None:
        if len(self.delay_budget_s) != len(self.categories) or not np.all(self.delay_budget_s > 0):
            raise ValueError("selection: every category needs a delay budget above 0 s; inf is no limit")
        if self.energy_budget_j is not None and not self.energy_budget_j > 0:
            raise ValueError(
                f"selection: energy budget is {self.energy_budget_j} J per request, must be above 0 or None"
            )
        if not 0 <= self.category.min() <= self.category.max() < len(self.categories):
            raise ValueError(
                f"selection: category goes from {self.category.min()} to {self.category.max()}, must be places among "
                f"{len(self.categories)} categories"
            )
        seen = np.bincount(self.category, minlength=len(self.categories))
        for c in np.flatnonzero((seen == 0) & np.isfinite(self.delay_budget_s)):
            raise ValueError(
                f"selection: category {self.categories[c]!r} has a delay budget but no validation prompt to "
                "judge it on; leave its budget out"
            )
