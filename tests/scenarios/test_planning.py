"""Laws of planning."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.files.loading import load
from scenarios.plans.planning import plan, planned
from scenarios.plans.proposing import proposals
from scenarios.plans.settings import Legs, predict
from scenarios.runs.replicating import assemble, draw_loads
from scenarios.runs.result import simulate_until_decided
from scenarios.verdicts.verdict import overall

KEPT = ["phi-3-mini-4k-instruct@rtx4090-b", "gemma-7b@orin-a", "yi-6b-chat@orin-d"]
SMALL = (
    "duration_s=1200.0", "warmup_s=100.0", "replications=4", "budgets.energy_j_per_request=9000.0",
    "verdicts.inputs=nominal",
)  # fmt: skip

EXPERT = assemble(load("testbed", ["router.k=1"])).all_experts[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a scenario of three of the testbed's experts on one delay budget."""
    dropped = [e.name for e in load("testbed").file.experts if e.name not in KEPT]
    path = tmp_path_factory.mktemp("plan") / "small.toml"
    path.write_text(f'extends = "testbed"\nwithout = {dropped}\nname = "small"\n')
    scenario = load(path, SMALL)
    budgets = scenario.file.budgets.model_copy(update={"delay_s": 25.0})
    return replace(scenario, file=scenario.file.model_copy(update={"budgets": budgets}))


def holds(scenario):
    assembly = assemble(scenario)
    return overall(simulate_until_decided(assembly, draw_loads(assembly), Console(quiet=True)).verdicts) == "holds"


def test_the_plan_is_the_best_of_all_that_hold(small):
    """On a small instance the plan is what running every subset and k finds, in fewer runs."""
    everything = proposals(assemble(small), (1, 2, 3), tuned=False)
    holding = [p for p in everything if holds(planned(small, p))]
    found = plan(small, ks=(1, 2, 3))
    assert found.n_runs <= 40
    assert holding
    assert found.status == "holds"
    assert found.best.value >= holding[0].value - 1e-3  # a further expert must be worth a run


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Return a scenario of two 4090s that serve one request at a time, under more load than they can serve so."""
    pair = ["llama-3.1-8b-instruct@rtx4090-a", "phi-3-mini-4k-instruct@rtx4090-b"]
    dropped = [e.name for e in load("testbed").file.experts if e.name not in pair]
    path = tmp_path_factory.mktemp("plan") / "busy.toml"
    path.write_text(f'extends = "testbed"\nwithout = {dropped}\nname = "busy"\n')
    changes = ["duration_s=400.0", "warmup_s=40.0", "replications=4", "verdicts.max_replications=4"]
    changes += ["verdicts.inputs=nominal", "load.requests_per_s=0.6", "budgets.delay_s=40.0"]
    changes += ["experts[0].max_batch=1", "experts[1].max_batch=1"]
    return load(path, changes)


def test_the_plan_sets_the_batches_that_the_best_needs(busy):
    """Of every subset, k and pair of largest batches run, none that holds answers better than the plan.

    As given, with one request at a time, the plan's subset and k do not hold.
    """
    whole = assemble(
        load(busy, ['router.subset=["llama-3.1-8b-instruct@rtx4090-a", "phi-3-mini-4k-instruct@rtx4090-b"]'])
    )
    values = {(p.subset, p.k): p for p in proposals(whole, (1, 2), (1, 8))}
    best = -np.inf
    for p, (a, b) in itertools.product(values.values(), itertools.product((1, 8), repeat=2)):
        experts = tuple(replace(e, max_batch=size) for e, size in zip(p.experts, (a, b), strict=True))
        if p.value > best and holds(planned(busy, replace(p, experts=experts))):
            best = p.value
    found = plan(busy, ks=(1, 2), max_batches=(1, 8))
    assert found.status == "holds"
    assert found.n_runs <= 40
    assert found.best.value >= best - 1e-3
    assert set(found.best.settings(whole.all_experts).values()) == {8}
    assert not holds(planned(busy, replace(found.best, experts=whole.all_experts)))


@given(rate=st.floats(0.001, 2.0), prompt=st.integers(10, 2000), output=st.integers(2, 500), batch=st.integers(1, 32))
def test_a_prediction_is_the_lone_leg_without_load_and_grows_with_it(rate, prompt, output, batch):
    """Hardly loaded, a leg takes what it takes alone; more load is never quicker; too much waits for ever."""
    expert = replace(EXPERT, max_batch=batch)

    def at(per_s):
        tokens = np.full(3, float(prompt)), np.full(3, float(output))
        return predict(expert, Legs(per_s=per_s, prompt_tokens=tokens[0], output_tokens=tokens[1]))

    idle, some, more = at(1e-9), at(rate), at(1.5 * rate)
    assert (idle.slower, idle.thrift) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert idle.wait_s == pytest.approx(0.0, abs=1e-6)
    assert some.busy < more.busy
    assert some.slower <= more.slower * (1 + 1e-9)
    assert some.wait_s <= more.wait_s * (1 + 1e-9)
    assert more.thrift <= some.thrift * (1 + 1e-9) or np.isinf(more.slower)
    assert np.isinf(at(2 / some.busy * rate).wait_s)


def test_one_slot_and_exponential_service_wait_as_in_an_mm1_queue():
    """With one slot the wait is that of M/M/1, s ρ / (1 - ρ)."""
    expert = replace(EXPERT, max_batch=1)
    tokens = np.full(4, 500.0), np.full(4, 100.0)
    alone_s = float(expert.profile.seconds.leg_of(500, 100))
    found = predict(expert, Legs(per_s=0.4 / alone_s, prompt_tokens=tokens[0], output_tokens=tokens[1]))
    assert found.busy == pytest.approx(0.4, rel=1e-3)
    assert found.wait_s == pytest.approx(alone_s * 0.4 / 0.6, rel=1e-2)


def test_proposals_fit_without_load_and_come_best_first(small):
    """Values fall; no proposal keeps an expert busy all the time, exceeds the energy, or keeps one never asked."""
    whole = assemble(small)
    problem = whole.routing.problem
    found = proposals(whole, (1, 2, 3))
    assert np.all(np.diff([p.value for p in found]) <= 0)
    for p in found:
        assert 0 < p.busy[list(p.subset)].min() <= p.busy.max() < 1
        assert p.energy_j <= problem.energy_budget_j
    heavier = proposals(replace(whole, requests_per_s=200 * whole.requests_per_s), (1, 2, 3))
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
