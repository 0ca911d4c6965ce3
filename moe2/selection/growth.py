"""Worst-case costs and coverage as subsets grow: the arrays behind every method that uses monotonicity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from moe2.selection.budgets import ROUNDING, known_energy
from moe2.selection.problem import Problem

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The M experts that may be chosen; places 0..M-1 here are `experts` of the problem."""

    experts: NDArray[np.intp]  # (M,)
    left_out: tuple[int, ...]
    value: Floats  # (n, M) log p_n(gold | x)
    delay_s: Floats  # (n, M)
    energy_j: Floats  # (n, M); empty when there is no energy budget
    idle_j: Floats  # (M,)
    k: int
    mean: Floats  # (J, n) averages over the prompts of each category that has a budget
    categories: NDArray[np.intp]  # (J,)
    delay_budget_s: Floats  # (J,)
    energy_budget_j: float  # inf: no budget

    @classmethod
    def of(cls, problem: Problem) -> "Growth":
        """Return the arrays; ValueError for expected costs, which do not grow with the subset."""
        if problem.costs != "worst":
            raise ValueError(
                "budgets on expected costs are not monotone in the subset; only method 'exhaustive' takes them, up to "
                "16 experts; use costs 'worst' for more"
            )
        allowed, left_out = known_energy(problem)
        J = np.flatnonzero(np.isfinite(problem.delay_budget_s))
        member = (problem.category[None, :] == J[:, None]).astype(float)  # (J, n)
        bounded = problem.energy_budget_j is not None
        return cls(
            experts=np.array(allowed, dtype=np.intp),
            left_out=left_out,
            value=np.log(problem.likelihood[:, allowed]),
            delay_s=problem.delay_s[:, allowed],
            energy_j=problem.energy_j[:, allowed] if bounded else np.zeros((len(problem.category), 0)),
            idle_j=problem.idle_j_per_request[allowed],
            k=problem.k,
            mean=member / member.sum(axis=1, keepdims=True),
            categories=J,
            delay_budget_s=problem.delay_budget_s[J],
            energy_budget_j=inf if problem.energy_budget_j is None else problem.energy_budget_j,
        )

    @property
    def n_experts(self) -> int:
        """M."""
        return len(self.experts)

    def coverage(self, subset: Sequence[int]) -> float:
        """Return F_max of places; -inf for none."""
        return float(self.value[:, list(subset)].max(axis=1).mean()) if len(subset) else -inf

    def addable(self, subset: Sequence[int]) -> NDArray[np.bool_]:
        """Return (M,) whether the subset still fits with each expert added; for its members, whether it fits."""
        members = list(subset)
        slowest_s = self.delay_s[:, members].max(axis=1, initial=0.0, keepdims=True)  # (n, 1)
        delay_s = self.mean @ np.maximum(self.delay_s, slowest_s)  # (J, M)
        fits = np.asarray((delay_s <= self.delay_budget_s[:, None] * (1 + ROUNDING)).all(axis=0))
        if self.energy_budget_j < inf:
            fits &= self._joules_with(members) <= self.energy_budget_j * (1 + ROUNDING)
        return fits

    def fits(self, subset: Sequence[int]) -> bool:
        """Return whether a subset that is not empty fits every budget."""
        return bool(self.addable(subset)[subset[0]])

    def _joules_with(self, members: list[int]) -> Floats:
        """Return (M,) the joules per request of the members and each expert."""
        n, size = len(self.energy_j), len(members)
        mine = self.energy_j[:, members]
        if size > self.k:
            mine = np.partition(mine, size - self.k, axis=1)[:, size - self.k :]
        smallest = mine.min(axis=1) if size >= self.k else np.zeros(n)  # what one more would displace
        base = float(mine.sum() / n + self.idle_j[members].sum())
        more = np.maximum(self.energy_j - smallest[:, None], 0.0).mean(axis=0) + self.idle_j
        more[members] = 0.0
        return np.asarray(base + more)

    def gains(self, subset: Sequence[int]) -> Floats:
        """Return (M,) the coverage of the subset with each expert added."""
        if not len(subset):
            return np.asarray(self.value.mean(axis=0))
        best = self.value[:, list(subset)].max(axis=1, keepdims=True)
        return np.asarray(np.maximum(self.value, best).mean(axis=0))

    def first(self) -> list[int]:
        """Return the single expert of best coverage that fits; empty when none does."""
        value = np.where(self.addable(()), self.value.mean(axis=0), -inf)
        best = int(np.argmax(value))
        return [best] if value[best] > -inf else []

    def improved(self, subset: Sequence[int], late: Callable[[], bool]) -> list[int]:
        """Return a subset of at least the same coverage that no single addition or exchange improves, but when late."""
        current, value = list(subset), self.coverage(subset)
        while not late():
            best, better = value + 1e-12, None
            for dropped in (None, *current):
                rest = [e for e in current if e != dropped]
                gains = np.where(self.addable(rest), self.gains(rest), -inf)
                gains[rest] = -inf
                place = int(np.argmax(gains))
                if gains[place] > best:
                    best, better = float(gains[place]), [*rest, place]
            if better is None:
                return current
            current, value = better, best
        return current

    def trimmed(self, subset: Sequence[int]) -> list[int]:
        """Return the subset without experts that add nothing to its coverage, later ones dropped first."""
        current, value = sorted(subset), self.coverage(subset)
        for place in sorted(subset, reverse=True):
            rest = [e for e in current if e != place]
            if rest and self.coverage(rest) >= value - 1e-12:
                current = rest
        return current

    def packed(self, scores: Floats) -> list[int]:
        """Return the experts of positive score, best first, skipping those that no longer fit."""
        chosen: list[int] = []
        fits = self.addable(chosen)
        for place in np.argsort(-scores, kind="stable").tolist():
            if scores[place] <= 0:
                break
            if fits[place]:
                chosen.append(place)
                fits = self.addable(chosen)
        return chosen
