"""Laws of planning."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.files.loading import load
from scenarios.plans.planning import plan, proposals
from scenarios.runs.replicating import assemble, draw_loads
from scenarios.runs.result import simulate_until_decided
from scenarios.verdicts.verdict import overall

KEPT = ["phi-3-mini-4k-instruct@rtx4090-b", "gemma-7b@orin-a", "yi-6b-chat@orin-d"]
SMALL = (
    "duration_s=1200.0", "warmup_s=100.0", "replications=4", "budgets.energy_j_per_request=9000.0",
    "verdicts.inputs=nominal",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a scenario of three of the testbed's experts on one delay budget."""
    dropped = [e.name for e in load("testbed").file.experts if e.name not in KEPT]
    path = tmp_path_factory.mktemp("plan") / "small.toml"
    path.write_text(f'extends = "testbed"\nwithout = {dropped}\nname = "small"\n')
    scenario = load(path, SMALL)
    budgets = scenario.file.budgets.model_copy(update={"delay_s": 25.0})
    return replace(scenario, file=scenario.file.model_copy(update={"budgets": budgets}))


def test_the_plan_is_the_best_of_all_that_hold(small):
    """On a small instance the plan is what running every subset and k finds, in fewer runs."""
    whole = assemble(small)
    everything = proposals(whole.routing.problem, whole.all_experts, whole.requests_per_s, (1, 2, 3))
    holding = []
    for p in everything:
        router = small.file.router.model_copy(update={"subset": [KEPT[i] for i in p.subset], "k": p.k})
        assembly = assemble(replace(small, file=small.file.model_copy(update={"router": router})))
        result = simulate_until_decided(assembly, draw_loads(assembly), Console(quiet=True))
        if overall(result.verdicts) == "holds":
            holding.append(p)
    found = plan(small, ks=(1, 2, 3))
    assert found.n_runs <= 40
    assert holding
    assert found.status == "holds"
    assert found.best.value >= holding[0].value - 1e-3  # a further expert must be worth a run


def test_proposals_fit_without_load_and_come_best_first(small):
    """Values fall; no proposal keeps an expert busy all the time, exceeds the energy, or keeps one never asked."""
    whole = assemble(small)
    problem = whole.routing.problem
    found = proposals(problem, whole.all_experts, whole.requests_per_s, (1, 2, 3))
    assert np.all(np.diff([p.value for p in found]) <= 0)
    for p in found:
        assert 0 < p.busy[list(p.subset)].min() <= p.busy.max() < 1
        assert p.energy_j <= problem.energy_budget_j
    heavier = proposals(problem, whole.all_experts, 200 * whole.requests_per_s, (1, 2, 3))
    assert {(p.subset, p.k) for p in heavier} < {(p.subset, p.k) for p in found}


def test_the_command_writes_a_scenario_that_runs_the_plan(small, tmp_path):
    """`moe2 plan` ends with a verdict and a plan.toml; bad input is refused as elsewhere."""
    out = tmp_path / "plan"
    found = CliRunner().invoke(app, ["plan", small.source, "--out", str(out), "--k", "1", *changes()])
    assert found.exit_code in {0, 3}, found.output
    assert load(out / "plan.toml").file.router.k == 1
    assert CliRunner().invoke(app, ["plan", "testbad", "--out", str(tmp_path / "x")]).exit_code == 2


def changes():
    return [word for change in SMALL for word in ("--set", change)]
