"""The command `moe2 plan`."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from scenarios.commands.options import Changes, ScenarioArg
from scenarios.commands.output import AsJson
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console

if TYPE_CHECKING:
    from scenarios.plans.certifying import Certified
    from scenarios.plans.planning import Plan
    from scenarios.plans.proposing import Proposal

STATUS = {"holds": 0, "violated": 1, "undecided": 3}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plan")(plan_)


def plan_(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Annotated[Path, typer.Option(help="Folder for plan.toml, summary.json and tried.parquet.")],
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
    from scenarios.plans.planning import plan  # noqa: PLC0415
    from scenarios.runs.folder import check_replaceable, whole_folder  # noqa: PLC0415

    console = progress_console()
    with bad_input():
        check_replaceable(out)
        given = load(scenario, changes or [])
        found = plan(given, ks=k or None, max_batches=max_batch or None, max_runs=max_runs, console=console)
    summary = _summary(found)
    with bad_input((OSError,)), whole_folder(out) as folder:
        _write(found, summary, folder)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        _print(found, out)
    raise typer.Exit(STATUS[found.status])


def _write(found: Plan, summary: dict[str, Any], folder: Path) -> None:
    from scenarios.running import resolved  # noqa: PLC0415

    found.tried.to_parquet(folder / "tried.parquet")
    if found.chosen is not None:
        (folder / "plan.toml").write_text(resolved(found.chosen), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


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


def _print(found: Plan, out: Path) -> None:
    from scenarios.commands.terminal import print_verdicts  # noqa: PLC0415

    console = Console(highlight=False, emoji=False)
    if found.best is None or found.result is None:
        console.print(f"no plan: of {found.n_proposals} proposals that promised to fit none holds under load")
        console.print("the reasons are in tried.parquet; relax a budget, lower the load, or add a device")
        return
    print_verdicts(f"plan: {_words(found, found.best)}", found.result.verdicts, busy={})
    for proposal in found.runners_up:
        console.print(f"runner-up: {escape(_words(found, proposal))}")
    if found.doubtful is not None:
        console.print(f"better if it holds, but undecided: {escape(_words(found, found.doubtful))}")
    own, *others = found.certificates
    anyhow = "".join(f", in any modes than {c.upper_bound:.3f}" for c in others if c.modes is None)
    console.print(
        f"worth {found.best.value:.3f} nats per prompt; proven: without load nothing that fits is worth more than "
        f"{own.upper_bound:.3f}{' in these power modes' if anyhow else ''}{anyhow}"
    )
    console.print(f"{found.n_runs} runs of the twin, {found.n_proposals} proposals; {out / 'plan.toml'} runs the plan")


def _words(found: Plan, proposal: Proposal) -> str:
    settings = "; ".join(["", *proposal.set_otherwise(found.plant.given)])
    return f"k = {proposal.k}, {', '.join(proposal.names)}{settings}"
