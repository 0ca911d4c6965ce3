"""One door to all methods, and which of them to take."""

from math import inf
from typing import Literal, get_args

from moe2.selection.branch_and_bound import branch_and_bound
from moe2.selection.budgets import known_energy
from moe2.selection.exhaustive import exhaustive
from moe2.selection.greedy import greedy
from moe2.selection.milp import milp
from moe2.selection.polyblock import polyblock
from moe2.selection.problem import OBJECTIVES, Objective, Problem
from moe2.selection.result import Selection

Method = Literal["auto", "exhaustive", "polyblock", "branch_and_bound", "milp", "greedy"]
FEW, MANY = 10, 128


def select(
    problem: Problem, *, method: Method = "auto", objective: Objective = "fused", time_limit_s: float = inf
) -> Selection:
    """Return the subset that a method chooses.

    "auto" tries every subset of up to 10 experts (16 for expected costs), searches by branch and bound up to 128,
    and is greedy, for coverage, beyond. An empty subset with status "infeasible" and a reason says that nothing fits.

    Budgets on worst-case costs hold whatever the gate chooses, and for every part of the subset too. Budgets on
    expected costs hold for this subset under this gate on these prompts, and nothing more is guaranteed: such costs do
    not grow with the subset, so only "exhaustive" takes them.

    Args:
        problem: experts, costs, budgets.
        method: "milp" and "greedy" choose by coverage only.
        objective: "fused" is F of the gate's top k; "coverage" is F_max, which rewards lucky guesses.
        time_limit_s: seconds after which the best subset found is returned, with a proven bound.

    Raises ValueError for an unknown method or objective and for methods that cannot take the problem.
    """
    if method not in get_args(Method) or objective not in OBJECTIVES:
        raise ValueError(
            f"selection: method {method!r} and objective {objective!r}; methods are {', '.join(get_args(Method))}, "
            f"objectives {', '.join(OBJECTIVES)}"
        )
    if not time_limit_s > 0:
        raise ValueError(f"selection: the time limit is {time_limit_s} s, must be above 0")
    if method == "auto":
        method = _fitting(problem, objective)
    if method in {"milp", "greedy"} and objective != "coverage":
        raise ValueError(f"selection: {method} maximises coverage only; set the objective to 'coverage'")
    if method == "milp":
        return milp(problem, time_limit_s=time_limit_s)
    if method == "greedy":
        return greedy(problem, time_limit_s=time_limit_s)
    solver = {"exhaustive": exhaustive, "polyblock": polyblock, "branch_and_bound": branch_and_bound}[method]
    return solver(problem, objective=objective, time_limit_s=time_limit_s)


def _fitting(problem: Problem, objective: Objective) -> Method:
    n_experts = len(known_energy(problem)[0])
    if n_experts <= FEW or problem.costs == "expected":
        return "exhaustive"
    return "branch_and_bound" if objective == "fused" or n_experts <= MANY else "greedy"
