"""Every method runs in the twin through the router's protocol alone: whom it asks is asked, what it answers is told."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from moe2.baselines import baselines
from moe2.learned import cheapest_feasible
from moe2.router import Router
from scenarios.files.loading import load
from scenarios.method.costs import scenario_costs
from scenarios.runs.performing import replicate
from scenarios.runs.replicating import assemble, draw
from twin import protocols

pytest.importorskip("sklearn", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")


@pytest.fixture(scope="module")
def plant():
    """Return the bundled testbed with all its experts kept, under a light load, made ready to run."""
    names = [expert.name for expert in load("testbed", []).file.experts]
    light = ["duration_s=4000", "load.requests_per_s=0.05", "replications=1", f"router.subset={list(names)}"]
    return assemble(load("testbed", light))


@pytest.fixture(scope="module")
def methods(plant):
    """Return the baselines of the testbed's experts over the whole pool."""
    answers, models = plant.routing.answers, [expert.profile.model for expert in plant.experts]
    found = baselines(answers=answers, pool=answers, models=models, k=2)
    costs = scenario_costs(plant.scenario, answers.for_models(models))
    return [*found, cheapest_feasible(answers=answers, pool=answers, models=models, costs=costs)]


def played(plant, method: protocols.Router):
    """Return the tables of one run in which `method` takes the gate's place."""
    routing = replace(plant.routing, router=method, offering=method)
    there = replace(plant, routing=routing)
    return replicate(there, draw(there, n=1), Console(quiet=True), n_jobs=1)


def test_every_baseline_runs_in_the_twin(plant, methods):
    """Each request has one leg for each expert that the method asks, and its answer is the method's on that prompt."""
    answers = plant.routing.answers
    assert len(methods) == 10 + len(plant.experts)  # and 10 that are no single expert
    for method in methods:
        tables = played(plant, method)
        requests, legs = tables.requests, tables.legs
        assert len(requests) > 100
        assert (requests["status"] == "served").all()
        rows = pd.Index(answers.question_id).get_indexer(requests["question_id"])
        experts = method.route(rows)[0]
        names = np.array([expert.name for expert in plant.experts])
        asked = legs.groupby("request_id")["expert"].agg(set).reindex(requests["request_id"])
        assert asked.tolist() == [{names[e] for e in row if e >= 0} for row in experts.tolist()], method.name
        answer, right = method.answer_all_served(rows)
        letters = [None if option < 0 else "ABCDEFGHIJ"[option] for option in answer]
        assert requests["answer"].astype(object).where(requests["answer"].notna(), None).tolist() == letters, (
            method.name
        )
        assert np.array_equal(requests["correct"].to_numpy(dtype=bool), right), method.name


def test_methods_are_asked_the_same_questions_at_the_same_times(plant, methods):
    """The load does not depend on who answers: two methods differ in nothing but what they do."""
    first, second = (played(plant, method).requests for method in (methods[0], methods[-1]))
    for column in ("request_id", "user_id", "question_id", "arrived_s"):
        assert np.array_equal(first[column], second[column]), column


def test_a_vote_costs_every_expert_s_joules_and_one_expert_its_own(plant, methods):
    """In the twin as by hand: legs' joules are those of the experts asked."""
    by_name: dict[str, Router] = {method.name: method for method in methods}
    vote = played(plant, by_name["majority vote of all"])
    only = played(plant, by_name[f"only {plant.experts[0].profile.model}"])
    assert set(only.legs["expert"]) == {plant.experts[0].name}
    mine = vote.legs[vote.legs["expert"] == plant.experts[0].name]
    assert mine["energy_j"].to_numpy() == pytest.approx(only.legs["energy_j"].to_numpy())
    assert len(vote.legs) == len(plant.experts) * len(vote.requests)
