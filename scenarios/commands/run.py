"""The command line: a scenario listed, checked, and run in the twin."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scenarios.commands import timeline
from scenarios.commands.options import Changes, EngineName, ScenarioArg
from scenarios.commands.output import AsJson
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.interrupting import kept

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (scenarios, check, schema, run):
        app.command()(command)


def run(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Annotated[Path, typer.Option(help="Folder to write to; an earlier run in it is replaced.")],
    changes: Changes = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Play a recorded run again: only the servers are simulated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all chance, in place of the scenario's.")] = None,
    engine: EngineName = "compiled",
    report: Annotated[bool, typer.Option(help="Draw the figures and write report.html.")] = True,
    timeline_to: Annotated[
        Path | None, typer.Option("--timeline", metavar="FILE", help="Write the first replication as Perfetto JSON.")
    ] = None,
    timeline_from: Annotated[float, typer.Option(help="Begin of the timeline's window in seconds.")] = 0.0,
    timeline_until: Annotated[float | None, typer.Option(help="Its end; that of the run when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a scenario and judge its budgets.

    Exit status: 0 every budget holds, 1 a budget is violated, 2 bad input, 3 a budget is undecided.

    Example: moe2 run testbed --out runs/testbed --set router.k=2
    """
    from scenarios.files.loading import load, replayed
    from scenarios.running import perform, prepare
    from scenarios.verdicts.verdict import exit_status
    from twin.world import engine_of

    console = progress_console()
    with bad_input():
        extra = [] if seed is None else [f"seed={seed}"]
        timeline.check_timeline(timeline_to, timeline_from, timeline_until)
        plan = prepare(load(scenario, [*replayed(trace), *(changes or []), *extra]), out, engine=engine_of(engine))
    with bad_input((OSError, MemoryError)), kept(f"{out} is as it was; the same command starts anew"):  # a full disk
        result = perform(plan, report=report, console=console)
    if timeline_to is not None:
        with bad_input():
            timeline.draw_timeline(out, timeline_to, timeline_from, timeline_until)
    if as_json:
        print((out / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        from scenarios.commands.terminal import overloaded, print_verdicts

        print_verdicts(plan.assembly.file.name, result.verdicts, busy=overloaded(result))
        print(f"tables in {out}" + (f", report in {out / 'report.html'}" if report else ""))
    raise typer.Exit(exit_status(result.verdicts))


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


def schema() -> None:
    """Print the JSON Schema of scenario files, for editors.

    Example: moe2 schema > scenario.schema.json
    """
    from scenarios.files.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
