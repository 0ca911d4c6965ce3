"""From what a method found to the result that every method returns."""

from math import inf, nan

from moe2.selection.budgets import known_energy, why_infeasible
from moe2.selection.objective import Scorer
from moe2.selection.problem import Objective, Problem
from moe2.selection.result import Candidate, Certificate, Cover, Enumeration, Selection, Tree

OPTIMAL = 1e-9  # nats
IN_TIME = "no subset that holds the budgets was found in time; give it longer, or relax a budget"
_NOTHING = Candidate(subset=(), value=-inf, delay_s=(), energy_j=nan)


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
    """Return the result for a subset and a bound.

    An empty subset says that nothing fits, and why; above a bound of -inf, that nothing was found in time.
    """
    allowed, left_out = known_energy(problem)
    scorer = Scorer.of(problem, objective)
    best = scorer.candidate(subset) if subset else _NOTHING
    bound = max(upper_bound, best.value)
    gap = 0.0 if bound == best.value else bound - best.value
    reason = ""
    if not subset:
        reason = IN_TIME if bound > -inf else why_infeasible(problem, [scorer.candidate((i,)) for i in allowed])
    return Selection(
        method=method,
        objective=objective,
        subset=subset,
        value=best.value,
        fused_value=scorer.fused(subset) if subset else -inf,
        upper_bound=bound,
        gap=gap,
        status="infeasible" if bound == -inf else "optimal" if gap <= OPTIMAL else "gap",
        reason=reason,
        certificate=Certificate(
            problem=problem, objective=objective, subset=subset, value=best.value, upper_bound=bound, proof=proof
        ),
        n_evaluated=n_evaluated,
        seconds=seconds,
        delay_s=best.delay_s,
        energy_j=best.energy_j,
        left_out=left_out,
    )
