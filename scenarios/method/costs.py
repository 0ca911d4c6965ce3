"""What the models of an answers table would cost on the experts of a scenario."""

from __future__ import annotations

import numpy as np

from moe2.answers import Answers
from moe2.costs import LegCosts
from scenarios.files.loading import Scenario
from scenarios.files.plant import build_experts
from scenarios.runs.routing import unloaded

__all__ = ["scenario_costs"]


def scenario_costs(scenario: Scenario, answers: Answers) -> LegCosts:
    """Return the unloaded costs of each model on each prompt; NaN for a model that no expert of the scenario runs.

    Where several experts run a model, the first one's costs are taken.
    """
    runs = {e.profile.model: e for e in reversed(build_experts(scenario))}
    known = [model for model in answers.models if model in runs]
    places = [answers.models.index(model) for model in known]
    delay_s = np.full((len(answers), len(answers.models)), np.nan)
    energy_j = delay_s.copy()
    if not known:
        return LegCosts(delay_s=delay_s, energy_j=energy_j, delay_budget_s=np.full(len(answers), np.inf))
    found = unloaded(scenario.file, [runs[model] for model in known], answers.for_models(known))
    delay_s[:, places], energy_j[:, places] = found.delay_s, found.energy_j
    return LegCosts(delay_s=delay_s, energy_j=energy_j, delay_budget_s=found.delay_budget_s)
