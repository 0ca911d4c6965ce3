"""An independent, slow re-check of a selection: plain loops, nothing shared with what chose it."""

from itertools import combinations
from math import exp, fsum, isclose, log

from moe2.selection import Problem, Selection


def check_selection(problem: Problem, selection: Selection) -> None:
    """Raise ValueError unless the subset is feasible, worth its value, and (status optimal) the best by all.

    Enumerates every subset in plain Python: for tests and small pools.
    """
    subset = selection.subset
    if not _feasible(problem, subset):
        raise ValueError(f"subset {subset} breaks a budget in the worst case")
    value = _objective(problem, subset)
    if not isclose(value, selection.value, rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(f"subset {subset} has value {value}, the selection says {selection.value}")
    if selection.upper_bound < selection.value or not isclose(
        selection.gap, selection.upper_bound - selection.value, abs_tol=1e-12
    ):
        raise ValueError(f"bound {selection.upper_bound} and gap {selection.gap} do not fit value {value}")
    experts = range(len(problem.experts))
    for size in range(1, len(experts) + 1):
        for other in combinations(experts, size):
            bound = selection.upper_bound + 1e-9
            if _feasible(problem, other) and _objective(problem, other) > bound:
                raise ValueError(f"subset {other} is feasible and better than the bound {selection.upper_bound}")


def _objective(problem: Problem, subset: tuple[int, ...]) -> float:
    logs = []
    for logits, likelihood in zip(problem.logits.tolist(), problem.likelihood.tolist(), strict=True):
        ranked = sorted(subset, key=lambda expert: (-logits[expert], expert))[: problem.k]
        weights = [exp(logits[expert] - logits[ranked[0]]) for expert in ranked]
        mixture = fsum(w * likelihood[expert] for w, expert in zip(weights, ranked, strict=True))
        logs.append(log(mixture / fsum(weights)))
    return fsum(logs) / len(logs)


def _feasible(problem: Problem, subset: tuple[int, ...]) -> bool:
    """Whether the subset holds every budget, with a relative tolerance of 1e-9 on the sums."""
    for c, budget_s in enumerate(problem.delay_budget_s.tolist()):
        rows = [row for row, category in zip(problem.delay_s, problem.category, strict=True) if category == c]
        slowest_s = [max(float(row[expert]) for expert in subset) for row in rows]
        if rows and fsum(slowest_s) / len(rows) > budget_s * (1 + 1e-9):
            return False
    if problem.energy_budget_j is None:
        return True
    joules = [
        fsum(sorted((float(row[expert]) for expert in subset), reverse=True)[: problem.k]) for row in problem.energy_j
    ]
    idle_j = fsum(float(problem.idle_j_per_request[expert]) for expert in subset)
    return fsum(joules) / len(joules) + idle_j <= problem.energy_budget_j * (1 + 1e-9)
