"""The command `moe2 report`: a run's report drawn again, or several runs side by side."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.runs.folder import check_writable
from scenarios.steps import step

if TYPE_CHECKING:
    from scenarios.figures import Figure, Vector
    from scenarios.story.comparing import Comparison

__all__ = ["register"]

COMPARISON = "comparison.html"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(report)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `moe2 run` wrote; the first is compared with.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page and its figures; one run's own folder when not given."),
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Delays and timelines to explore; five megabytes more.")
    ] = False,
    vector: Annotated[
        Literal["svg", "pdf"] | None, typer.Option(help="Draw every figure in this format too, for papers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics and verdicts as JSON.")] = False,
) -> None:
    """Draw the report of a run again from its tables, or put several runs side by side on one page.

    Nothing is simulated. Exit status: 0 done, 2 bad input.

    Example: moe2 report runs/testbed --vector svg

    Example: moe2 report runs/k1 runs/k2 runs/testbed --out comparison --interactive
    """
    console = progress_console()
    with bad_input():
        if len(runs) == 1:
            told = _redraw(runs[0], out or runs[0], interactive=interactive, vector=vector, console=console)
        elif out is None:
            raise ValueError("--out is missing: name a folder for the page of several runs")
        else:
            told = _compare(runs, out, interactive=interactive, vector=vector, console=console)
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        print(told["page"])


def _redraw(run: Path, out: Path, *, interactive: bool, vector: Vector | None, console: Console) -> dict[str, object]:
    from scenarios.figures import draw_figures
    from scenarios.report import write_report
    from scenarios.story.reading import read_result, told_of
    from scenarios.story.telling import tell

    if out != run:
        _check_out(out, "report.html")
    elif run.is_dir():
        check_writable(out)
    with step(console, "reading the tables"):
        story = replace(tell(read_result(run), out=run), **told_of(run))
    with step(console, "drawing the report"):
        figures = _whole(out, lambda folder: draw_figures(story, folder, vector=vector))
        write_report(story, figures, out / "report.html", interactive=interactive)
    verdicts = json.loads((run / "summary.json").read_text(encoding="utf-8"))["verdicts"]
    return {"page": str(out / "report.html"), "status": story.overall, "verdicts": verdicts}


def _compare(
    runs: list[Path], out: Path, *, interactive: bool, vector: Vector | None, console: Console
) -> dict[str, object]:
    from scenarios.figures.side_by_side import draw_side_by_side
    from scenarios.report.comparison_page import write_comparison
    from scenarios.story.comparing import compare
    from scenarios.story.reading import read_result

    folders = _named(runs)
    _check_out(out, COMPARISON)
    with step(console, "reading the tables"):
        found = compare({name: read_result(folder) for name, folder in folders.items()}, folders)
    with step(console, "drawing the page"):
        figures = _whole(out, lambda folder: draw_side_by_side(found.stories, folder, vector=vector))
        write_comparison(found, figures, out / COMPARISON, interactive=interactive)
    return {"page": str(out / COMPARISON), **_plain(found)}


def _whole(out: Path, draw: Callable[[Path], list[Figure]]) -> list[Figure]:
    """Return figures drawn aside and then put into `out`/figures: whatever interrupts this, each file is whole."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".figures.", dir=out) as aside:
        drawn = draw(Path(aside))
        for path in Path(aside).iterdir():
            path.replace(folder / path.name)
    return [replace(figure, path=folder / figure.path.name) for figure in drawn]


def _plain(found: Comparison) -> dict[str, object]:
    tables = {"metrics": found.metrics, "differences": found.differences, "settings": found.settings}
    return {
        "status": {name: story.overall for name, story in found.stories.items()},
        **{name: json.loads(t.to_json(orient="records", double_precision=15)) for name, t in tables.items()},
    }


def _named(runs: list[Path]) -> dict[str, Path]:
    """Return the folders by their names, with as many parents as it takes to tell them apart."""
    paths = [run.absolute() for run in runs]
    if twice := [run for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]:
        raise ValueError(f"{twice[0]}: this run is named twice")
    for n in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-n:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, runs, strict=True))


def _check_out(out: Path, page: str) -> None:
    """Raise ValueError unless the folder is new, empty, or holds an earlier page of the same kind."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / page).is_file())):
        raise ValueError(f"--out {out}: name a new folder, or one with an earlier {page}")
    check_writable(out)
