"""Laws of planning."""

import html
import itertools
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from calibration.profile import find_profile, write_profile
from moe2.certificate import verify
from moe2.selection.objective import Scorer
from scenarios.cli import app
from scenarios.files.loading import load
from scenarios.plans.modes import modes_of
from scenarios.plans.planning import plan, planned
from scenarios.plans.plant import Plant
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
    everything = proposals(Plant.of(assemble(small), tuned=False), (1, 2, 3))
    holding = [p for p in everything if holds(planned(small, p))]
    found = plan(small, ks=(1, 2, 3))
    assert found.n_runs <= 40
    assert holding
    assert found.status == "holds"
    assert found.best.value >= holding[0].value - 1e-3  # a further expert must be worth a run


PAIR = ["llama-3.1-8b-instruct@rtx4090-a", "phi-3-mini-4k-instruct@rtx4090-b"]


def write_eco(folder, name):
    """Write a bundled profile as a power mode would change it, 1.4 times the seconds for less power; return its file.

    The factors are the test's own.
    """
    fast = find_profile(name, folder)
    seconds, (base_j, *per_j) = fast.seconds, fast.decode_j
    eco = replace(
        fast,
        name=f"eco/{fast.model}",
        power_mode="eco",
        seconds=replace(
            seconds,
            prefill=tuple(1.4 * s for s in seconds.prefill),
            base=1.4 * seconds.base,
            per_sequence=1.4 * seconds.per_sequence,
            per_context_token=1.4 * seconds.per_context_token,
        ),
        prefill_j=tuple(0.6 * j for j in fast.prefill_j),
        decode_j=(0.6 * base_j, *(0.6 * j for j in per_j)),
        idle_w=0.5 * fast.idle_w,
    )
    write_profile(eco, folder / f"{fast.model}.json")
    return f"{fast.model}.json"


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Return a scenario of two 4090s that serve one request at a time, under more load than they can serve so.

    Each may start in a mode that saves energy; the budget is too tight for both as they are.
    """
    dropped = [e.name for e in load("testbed").file.experts if e.name not in PAIR]
    folder = tmp_path_factory.mktemp("plan")
    (folder / "busy.toml").write_text(f'extends = "testbed"\nwithout = {dropped}\nname = "busy"\n[router]\nk = 2\n')
    changes = ["duration_s=800.0", "warmup_s=40.0", "replications=4", "verdicts.max_replications=4"]
    changes += ["verdicts.inputs=nominal", "load.requests_per_s=0.6", "budgets.delay_s=30.0"]
    changes += ["budgets.energy_j_per_request=720.0", "experts[0].max_batch=1", "experts[1].max_batch=1"]
    for i, expert in enumerate(load(folder / "busy.toml").file.experts):
        changes.append(f'experts[{i}].power_modes={{eco = "{write_eco(folder, expert.profile)}"}}')
    return load(folder / "busy.toml", changes)


def test_the_plan_sets_the_batches_and_modes_that_the_best_needs(busy):
    """Of every subset, k, pair of largest batches and pair of power modes run, none that holds is worth more.

    As given, with one request at a time, the plan's subset and k do not hold; nor in the modes as given. The
    certificates hold, and nothing that fits without load is worth more in the plan's modes than in any.
    """
    plant = Plant.of(assemble(load(busy, [f"router.subset={json.dumps(PAIR)}"])), (1, 8))
    best = -np.inf
    for subset, k in (((0, 1), 2), ((0, 1), 1), ((0,), 1), ((1,), 1)):  # from the best on: one that holds ends it
        scorer = Scorer.of(replace(plant.problem, k=k), "fused")
        for batches, modes in itertools.product(
            itertools.product((8, 1), repeat=2), itertools.product((None, "eco"), repeat=2)
        ):
            if scorer.fused(subset) <= best or any((batches[i], modes[i]) != (1, None) for i in {0, 1} - {*subset}):
                continue
            experts = [replace(e, max_batch=b) for e, b in zip(plant.given, batches, strict=True)]
            asked = SimpleNamespace(
                experts=experts,
                modes=dict(zip([e.device for e in experts], modes, strict=True)),
                subset=subset,
                names=[PAIR[i] for i in subset],
                k=k,
            )
            if holds(planned(busy, asked)):
                best = scorer.fused(subset)
    found = plan(busy, ks=(1, 2), max_batches=(1, 8))
    assert found.status == "holds"
    assert found.n_runs <= 40
    assert found.best.value >= best - 1e-3
    assert set(found.best.max_batches(plant.given).values()) == {8}
    assert found.best.modes == {"rtx4090-a": None, "rtx4090-b": "eco"}
    assert [e.profile.endswith(".json") for e in found.chosen.file.experts] == [False, True]
    for one in (replace(found.best, experts=plant.given), replace(found.best, modes=dict.fromkeys(found.best.modes))):
        assert not holds(planned(busy, one))
    *own, anyhow = found.certificates
    assert own[0].modes == {"rtx4090-a": plant.given[0].profile.power_mode, "rtx4090-b": "eco"}
    assert own[0].upper_bound <= anyhow.upper_bound + 1e-12
    for certified in found.certificates:
        for selection in certified.selections.values():
            verify(selection.certificate)


def test_devices_share_a_mode_and_keep_what_the_scenario_switches(busy):
    """A mode is a device's: of two experts on one both need a profile of it. One that is switched has no choice."""
    a, b = assemble(busy).all_experts
    assert modes_of([a, b], ()) == {"rtx4090-a": (None, "eco"), "rtx4090-b": (None, "eco")}
    both = [replace(e, device="one") for e in (a, b)]
    assert modes_of(both, ()) == {"one": (None, "eco")}
    assert modes_of([both[0], replace(both[1], power_modes={})], ()) == {"one": (None,)}
    assert modes_of([a, b], {"rtx4090-b"})["rtx4090-b"] == (None,)
    assert modes_of([replace(a, power_modes={"same": a.profile})], ()) == {"rtx4090-a": (None,)}


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
    found = proposals(Plant.of(whole), (1, 2, 3))
    assert np.all(np.diff([p.value for p in found]) <= 0)
    for p in found:
        assert 0 < p.busy[list(p.subset)].min() <= p.busy.max() < 1
        assert p.energy_j <= 1.05 * problem.energy_budget_j
    heavier = proposals(Plant.of(replace(whole, requests_per_s=200 * whole.requests_per_s)), (1, 2, 3))
    assert {(p.subset, p.k) for p in heavier} < {(p.subset, p.k) for p in found}


