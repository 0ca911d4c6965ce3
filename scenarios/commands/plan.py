"""The command `moe2 plan`."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenarios.commands.options import Changes, ScenarioArg
from scenarios.commands.output import AsJson
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.steps import step

if TYPE_CHECKING:
    from scenarios.plans.certifying import Certified
    from scenarios.plans.planning import Plan
    from scenarios.plans.proposing import Proposal
    from scenarios.story.answer import Answer

STATUS = {"holds": 0, "violated": 1, "undecided": 3}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plan")(plan_)


def plan_(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Annotated[Path, typer.Option(help="Folder for plan.toml, plan.html, summary.json and tried.parquet.")],
    changes: Changes = None,
    k: Annotated[list[int] | None, typer.Option(help="Experts asked per request to consider; may be repeated.")] = None,
    max_batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Largest batch to consider for a device beside its own; may be repeated. Half, twice and four times "
            "its own when not given.",
        ),
    ] = None,
    max_runs: Annotated[int, typer.Option(help="Runs of the twin at most.", min=2)] = 40,
    as_json: AsJson = False,
) -> None:
    """Find the experts to keep, how many to ask, and how to set each device: the best answers that hold under load.

    A device takes its largest batch, and starts in its own power mode or one of the power_modes of its experts.

    Exit status: 0 the plan holds, 1 none does, 2 bad input, 3 the best is undecided.

    Example: moe2 plan testbed --out plans/testbed
    """
    from scenarios.files.loading import load  # noqa: PLC0415
    from scenarios.plans.plan_answer import plan_answer  # noqa: PLC0415
    from scenarios.plans.planning import plan  # noqa: PLC0415
    from scenarios.runs.folder import check_replaceable, whole_folder  # noqa: PLC0415

    console = progress_console()
    with bad_input():
        check_replaceable(out)
        given = load(scenario, changes or [])
        found = plan(given, ks=k or None, max_batches=max_batch or None, max_runs=max_runs, console=console)
    answer = plan_answer(found)
    summary = {**answer.plain(), **_summary(found)}
    with bad_input((OSError,)), whole_folder(out) as folder:
        _write(found, summary, folder)
        with step(console, "drawing the page"):
            _draw(found, answer, folder, out)
    if as_json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _print(found, answer, out)
    raise typer.Exit(STATUS[found.status])


def _write(found: Plan, summary: dict[str, Any], folder: Path) -> None:
    from scenarios.running import resolved  # noqa: PLC0415

    found.tried.to_parquet(folder / "tried.parquet")
    if found.chosen is not None:
        (folder / "plan.toml").write_text(resolved(found.chosen), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _draw(found: Plan, answer: Answer, folder: Path, out: Path) -> None:
    from scenarios.figures.plans import draw_tried  # noqa: PLC0415 - drawing takes seconds to load
    from scenarios.report.plan_page import write_plan_page  # noqa: PLC0415

    figures = [draw_tried(found.tried, folder / "figures")] if len(found.tried) else []
    write_plan_page(
        answer,
        [] if found.result is None else found.result.verdicts,
        found.tried,
        figures,
        folder / "plan.html",
        name=found.scenario.file.name,
        command="" if found.best is None else f"moe2 run {out / 'plan.toml'} --out runs/plan",
    )


def _summary(found: Plan) -> dict[str, Any]:
    def told(proposal: Proposal | None) -> dict[str, Any] | None:
        if proposal is None:
            return None
        batches = {e.name: e.max_batch for e in proposal.experts if e.name in proposal.names}
        modes = found.plant.mode_names(proposal.modes)
        return {
            "experts": proposal.names,
            "k": proposal.k,
            "max_batch": batches,
            "power_mode": modes,
            "value": proposal.value,
        }

    return {
        "status": found.status,
        "best": told(found.best),
        "verdicts": json.loads(found.verdicts.to_json(orient="records", double_precision=15)),
        "runners_up": [told(p) for p in found.runners_up],
        "better_but_undecided": told(found.doubtful),
        "certificates": [_certificate(c) for c in found.certificates],
        "runs": found.n_runs,
        "proposals": found.n_proposals,
    }


def _certificate(found: Certified) -> dict[str, Any]:
    best = found.best
    names = [best.certificate.problem.experts[i] for i in best.subset]
    told = {"power_mode": found.modes, "status": best.status, "experts": names, "k": found.k if names else None}
    values = {"value": best.value, "upper_bound": found.upper_bound}
    return {**told, **{key: value if isfinite(value) else None for key, value in values.items()}}


def _print(found: Plan, answer: Answer, out: Path) -> None:
    from scenarios.commands.terminal import print_verdicts  # noqa: PLC0415
    from scenarios.commands.terminal_sweep import print_answer  # noqa: PLC0415

    print_answer(answer.plain())
    if found.best is None or found.result is None:
        print(f"the reasons are in {out / 'tried.parquet'} and {out / 'plan.html'}")
        return
    print_verdicts("plan", found.result.verdicts, busy={})
    print(f"{out / 'plan.toml'} runs the plan, {out / 'plan.html'} shows it")
