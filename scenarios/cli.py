"""The command line: `moe2`. Each command imports what it needs, so that help and errors come at once."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from scenarios.commands import calibration, compare, method, plan, record, report, sweep, sync, timeline
from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from moe2.answers import Answers

__all__ = ["app", "main"]

app = typer.Typer(
    name="moe2",
    help="Will these edge LLMs hold their delay and energy budgets? Simulate before you deploy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

ScenarioArg = Annotated[str, typer.Argument(help="A scenario file, or the name of a bundled one (`moe2 scenarios`).")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, for example router.k=2. May be repeated."),
]


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def run(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Annotated[Path, typer.Option(help="Folder to write to; an earlier run in it is replaced.")],
    changes: Changes = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Play a recorded run again: only the servers are simulated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all chance, in place of the scenario's.")] = None,
    engine: Annotated[str, typer.Option(help="compiled, or simpy: the same in plain Python, slower.")] = "compiled",
    report: Annotated[bool, typer.Option(help="Draw the figures and write report.html.")] = True,
    timeline_to: Annotated[
        Path | None, typer.Option("--timeline", metavar="FILE", help="Write the first replication as Perfetto JSON.")
    ] = None,
    timeline_from: Annotated[float, typer.Option(help="Begin of the timeline's window in seconds.")] = 0.0,
    timeline_until: Annotated[float | None, typer.Option(help="Its end; that of the run when left out.")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing: the exit status says it.")] = False,
) -> None:
    """Simulate a scenario and judge its budgets.

    Exit status: 0 every budget holds, 1 a budget is violated, 2 bad input, 3 a budget is undecided.

    Example: moe2 run testbed --out runs/testbed --set router.k=2
    """
    from scenarios.commands.terminal import print_verdicts
    from scenarios.files.loading import load, replayed
    from scenarios.running import perform, prepare
    from scenarios.verdicts.verdict import exit_status
    from twin.records.metrics import busiest
    from twin.world import engine_of

    console = Console(stderr=True, quiet=quiet)
    with bad_input():
        extra = [] if seed is None else [f"seed={seed}"]
        timeline.check_timeline(timeline_to, timeline_from, timeline_until)
        plan = prepare(load(scenario, [*replayed(trace), *(changes or []), *extra]), out, engine=engine_of(engine))
    with bad_input((OSError,)):  # a full disk, a folder that cannot be written
        result = perform(plan, report=report, console=console)
    if timeline_to is not None:
        with bad_input():
            timeline.draw_timeline(out, timeline_to, timeline_from, timeline_until)
    if as_json:
        print((out / "summary.json").read_text(encoding="utf-8"), end="")
    elif not quiet:
        print_verdicts(plan.assembly.file.name, result.verdicts, busy=busiest(result.tables.devices))
        print(f"tables in {out}" + (f", report in {out / 'report.html'}" if report else ""))
    raise typer.Exit(exit_status(result.verdicts))


@app.command()
def scenarios(as_json: AsJson = False) -> None:
    """List the bundled scenarios, each with the question it asks.

    Example: moe2 scenarios
    """
    from scenarios.commands.terminal import print_scenarios
    from scenarios.files.loading import bundled_scenarios, load

    questions = {name: load(name).file.description for name in bundled_scenarios()}
    if as_json:
        print(json.dumps(questions, indent=2))
    else:
        print_scenarios(questions)


@app.command()
def check(scenario: ScenarioArg, changes: Changes = None, as_json: AsJson = False) -> None:
    """Check a scenario and everything it names, without running it.

    Exit status: 0 valid, 2 with one message that says what is wrong.

    Example: moe2 check mine.toml --set router.k=2
    """
    from scenarios.files.loading import load
    from scenarios.runs.replicating import assemble

    with bad_input():
        assembly = assemble(load(scenario, changes or []))
    kept = [e.name for e in assembly.experts]
    if as_json:
        print(json.dumps({"scenario": scenario, "valid": True, "experts": kept}))
    else:
        print(f"{scenario}: valid; experts that would run: {', '.join(kept)}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors.

    Example: moe2 schema > scenario.schema.json
    """
    from scenarios.files.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def train(
    answers: Annotated[str, typer.Option(help='"bundled" or an answers table.')] = "bundled",
    seed: Annotated[int, typer.Option(help="Seed of weights, order and dropout.")] = 0,
    out: Annotated[Path, typer.Option(help="Checkpoint to write (safetensors).")] = Path("gate.safetensors"),
    as_json: AsJson = False,
) -> None:
    """Train the gate on an answers table; needs the extra `gate`.

    Example: moe2 train --seed 1 --out gate.safetensors
    """
    from moe2.gate import write_gate
    from moe2.training import train_gate

    with bad_input():
        if not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: there is no folder {out.absolute().parent}")
        table = _answers(answers)
        bar = Progress(console=Console(stderr=True), transient=True)
        with bar:
            task = bar.add_task("training")
            gate = train_gate(table, seed=seed, progress=lambda n, total: bar.update(task, completed=n, total=total))
        write_gate(gate, out)
    line = f"{out}: temperature {gate.temperature:g}, smoothing {gate.smoothing:g}, k {gate.k}, chosen on validation"
    told = {"file": str(out), "temperature": gate.temperature, "smoothing": gate.smoothing, "k": gate.k}
    say(told, [line], as_json=as_json)


@app.command("evaluate")
def evaluate_(  # noqa: PLR0917 - the command line's options
    answers: Annotated[str, typer.Option(help='"bundled" or an answers table.')] = "bundled",
    gate: Annotated[str, typer.Option(help='"bundled" or a checkpoint written by `moe2 train`.')] = "bundled",
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
    from moe2.gate import bundled_gate, read_gate
    from scenarios.commands.terminal import print_accuracy, print_categories
    from scenarios.files.loading import load
    from scenarios.method.costs import scenario_costs

    with bad_input():
        chosen, table = bundled_gate() if gate == "bundled" else read_gate(Path(gate)), _answers(answers)
        found = evaluate(table, chosen, ks=k or (1, 2, 3, 4), costs=scenario_costs(load(scenario, []), table))
        if curves is not None:
            curves.mkdir(parents=True, exist_ok=True)
            method.draw_evaluation(scenario, [], curves)
    if as_json:
        print(found.to_json(orient="records", indent=2))
        return
    print_accuracy(found[found["category"] == "all"], costs_of=f"the experts of {scenario}")
    if by_category:
        print_categories(found)


def _answers(name: str) -> Answers:
    from moe2.answers import bundled_answers, read_answers

    return bundled_answers() if name == "bundled" else read_answers(Path(name))


for commands in (sweep, plan, report, calibration, method, compare, sync, record, timeline):
    commands.register(app)

PANELS = {
    "Plan a testbed": "scenarios check schema run report timeline sweep plan capacity sensitivity whatif versus",
    "At a device": "meters calibrate fit profiles export",
    "The twin and the testbed": "record compare import sync traces",
    "The method": "answers embed train evaluate",
}


def _panel(name: str) -> str:
    """Return the part of the table of contents that a command stands in."""
    return next(panel for panel, names in PANELS.items() if name in names.split())


for command in app.registered_commands:
    assert command.callback is not None, "a registered command has a function"  # noqa: S101
    command.rich_help_panel = _panel(command.name or command.callback.__name__)
for group in app.registered_groups:
    group.rich_help_panel = _panel(group.name or "")


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if show:
        print(f"moe2-twin {version('moe2-twin')}")
        raise typer.Exit
