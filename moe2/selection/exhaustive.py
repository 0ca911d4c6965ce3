"""Every subset, one after the other: the oracle of the other methods, and the choice for few experts."""

from dataclasses import replace
from itertools import combinations
from math import inf
from time import perf_counter

from moe2.selection.budgets import holds, known_energy
from moe2.selection.objective import Scorer
from moe2.selection.problem import Objective, Problem
from moe2.selection.result import Candidate, Enumeration, Selection
from moe2.selection.settle import settle

MAX_EXPERTS = 16  # 65,535 subsets: about two minutes on 1,700 prompts
TIE = 1e-12  # values closer than this are ties: fewest experts first, then lowest indices
LISTED = 5  # subsets listed beside the chosen one


def exhaustive(problem: Problem, *, objective: Objective = "fused", time_limit_s: float = inf) -> Selection:
    """Return the best feasible subset by trying all; ties: fewest experts, then the lowest indices.

    At the time limit the best one so far is returned, smaller subsets having been tried first; the bound is then
    the coverage of all experts. Raises ValueError for more than 16 experts.
    """
    started_s = perf_counter()
    allowed, _ = known_energy(problem)
    if len(allowed) > MAX_EXPERTS:
        raise ValueError(
            f"exhaustive selection tries every subset: {len(allowed)} experts found, at most {MAX_EXPERTS} are "
            "allowed; use method 'auto' or 'branch_and_bound', or drop experts"
        )
    scorer = Scorer.of(problem, objective)
    subsets = (s for size in range(1, len(allowed) + 1) for s in combinations(allowed, size))
    candidates: list[Candidate] = []
    complete = True
    for subset in subsets:
        if perf_counter() - started_s > time_limit_s and len(candidates) >= len(allowed):
            complete = False
            break
        candidates.append(scorer.candidate(subset))
    fits = [holds(problem, c) for c in candidates]
    best = _best([c for c, fit in zip(candidates, fits, strict=True) if fit])
    found = settle(
        problem,
        objective,
        "exhaustive",
        subset=best.subset if best else (),
        upper_bound=-inf if complete else scorer.coverage(tuple(allowed)),
        proof=Enumeration(),
        n_evaluated=len(candidates),
        seconds=perf_counter() - started_s,
    )
    if best is None:
        return found
    others = [c for c, fit in zip(candidates, fits, strict=True) if fit and c is not best]
    better = [c for c, fit in zip(candidates, fits, strict=True) if not fit and c.value > best.value + TIE]
    return replace(found, alternatives=_listed(others), refused=_listed(better))


def _best(feasible: list[Candidate]) -> Candidate | None:
    best = feasible[0] if feasible else None  # smaller and lower subsets come first: only a clear gain displaces them
    for candidate in feasible:
        if best is None or candidate.value > best.value + TIE:
            best = candidate
    return best


def _listed(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(candidates, key=lambda c: -c.value)[:LISTED])
