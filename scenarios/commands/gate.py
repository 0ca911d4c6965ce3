"""The command line: the gate trained, and evaluated beside the baselines."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from calibration.whole_file import whole_file
from scenarios.commands import method
from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.runs.folder import check_file, check_writable
from scenarios.steps import step, timed

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)
    app.command("evaluate")(evaluate_)


def train(
    answers: Annotated[str, typer.Option(help='"bundled" or an answers table.')] = "bundled",
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and dropout.")] = 0,
    out: Annotated[Path, typer.Option(help="Checkpoint to write (safetensors).")] = Path("gate.safetensors"),
    as_json: AsJson = False,
) -> None:
    """Train the gate on an answers table; needs the extra `gate`.

    A table of fewer than 5 train or 5 validation prompts is refused; below 200 and 100 a warning says what is in doubt.

    Example: moe2 train --seed 1 --out gate.safetensors
    """
    from moe2.gate import write_gate
    from moe2.training import scarcity, train_gate
    from scenarios.runs.inputs import answers_at

    console = progress_console()
    with bad_input():
        check_file(out)
        method.check_apart(out, Path(answers))
        table = answers_at(None if answers == "bundled" else Path(answers))
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        with timed("training"), bar:
            task = bar.add_task("training")
            gate = train_gate(table, seed=seed, progress=lambda n, total: bar.update(task, completed=n, total=total))
        with whole_file(out) as draft:
            write_gate(gate, draft)
    doubt = scarcity(table)
    if doubt:
        console.print(f"warning: {doubt}", markup=False, highlight=False, soft_wrap=True)
    line = f"{out}: temperature {gate.temperature:g}, smoothing {gate.smoothing:g}, k {gate.k}, chosen on validation"
    told = {"file": str(out), "temperature": gate.temperature, "smoothing": gate.smoothing, "k": gate.k}
    told["warnings"] = [doubt] if doubt else []
    say(told, [line], as_json=as_json)


def evaluate_(  # noqa: PLR0917 - the command line's options
    answers: Annotated[
        str | None, typer.Option(help='"bundled" or an answers table; without it the scenario\'s.')
    ] = None,
    gate: Annotated[
        str | None, typer.Option(help='"bundled" or a checkpoint of `moe2 train`; without it the scenario\'s.')
    ] = None,
    k: Annotated[list[int] | None, typer.Option(help="Experts asked; may be repeated.")] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Also draw accuracy against delay and energy budgets into this folder.")
    ] = None,
    scenario: Annotated[str, typer.Option(help="Scenario whose experts give the costs and the curves.")] = "testbed",
    by_category: Annotated[bool, typer.Option("--by-category", help="Also print the gate by category.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print accuracy, loss and unloaded costs of the gate beside the baselines, on the test split.

    Example: moe2 evaluate --k 1 --k 3 --by-category --curves curves
    """
    from moe2.evaluation import evaluate
    from scenarios.commands.terminal import print_accuracy, print_categories
    from scenarios.files.loading import load
    from scenarios.method.costs import scenario_costs
    from scenarios.runs.inputs import answers_at, gate_at

    with bad_input():
        if curves is not None:
            check_writable(curves, option="--curves")
        given = load(scenario, [])
        table_file = _file(answers, given.path, given.file.router.answers)
        gate_file = _file(gate, given.path, given.file.router.gate)
        table, chosen = answers_at(table_file), gate_at(gate_file)
        with step(progress_console(), "evaluating on the test split"):
            found = evaluate(table, chosen, ks=k, costs=scenario_costs(given, table))
        if curves is not None:
            method.draw_evaluation(scenario, _named(answers=table_file, gate=gate_file), curves)
    if as_json:
        print(found.to_json(orient="records", indent=2))
        return
    print_accuracy(found[found["category"] == "all"], costs_of=f"the experts of {scenario}")
    if by_category:
        print_categories(found)


def _file(named: str | None, in_scenario: Callable[[str], Path], otherwise: str) -> Path | None:
    """Return the file of an option, or else of the scenario, whose paths start at its folder; None: the bundled one."""
    if named is not None:
        return None if named == "bundled" else Path(named)
    return None if otherwise == "bundled" else in_scenario(otherwise)


def _named(**files: Path | None) -> list[str]:
    """Return the changes that make a scenario's router read these files."""
    return [
        f"router.{key}={json.dumps('bundled' if file is None else str(file.absolute()))}" for key, file in files.items()
    ]
