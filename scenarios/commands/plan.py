"""The command `moe2 plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from scenarios.files.loading import Scenario
    from scenarios.plans.planning import Plan

STATUS = {"holds": 0, "violated": 1, "undecided": 3}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plan")(plan_)


def plan_(  # noqa: PLR0917 - the command line's options
    scenario: Annotated[str, typer.Argument(help="A scenario file, or the name of a bundled one.")],
    out: Annotated[Path, typer.Option(help="Folder for plan.toml, plan.json and tried.parquet.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")] = None,
    k: Annotated[list[int] | None, typer.Option(help="Experts asked per request to consider; may be repeated.")] = None,
    max_runs: Annotated[int, typer.Option(help="Runs of the twin at most.", min=2)] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan.json.")] = False,
) -> None:
    """Find the experts to keep and how many to ask, so that answers are best and the budgets hold under load.

    Exit status: 0 the plan holds, 1 none does, 2 bad input, 3 the best is undecided.

    Example: moe2 plan testbed --out plans/testbed
    """
    from scenarios.files.loading import load  # noqa: PLC0415
    from scenarios.plans.planning import plan  # noqa: PLC0415
    from scenarios.runs.folder import check_replaceable, whole_folder  # noqa: PLC0415

    console = Console(stderr=True)
    with bad_input():
        check_replaceable(out)
        given = load(scenario, changes or [])
        found = plan(given, ks=k or None, max_runs=max_runs, console=console)
    summary = _summary(found)
    with bad_input((OSError,)), whole_folder(out) as folder:
        found.tried.to_parquet(folder / "tried.parquet")
        if found.best is not None:
            (folder / "plan.toml").write_text(_planned(given, found), encoding="utf-8")
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        _print(found, out)
    raise typer.Exit(STATUS[found.status])


def _planned(given: Scenario, found: Plan) -> str:
    """Return the scenario with the plan's experts and k written into it."""
    from dataclasses import replace  # noqa: PLC0415

    from scenarios.running import resolved  # noqa: PLC0415

    assert found.best is not None, "there is a plan"  # noqa: S101
    router = given.file.router.model_copy(update={"subset": found.names(found.best), "k": found.best.k})
    return resolved(replace(given, file=given.file.model_copy(update={"router": router})))


def _summary(found: Plan) -> dict[str, Any]:
    def told(proposal: Any) -> dict[str, Any] | None:
        return proposal and {"experts": found.names(proposal), "k": proposal.k, "value": proposal.value}

    return {
        "status": found.status,
        "best": told(found.best),
        "runners_up": [told(p) for p in found.runners_up],
        "better_but_undecided": told(found.doubtful),
        "runs": found.n_runs,
        "proposals": found.n_proposals,
    }


def _print(found: Plan, out: Path) -> None:
    from scenarios.commands.terminal import print_verdicts  # noqa: PLC0415

    console = Console(highlight=False, emoji=False)
    if found.best is None or found.result is None:
        console.print(f"no plan: of {found.n_proposals} proposals that fit without load none holds under it")
        console.print("the reasons are in tried.parquet; relax a budget, lower the load, or add a device")
        return
    print_verdicts(f"plan: k = {found.best.k}, {', '.join(found.names(found.best))}", found.result.verdicts, busy={})
    for proposal in found.runners_up:
        console.print(f"runner-up: k = {proposal.k}, {escape(', '.join(found.names(proposal)))}")
    if found.doubtful is not None:
        names = escape(", ".join(found.names(found.doubtful)))
        console.print(f"better if it holds, but undecided: k = {found.doubtful.k}, {names}")
    console.print(f"{found.n_runs} runs of the twin, {found.n_proposals} proposals; {out / 'plan.toml'} runs the plan")
