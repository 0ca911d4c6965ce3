"""The commands of regression traces: `moe2 traces add`, `list` and `check`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from scenarios.comparing.comparison import Comparison
    from scenarios.comparing.traces import Kept, Regression

__all__ = ["register"]

TracesFolder = Annotated[Path, typer.Option("--folder", help="Folder of the traces.")]
_FOLDER = Path("tests/traces")

traces = typer.Typer(help="Recorded runs that the twin must stay near.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(traces, name="traces")


@traces.command("add")
def traces_add(  # noqa: PLR0917 - the command line's options
    recorded: Annotated[Path, typer.Argument(help="Folder of `moe2 record` or `moe2 import`.")],
    tolerances: Annotated[Path, typer.Option(metavar="FILE", help="TOML file of tolerances that it must meet.")],
    note: Annotated[str, typer.Option(help="On what and how it was recorded.")],
    scenario: Annotated[
        str | None,
        typer.Option(help="The scenario with the experts and the profiles used; by default the recorded one."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the trace; by default that of the recorded folder.")] = None,
    folder: TracesFolder = _FOLDER,
    as_json: AsJson = False,
) -> None:
    """Keep a recorded run, its scenario, profiles and tolerances as a regression trace.

    Exit status as of `moe2 compare`: the trace is replayed once and kept in any case.

    Example: moe2 traces add runs/recorded --tolerances loose.toml --note "llama.cpp, one core"
    """
    from scenarios.comparing.traces import add_trace

    with bad_input():
        path, found = add_trace(
            recorded,
            folder,
            name=name or recorded.resolve().name,
            scenario=scenario or _own_scenario(recorded),
            tolerances=tolerances,
            note=note,
        )
    size = sum(file.stat().st_size for file in path.iterdir())
    told = {"trace": str(path), "bytes": size, "comparison": found.as_json()}
    say(told, [*_findings(found), f"{path}: {size} bytes"], as_json=as_json)
    raise typer.Exit(found.exit_status)


@traces.command("list")
def traces_list(folder: TracesFolder = _FOLDER, as_json: AsJson = False) -> None:
    """List the regression traces: what was recorded, how, and whether every file is still what was added.

    Exit status: 0 every file is as its SHA-256 in the registry says, 1 one is not, 2 bad input.

    Example: moe2 traces list
    """
    from scenarios.comparing.traces import kept_in

    with bad_input():
        kept = kept_in(folder)
    say([asdict(one) for one in kept], _listed(kept, folder), as_json=as_json)
    raise typer.Exit(1 if any(one.flaws for one in kept) else 0)


@traces.command("check")
def traces_check(
    names: Annotated[list[str] | None, typer.Argument(help="Traces; all without a name.")] = None,
    folder: TracesFolder = _FOLDER,
    as_json: AsJson = False,
) -> None:
    """Replay regression traces and hold the twin against their tolerances.

    Exit status: 0 all are met, 1 one is exceeded, 2 bad input or a changed file, 3 one cannot be judged.

    Example: moe2 traces check
    """
    from scenarios.comparing.traces import named_traces, replay_trace

    with bad_input():
        replayed = [replay_trace(trace) for trace in named_traces(folder, names or [])]
    say({one.name: one.comparison.as_json() for one in replayed}, _checked(replayed), as_json=as_json)
    found = {one.comparison.exit_status for one in replayed}
    raise typer.Exit(1 if 1 in found else 3 if 3 in found else 0)


def _own_scenario(recorded: Path) -> str:
    """Return the scenario that a recording was written with; ValueError where it has none, as an import."""
    path = recorded / "scenario.toml"
    if recorded.is_dir() and not path.is_file():
        raise ValueError(f"{recorded}: has no scenario.toml of its own; name the scenario with --scenario")
    return str(path)


def _listed(kept: Sequence[Kept], folder: Path) -> Iterator[str]:
    flawed = [one.name for one in kept if one.flaws]
    state = f"changed since they were added: {', '.join(flawed)}" if flawed else "every file is as it was added"
    yield f"{len(kept)} {'trace' if len(kept) == 1 else 'traces'} in {folder}, {state}"
    for one in kept:
        yield f"{one.name}: {_recorded(one)}"
        yield f"  {one.note}"
        yield from (f"  CHANGED: {flaw}" for flaw in one.flaws)


def _recorded(one: Kept) -> str:
    error = f"E2E mean off by {one.error} when it was added" if one.error else "how far the twin was off is not told"
    if one.n_requests is None or one.lasted_s is None:
        return error
    asked = f"{one.n_requests} requests in {one.lasted_s:.3g} s on {', '.join(one.experts)}"
    return f"{asked}, {one.n_tolerances} tolerances, {error}"


def _checked(replayed: Sequence[Regression]) -> Iterator[str]:
    words = {0: "within its tolerances", 1: "BEYOND A TOLERANCE", 3: "not all could be judged"}
    for one in replayed:
        yield f"{one.name}: {words[one.comparison.exit_status]}"
        yield from _findings(one.comparison)
    kept = sum(one.comparison.exit_status == 0 for one in replayed)
    yield f"{kept} of {len(replayed)} traces within their tolerances"


def _findings(found: Comparison) -> list[str]:
    return [f"  {finding.status}: {finding.words}" for finding in found.findings]
