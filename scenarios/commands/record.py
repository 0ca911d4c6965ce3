"""`moe2 record`: the scenario's requests, sent to real endpoints."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.interrupting import INTERRUPTED

if TYPE_CHECKING:
    from scenarios.recording.playing import Counts
    from scenarios.recording.recording import Plan
    from scenarios.runs.result import Result

__all__ = ["register"]

_REDRAWN_S = 0.5  # drawing takes a millisecond or two, which no send should wait for often


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("record")(record)


def record(  # noqa: PLR0917 - the command line's options
    out: Annotated[Path, typer.Option(help="Folder to write to; an earlier run in it is replaced.")],
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario file, or the name of a bundled one (`moe2 scenarios`).")
    ] = None,
    endpoints: Annotated[
        Path | None, typer.Option(help="TOML: tables [[endpoints]] with expert, url, and where needed meter, model.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, for example router.k=2. May be repeated."),
    ] = None,
    speed: Annotated[
        float, typer.Option(help="How many times as fast requests come; the servers are as they are.")
    ] = 1.0,
    replications: Annotated[
        int | None, typer.Option(min=1, help="Recordings one after another, in place of the scenario's number.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="JSONL of texts by question_id, sent in place of random token ids.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Send nothing: write what an interrupted recording into --out had.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Draw the figures and write report.html.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")
    ] = False,
) -> None:
    """Play a scenario's requests on real endpoints and write the tables of `moe2 run`.

    Requests are those of `moe2 run` with the same seed, sent at their instants however slow the servers are. Ctrl-C or
    a kill keeps every finished leg; --resume then writes the tables. Exit status: as `moe2 run`.

    Example: moe2 record testbed --endpoints endpoints.toml --out recorded
    """
    console = progress_console()
    if resume:
        asked = {"SCENARIO": scenario, "--endpoints": endpoints, "--set": changes, "--questions": questions}
        with bad_input():
            _check_resume(out, {**asked, "--replications": replications, "--speed": None if speed == 1 else speed})
    else:
        with bad_input():
            plan = _prepared(scenario, endpoints, out, changes or [], speed, replications, questions)
        for warning in plan.warnings:
            console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
        with bad_input():
            whole = _performed(plan, console)
        if not whole:
            _tell_interrupted(out, console)
    _finish(out, console, report=report, as_json=as_json)


def _prepared(  # noqa: PLR0917 - as the options stand
    scenario: str | None,
    endpoints: Path | None,
    out: Path,
    changes: list[str],
    speed: float,
    replications: int | None,
    questions: Path | None,
) -> Plan:
    from scenarios.files.loading import load
    from scenarios.recording.recording import prepare

    if scenario is None or endpoints is None:
        raise ValueError("record needs a scenario and --endpoints FILE; with --resume it needs neither")
    found = load(scenario, changes)
    return prepare(found, out, endpoints, speed=speed, questions=questions, replications=replications)


def _check_resume(out: Path, asked: dict[str, object]) -> None:
    """Raise ValueError where there is nothing to write, or something is asked for that would have to be sent."""
    from scenarios.recording.recording import journal_of

    if given := [name for name, value in asked.items() if value]:
        raise ValueError(f"--resume sends nothing and writes what the journal has; leave out {', '.join(given)}")
    if not out.name or not journal_of(out).exists():
        whole = "; what is there is written" if (out / "summary.json").is_file() else ""
        raise ValueError(f"--resume: there is no unfinished recording into {out}{whole}")


def _performed(plan: Plan, console: Console) -> bool:
    from scenarios.recording.recording import perform

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal)
    if not console.is_terminal:
        console.print(f"recording for {plan.lasts_s:.4g} s and until the last answer")
    try:
        with bar:
            return perform(plan, _watch(bar, plan))
    except OSError as error:  # a full disk
        raise ValueError(
            f"{error.filename}: {error.strerror}; `moe2 record --resume` writes what ended before"
        ) from None


def _tell_interrupted(out: Path, console: Console) -> None:
    """Say what an interrupt leaves; where nothing was sent yet, that is nothing, and the command ends."""
    from scenarios.recording.recording import dropped

    with bad_input():
        nothing = dropped(out)
    if nothing:
        console.print("interrupted before anything was sent: nothing is kept")
        raise typer.Exit(INTERRUPTED)
    console.print("interrupted: what ended is kept")


def _watch(bar: Progress, plan: Plan) -> Callable[[int, Counts], None]:
    """Return what keeps the bar up to date, drawn at most every half second."""
    n, task = len(plan.loads), bar.add_task("recording", told="")
    drawn_s = [0.0]

    def watch(replication: int, counts: Counts) -> None:
        bar.update(
            task,
            description="recording" if n == 1 else f"recording {replication + 1} of {n}",
            completed=sum(counts.ended.values()),
            total=counts.total,
            told=f"sent {counts.sent}, failed {counts.ended['failed']}, late {counts.late}",
        )
        if bar.get_time() - drawn_s[0] > _REDRAWN_S:
            drawn_s[0] = bar.get_time()
            bar.refresh()

    return watch


def _finish(out: Path, console: Console, *, report: bool, as_json: bool) -> None:
    from scenarios.commands.terminal import overloaded, print_verdicts
    from scenarios.recording.journal import alone_with
    from scenarios.recording.recording import journal_of, recording_of
    from scenarios.recording.writing import write_recording
    from scenarios.verdicts.verdict import exit_status

    with bad_input(), alone_with(journal_of(out)):
        result = write_recording(recording_of(out), out, report=report, console=console)
    if as_json:
        print((out / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        print_verdicts(result.assembly.file.name, result.verdicts, busy=overloaded(result))
        for line in _told(out, result):
            print(line)
        print(f"tables in {out}" + (f", report in {out / 'report.html'}" if report else ""))
    raise typer.Exit(exit_status(result.verdicts))


def _told(out: Path, result: Result) -> list[str]:
    """Return what became of the requests, why legs were not served, and how late the sends were."""
    import json

    from scenarios.recording.reasons import reasons
    from scenarios.story.late import late_words
    from scenarios.story.stolen import stolen_words

    about: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))["recording"]
    late = about["lateness"]
    counts = result.tables.requests["status"].value_counts()
    way_out = "; record on a machine that is less busy, or with --speed below 1"
    return [
        f"requests: {', '.join(f'{n} {status}' for status, n in counts.items())}",
        *reasons(result.tables.legs),
        f"sends: {1000 * late['median_s']:.3g} ms late in the median, {1000 * late['max_s']:.4g} ms at most",
        *(f"TOO LATE: {words}{way_out}" for words in late_words(late)),
        *stolen_words(about["steal_share"]),
        *about["slots_apart"],
        *([f"interrupted at {result.wall_s:.3g} s: what came later is missing"] if about["interrupted"] else []),
    ]
