"""The value and the costs of a subset, from arrays sorted once."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import inf

import numpy as np
from numpy.typing import NDArray

from moe2.selection.problem import Objective, Problem
from moe2.selection.result import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """The problem's arrays, experts of each prompt sorted by the gate and by joules: a subset costs one pass."""

    problem: Problem
    objective: Objective
    order: NDArray[np.intp]  # (n, N) experts, best first; ties: the lower index
    logits: NDArray[np.float64]  # (n, N) in that order
    likelihood: NDArray[np.float64]  # (n, N) in that order
    by_energy: NDArray[np.intp]  # (n, N) experts, most joules first
    worth: dict[tuple[int, ...], float]  # F of the subsets that were looked at; costs and budgets do not change it

    @classmethod
    def of(cls, problem: Problem, objective: Objective) -> "Scorer":
        """Return the scorer of a problem."""
        order = np.argsort(-problem.logits, axis=1, kind="stable")
        return cls(
            problem=problem,
            objective=objective,
            order=order,
            logits=np.take_along_axis(np.asarray(problem.logits, dtype=np.float64), order, axis=1),
            likelihood=np.take_along_axis(problem.likelihood, order, axis=1),
            by_energy=np.argsort(-problem.energy_j, axis=1, kind="stable"),
            worth=_worth(_content(problem)),
        )

    def candidate(self, subset: tuple[int, ...]) -> Candidate:
        """Return the value and the costs of one subset."""
        kept = np.zeros(len(self.problem.experts), dtype=bool)
        kept[list(subset)] = True
        chosen = kept[self.order]  # (n, N), experts best first
        chosen &= np.cumsum(chosen, axis=1) <= self.problem.k
        expected = self.problem.costs == "expected"
        return Candidate(
            subset=subset,
            value=self.fused(subset) if self.objective == "fused" else self.coverage(subset),
            delay_s=self._expected_delay_s(chosen) if expected else self._worst_delay_s(subset),
            energy_j=self._energy_j(kept, chosen if expected else None),
        )

    def fused(self, subset: tuple[int, ...]) -> float:
        """Return F: the mean log-likelihood of the fused top k of the subset."""
        if subset not in self.worth:
            kept = np.zeros(len(self.problem.experts), dtype=bool)
            kept[list(subset)] = True
            chosen = kept[self.order]
            self.worth[subset] = self._fused(chosen & (np.cumsum(chosen, axis=1) <= self.problem.k))
        return self.worth[subset]

    def coverage(self, subset: tuple[int, ...]) -> float:
        """Return F_max: the mean log-likelihood of the best expert of the subset on each prompt."""
        return float(np.log(self.problem.likelihood[:, list(subset)].max(axis=1)).mean())

    def _fused(self, chosen: NDArray[np.bool_]) -> float:
        logits = np.where(chosen, self.logits, -inf)
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        mixture = (weight * self.likelihood).sum(axis=1) / weight.sum(axis=1)  # (n,)
        return float(np.log(mixture).mean())

    def _worst_delay_s(self, subset: tuple[int, ...]) -> tuple[float, ...]:
        return self._by_category(self.problem.delay_s[:, list(subset)].max(axis=1))

    def _expected_delay_s(self, chosen: NDArray[np.bool_]) -> tuple[float, ...]:
        delay_s = np.take_along_axis(self.problem.delay_s, self.order, axis=1)
        return self._by_category(np.where(chosen, delay_s, 0.0).max(axis=1))

    def _by_category(self, per_prompt_s: NDArray[np.float64]) -> tuple[float, ...]:
        p = self.problem
        with np.errstate(invalid="ignore"):  # 0 / 0: a category without prompts is NaN
            mean_s = np.bincount(p.category, per_prompt_s, len(p.categories)) / np.bincount(
                p.category, minlength=len(p.categories)
            )
        return tuple(mean_s.tolist())

    def _energy_j(self, kept: NDArray[np.bool_], chosen: NDArray[np.bool_] | None) -> float:
        """Return joules per request of the legs `chosen` (in the gate's order), or of the k costliest."""
        p = self.problem
        if np.isnan(p.energy_j[:, kept]).any():
            return float("nan")
        order = self.by_energy if chosen is None else self.order
        if chosen is None:
            chosen = kept[order]
            chosen &= np.cumsum(chosen, axis=1) <= p.k
        joules = np.where(chosen, np.take_along_axis(p.energy_j, order, axis=1), 0.0)
        return float(joules.sum(axis=1).mean() + p.idle_j_per_request[kept].sum())


def _content(problem: Problem) -> bytes:
    """Return a hash of all that F depends on."""
    found = blake2b(f"{problem.k} {problem.logits.dtype} {problem.logits.shape}".encode(), digest_size=16)
    found.update(problem.logits.tobytes())
    found.update(problem.likelihood.tobytes())
    return found.digest()


@lru_cache(maxsize=16)
def _worth(content: bytes) -> dict[tuple[int, ...], float]:  # noqa: ARG001 - the key
    """Return the values of F known for a content: the points of a sweep ask for the same ones again and again."""
    return {}
