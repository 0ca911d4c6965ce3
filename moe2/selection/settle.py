"""From what a method found to the result that every method returns."""

from math import inf

from moe2.selection.budgets import known_energy, why_infeasible
from moe2.selection.objective import Scorer
from moe2.selection.problem import Objective, Problem
from moe2.selection.result import Certificate, Cover, Enumeration, Selection, Tree

OPTIMAL = 1e-9  # nats


def settle(
    problem: Problem,
    objective: Objective,
    method: str,
    *,
    subset: tuple[int, ...],
    upper_bound: float,
    proof: Enumeration | Cover | Tree,
    n_evaluated: int,
    seconds: float,
) -> Selection:
    """Return the result for a subset and a bound; an empty subset says that nothing fits, and why."""
    allowed, left_out = known_energy(problem)
    scorer = Scorer.of(problem, objective)
    best = scorer.candidate(subset) if subset else None
    value = -inf if best is None else best.value
    bound = -inf if best is None else max(upper_bound, value)
    gap = 0.0 if best is None else bound - value
    return Selection(
        method=method,
        objective=objective,
        subset=subset,
        value=value,
        fused_value=scorer.fused(subset) if subset else -inf,
        upper_bound=bound,
        gap=gap,
        status="infeasible" if best is None else "optimal" if gap <= OPTIMAL else "gap",
        reason="" if best else why_infeasible(problem, [scorer.candidate((i,)) for i in allowed]),
        certificate=Certificate(
            problem=problem, objective=objective, subset=subset, value=value, upper_bound=bound, proof=proof
        ),
        n_evaluated=n_evaluated,
        seconds=seconds,
        delay_s=best.delay_s if best else (),
        energy_j=best.energy_j if best else float("nan"),
        left_out=left_out,
    )