def test_the_command_writes_a_scenario_that_runs_the_plan(small, tmp_path):
    """`moe2 plan` ends with a verdict and a plan.toml; bad input is refused as elsewhere."""
    out = tmp_path / "plan"
    found = CliRunner().invoke(app, ["plan", small.source, "--out", str(out), "--k", "1", *changes()])
    assert found.exit_code in {0, 3}, found.output
    assert load(out / "plan.toml").file.router.k == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["best"]["power_mode"] == {}  # no device of this scenario has a choice
    assert summary["certificates"][0]["upper_bound"] >= summary["certificates"][0]["value"]
    assert summary["answer"].startswith("Keep " if found.exit_code == 0 else "No plan is sure")
    assert all(name in summary["answer"] for name in summary["best"]["experts"])
    assert " ".join(found.output.split()).startswith(" ".join(summary["answer"].split()))  # what is said first
    numbers, worst = summary["numbers"], max(v["high"] / v["budget"] for v in summary["verdicts"])
    assert numbers["tightest_budget"]["high"] == pytest.approx(worst)
    assert numbers["accuracy"]["low"] <= numbers["accuracy"]["value"] <= numbers["accuracy"]["high"]
    page = (out / "plan.html").read_text(encoding="utf-8")
    assert f"<span>{html.escape(summary['answer'])}</span></h1>" in page
    assert page.count('<svg class="picture"') == 1
    assert page.count("<table") == 2
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert CliRunner().invoke(app, ["plan", "testbad", "--out", str(tmp_path / "x")]).exit_code == 2


def changes():
    return [word for change in SMALL for word in ("--set", change)]
