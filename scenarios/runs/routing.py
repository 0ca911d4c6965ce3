"""The real method on a scenario's experts: answers, gate, chosen subset, router, and the prompts to draw from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.costs import LegCosts
from moe2.fusion import likelihood
from moe2.gate import Gate
from moe2.router import GateRouter
from moe2.selection import Problem, Selection, select
from scenarios.files.gateway import n_offers
from scenarios.files.loading import Scenario
from scenarios.files.plant import expert_indices
from scenarios.files.schema import ScenarioFile
from scenarios.runs.inputs import answers_at, gate_at
from twin.servers.expert import Expert
from twin.users.prompts import PromptPool

log = logging.getLogger(__name__)

__all__ = ["Routing", "build_routing", "idle_joules", "unloaded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Who answers: the experts kept, the router over them, and the pool whose test rows the load draws from.

    Experts that are not kept are switched off: they appear in no run.
    """

    answers: Answers
    gate: Gate
    kept: tuple[int, ...]  # indices of the scenario's experts
    problem: Problem  # what the subset was chosen by, on validation prompts
    selection: Selection | None  # None when the scenario names its subset
    router: GateRouter
    offering: GateRouter  # the same with the experts that the gateway may go on to: its rules choose
    pool: PromptPool
    test_rows: NDArray[np.intp]


def build_routing(scenario: Scenario, experts: Sequence[Expert], *, requests_per_s: float) -> Routing:
    """Return the routing of a scenario whose load does not name its experts.

    `requests_per_s` is the planned rate over which the idle power of the experts kept is spread. Raises ValueError
    naming the scenario and the key for a file that cannot be read, a model without answers, an expert that does
    not exist, and budgets that no subset can hold.
    """
    try:
        scenario.file.check_asked()
    except ValueError as error:
        raise ValueError(f"{scenario.source}: {error}") from None
    answers, gate = _answers_and_gate(scenario)
    models = [e.profile.model for e in experts]
    _check_models(scenario.source, experts, answers)
    problem = _problem(scenario.file, experts, answers, gate, requests_per_s)
    selection, kept = _kept(scenario, experts, problem)
    chosen = [models[i] for i in kept]
    pooled = answers.for_models(chosen)
    k = min(scenario.file.router.k, len(kept))
    routers = {
        n: GateRouter.of(gate=gate, answers=answers, models=chosen, k=n)
        for n in {k, n_offers(scenario.file.gateway, k, len(kept))}
    }
    return Routing(
        answers=answers,
        gate=gate,
        kept=kept,
        problem=problem,
        selection=selection,
        router=routers[k],
        offering=routers[max(routers)],
        pool=PromptPool(
            question_id=pooled.question_id,
            category=pooled.category,
            prompt_tokens=pooled.prompt_tokens,
            output_tokens=pooled.output_tokens,
        ),
        test_rows=answers.rows("test"),
    )


def _answers_and_gate(scenario: Scenario) -> tuple[Answers, Gate]:
    router = scenario.file.router
    try:
        answers = answers_at(None if router.answers == "bundled" else scenario.path(router.answers))
        gate = gate_at(None if router.gate == "bundled" else scenario.path(router.gate))
        gate.check_encoder(answers)
    except (ValueError, OSError) as error:
        raise ValueError(f"{scenario.source}: [router]: {error}") from None
    return answers, gate


def _check_models(source: str, experts: Sequence[Expert], answers: Answers) -> None:
    models = [e.profile.model for e in experts]
    for expert, model in zip(experts, models, strict=True):
        where = f"{source}: expert {expert.name!r} with profile {expert.profile.name!r}"
        if model not in answers.models:
            raise ValueError(f"{where}: no answers of model {model!r}; answers exist for {', '.join(answers.models)}")
        if models.count(model) > 1:
            raise ValueError(
                f"{where}: model {model!r} is served twice; the gate tells models apart, not replicas, so keep one"
            )


def _problem(
    file: ScenarioFile, experts: Sequence[Expert], answers: Answers, gate: Gate, requests_per_s: float
) -> Problem:
    """Return the selection problem on validation prompts: unloaded costs, the gate's logits, the answers."""
    rows = answers.rows("validation")
    here = answers.for_models([e.profile.model for e in experts]).of(rows)
    categories = tuple(sorted(set(here.category.tolist())))
    costs = unloaded(file, experts, here)
    return Problem(
        experts=tuple(e.name for e in experts),
        categories=categories,
        logits=gate.logits_of(answers.embedding[rows], here.models),
        likelihood=likelihood(here.choice, here.gold, here.n_options, smoothing=gate.smoothing),
        delay_s=costs.delay_s,
        energy_j=costs.energy_j,
        category=np.searchsorted(categories, here.category),
        delay_budget_s=np.array([_delay_budget_s(file, c) for c in categories]),
        energy_budget_j=file.budgets.energy_j_per_request,
        idle_j_per_request=idle_joules(experts, requests_per_s),
        k=file.router.k,
    )


def unloaded(file: ScenarioFile, experts: Sequence[Expert], answers: Answers) -> LegCosts:
    """Return what each expert alone would cost on each prompt; `answers` has a column per expert, in their order."""
    prefix = getattr(file.load, "prompt_prefix_tokens", 0)
    there_and_back_s = 2 * (file.network.access_delay_s + file.network.lan_delay_s)
    lengths = [(answers.prompt_tokens + prefix, answers.output_tokens[:, i]) for i in range(len(experts))]
    return LegCosts(
        delay_s=there_and_back_s
        + np.stack([e.profile.seconds.leg_of(*n) for e, n in zip(experts, lengths, strict=True)], axis=1),
        energy_j=np.stack([_leg_j(e, *n) for e, n in zip(experts, lengths, strict=True)], axis=1),
        delay_budget_s=np.array([_delay_budget_s(file, c) for c in answers.category.tolist()]),
    )


def _leg_j(expert: Expert, prompt: NDArray[np.int64], output: NDArray[np.int64]) -> NDArray[np.float64]:
    joules = expert.profile.joules
    return np.full(len(prompt), np.nan) if joules is None else joules.leg_of(prompt, output)


def idle_joules(experts: Sequence[Expert], requests_per_s: float) -> NDArray[np.float64]:
    """Return the idle joules of each expert per planned request; NaN where its idle power is not known."""
    return np.array([np.nan if e.profile.idle_w is None else e.profile.idle_w for e in experts]) / requests_per_s


def _delay_budget_s(file: ScenarioFile, category: str) -> float:
    budgets = file.budgets.delay_by_category_s()
    return budgets.get(category, budgets.get("default", float("inf")))


def _kept(scenario: Scenario, experts: Sequence[Expert], problem: Problem) -> tuple[Selection | None, tuple[int, ...]]:
    subset = scenario.file.router.subset
    if subset != "auto":
        return None, expert_indices(subset, experts, f"{scenario.source}: router.subset")
    try:
        selection = select(problem)
    except ValueError as error:
        raise ValueError(f'{scenario.source}: router.subset = "auto": {error}') from None
    if selection.status == "infeasible":
        raise ValueError(f'{scenario.source}: router.subset = "auto": {selection.reason}')
    log.info("chose %d of %d experts (%s)", len(selection.subset), len(experts), selection.status)
    return selection, selection.subset
