"""Every subset, one after the other: the oracle of the other methods, and the choice for few experts."""

from collections.abc import Iterator
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

    At the time limit the best one so far is returned, smaller subsets having been tried first; the bound is then the
    coverage of all experts. Raises ValueError for more than 16 experts.

    Budgets on expected costs hold for this subset under this gate on these prompts, and nothing more is guaranteed: a
    part of it may break them. Several experts may hold them where none does alone, so at the time limit none may have
    been found: the subset is then empty and the status "gap".
    """
    started_s = perf_counter()
    allowed, _ = known_energy(problem)
    if len(allowed) > MAX_EXPERTS:
        raise ValueError(
            f"exhaustive selection tries every subset: {len(allowed)} experts found, at most {MAX_EXPERTS} are "
            "allowed; use method 'auto' or 'branch_and_bound', or drop experts"
        )
    scorer = Scorer.of(problem, objective)
    candidates = list(_tried(scorer, allowed, until_s=started_s + time_limit_s))
    fitting = [c for c in candidates if holds(problem, c)]
    best = _best(fitting)
    found = settle(
        problem,
        objective,
        "exhaustive",
        subset=best.subset if best else (),
        upper_bound=-inf if len(candidates) == 2 ** len(allowed) - 1 else scorer.coverage(tuple(allowed)),
        proof=Enumeration(),
        n_evaluated=len(candidates),
        seconds=perf_counter() - started_s,
    )
    if best is None:
        return found
    better = [c for c in candidates if c.value > best.value + TIE and not holds(problem, c)]
    return replace(found, alternatives=_listed([c for c in fitting if c is not best]), refused=_listed(better))


def _tried(scorer: Scorer, allowed: list[int], *, until_s: float) -> Iterator[Candidate]:
    """Yield every subset, smaller ones first, until the clock says so; each expert alone in any case."""
    for size in range(1, len(allowed) + 1):
        for subset in combinations(allowed, size):
            if size > 1 and perf_counter() > until_s:
                return
            yield scorer.candidate(subset)


def _best(feasible: list[Candidate]) -> Candidate | None:
    best = feasible[0] if feasible else None  # smaller and lower subsets come first: only a clear gain displaces them
    for candidate in feasible:
        if best is None or candidate.value > best.value + TIE:
            best = candidate
    return best


def _listed(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(candidates, key=lambda c: -c.value)[:LISTED])
