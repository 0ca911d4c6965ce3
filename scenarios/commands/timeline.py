"""The command line: a run as a trace for Perfetto."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from calibration.whole_file import whole_file
from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input
from scenarios.runs.folder import check_file

__all__ = ["check_timeline", "draw_timeline", "register"]


def check_timeline(file: Path | None, from_s: float, until_s: float | None) -> None:
    """Refuse a timeline that could not be written, before the run that it is of; ValueError says what is wrong."""
    if file is None and (from_s, until_s) != (0.0, None):
        raise ValueError("--timeline-from and --timeline-until choose a part of a timeline: add --timeline FILE")
    if file is not None:
        check_file(file, option="--timeline")
    _check_window(from_s, until_s, "--timeline-")


def _check_window(from_s: float, until_s: float | None, options: str) -> None:
    if not 0 <= from_s < (inf if until_s is None else until_s):
        raise ValueError(
            f"{options}from {from_s:g}{'' if until_s is None else f' {options}until {until_s:g}'}: must be a window "
            "that begins at 0 s or later and ends after it begins"
        )


def draw_timeline(run: Path, file: Path, from_s: float, until_s: float | None) -> int:
    """Write the timeline of replication 0 of a run's folder to a file; return the number of its events."""
    from twin.records.tables import SCHEMAS, read_tables
    from twin.records.timeline import write_timeline

    for name in SCHEMAS:
        if not (run / f"{name}.parquet").is_file():
            raise ValueError(f"{run}: there is no {name}.parquet; name the folder of a run, simulated or recorded")
    with whole_file(file) as draft:
        return write_timeline(read_tables(run), draft, from_s=from_s, until_s=inf if until_s is None else until_s)


def timeline(
    run: Annotated[Path, typer.Argument(help="Folder of a run, simulated or recorded.")],
    out: Annotated[Path, typer.Option(help="JSON file to write; open it in ui.perfetto.dev or chrome://tracing.")],
    from_: Annotated[float, typer.Option("--from", help="Begin of the window in seconds.")] = 0.0,
    until: Annotated[float | None, typer.Option(help="End of the window; the run's own when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write servers, legs, requests and handovers of a run as a trace for Perfetto.

    Example: moe2 timeline runs/testbed --out timeline.json --from 600 --until 900
    """
    with bad_input():
        check_file(out)
        _check_window(from_, until, "--")
        n = draw_timeline(run, out, from_, until)
    line = f"{n} events in {out}; open it in https://ui.perfetto.dev"
    say({"events": n, "file": str(out)}, [line], as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(timeline)
