"""The budgets of a scenario's experts, and every method's accuracy under them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from moe2.curves import Costs, budget_curves, methods_of
from moe2.selection.problem import Problem
from scenarios.files.loading import Scenario
from scenarios.runs.replicating import assemble

N_BUDGETS = 12
MOST = 5  # experts asked per prompt at most


def scenario_curves(scenario: Scenario, *, n_budgets: int = N_BUDGETS) -> pd.DataFrame:
    """Return the accuracy of every method on test under budgets of delay and of energy.

    Budgets go from what the cheapest expert needs to what all experts need together; where no energy is known only
    delay is shown. Raises ValueError for a scenario whose load names its experts.
    """
    assembly = assemble(scenario)
    routing = assembly.routing
    if routing is None:
        raise ValueError(f"{scenario.source}: the load names the experts, so there is no method to compare")
    problem = routing.problem
    models = [e.profile.model for e in assembly.all_experts]
    costs = worst_costs(problem)
    N = len(models)
    single = [(costs.delay_of([i]), costs.energy_of([i], 1)) for i in range(N)]
    grids: dict[Literal["delay_s", "energy_j"], list[float]] = {
        "delay_s": _grid(min(s[0] for s in single), costs.delay_of(range(N)), n_budgets)
    }
    if not np.isnan(problem.energy_j).any() and not np.isnan(problem.idle_j_per_request).any():
        grids["energy_j"] = _grid(min(s[1] for s in single), costs.energy_of(range(N), min(N, MOST)), n_budgets)
    methods = methods_of(routing.answers, routing.gate, models, most=min(MOST, N))
    return budget_curves(routing.answers, methods, models, costs, grids=grids)


def worst_costs(problem: Problem) -> Costs:
    """Return what the selector knows of the experts' costs, for `budget_curves`."""
    return Costs(
        delay_s=problem.delay_s,
        energy_j=problem.energy_j,
        category=problem.category,
        idle_j_per_request=problem.idle_j_per_request,
    )


def _grid(low: float, high: float, n: int) -> list[float]:
    return [float(b) for b in np.geomspace(low * 1.001, high * 1.001, n)]
