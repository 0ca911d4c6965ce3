"""The command line: `moe2`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scenarios.loading import bundled_scenarios, load
from scenarios.numbers import DASH, bound, interval, quantity
from scenarios.replicating import assemble
from scenarios.running import perform, prepare
from scenarios.verdict import Verdict, exit_status, overall

app = typer.Typer(
    name="moe2",
    help="Will these edge LLMs hold their delay and energy budgets? Simulate before you deploy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
BAD_INPUT = 2

ScenarioArg = Annotated[str, typer.Argument(help="A scenario file, or the name of a bundled one (`moe2 scenarios`).")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, for example router.k=2. May be repeated."),
]


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def bad_input() -> Iterator[None]:
    """Turn an error in what was given into one message and exit status 2, without a traceback."""
    try:
        yield
    except (ValueError, ModuleNotFoundError, OSError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"moe2: {escape(str(error))}", markup=True)
        raise typer.Exit(BAD_INPUT) from None


@app.command()
def run(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Annotated[Path, typer.Option(help="Folder to write to; an earlier run in it is replaced.")],
    changes: Changes = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all chance, in place of the scenario's.")] = None,
    engine: Annotated[str, typer.Option(help="Engine of the twin: simpy.")] = "simpy",
    report: Annotated[bool, typer.Option(help="Draw the figures and write report.html.")] = True,
) -> None:
    """Simulate a scenario and judge its budgets.

    Exit status: 0 every budget holds, 1 a budget is violated, 2 bad input, 3 a budget is undecided.

    Example: moe2 run testbed --out runs/testbed --set router.k=2
    """
    console = Console(stderr=True)
    with bad_input():
        if engine != "simpy":
            raise ValueError(f"--engine {engine}: there is one engine, simpy")
        extra = [] if seed is None else [f"seed={seed}"]
        plan = prepare(load(scenario, [*(changes or []), *extra]), out)
    result = perform(plan, report=report, console=console)
    _print_verdicts(plan.assembly.file.name, result.verdicts)
    print(f"tables in {out}" + (f", report in {out / 'report.html'}" if report else ""))
    raise typer.Exit(exit_status(result.verdicts))


@app.command()
def scenarios() -> None:
    """List the bundled scenarios, each with the question it asks."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("scenario", style="bold")
    table.add_column("question")
    for name in bundled_scenarios():
        table.add_row(name, load(name).file.description)
    Console().print(table)


@app.command()
def check(scenario: ScenarioArg, changes: Changes = None) -> None:
    """Check a scenario and everything it names, without running it."""
    with bad_input():
        assembly = assemble(load(scenario, changes or []))
    kept = ", ".join(e.name for e in assembly.experts)
    print(f"{scenario}: valid; experts that would run: {kept}")


def _print_verdicts(name: str, verdicts: list[Verdict]) -> None:
    title = f"{name}: {overall(verdicts)}" if verdicts else f"{name}: no budget to judge"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("budget")
    for column in ("allowed", "found", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for v in verdicts:
        table.add_row(v.label, bound(v.budget, v.unit), _found(v), _between(v), Text(v.status, _STYLES[v.status]))
    console = Console()
    console.print(table)
    for v in verdicts:
        if v.note:
            console.print(f"{v.label}: {escape(v.note)}", highlight=False)


def _found(v: Verdict) -> str:
    if v.estimate is None:
        return "not known"
    return quantity(v.estimate, v.unit) if math.isfinite(v.estimate) else "∞"


def _between(v: Verdict) -> str:
    if v.low is None or v.high is None or math.isinf(v.low):
        return DASH
    return interval(v.low, v.high, v.unit) if math.isfinite(v.high) else f"above {quantity(v.low, v.unit)}"


_STYLES = {"holds": "green", "violated": "red", "undecided": "yellow"}


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if show:
        print(f"moe2-twin {version('moe2-twin')}")
        raise typer.Exit
