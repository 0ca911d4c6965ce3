"""The commands of recordings: `moe2 fit` makes profiles of them, `moe2 export` writes them for other tools."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input
from scenarios.runs.folder import check_file, check_writable
from scenarios.steps import timed

if TYPE_CHECKING:
    from calibration.diagnostics import Fitted
    from calibration.iterations import Limits
    from calibration.sessions import Sessions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("fit")(fit_)
    app.command("export")(export_)


def fit_(  # noqa: PLR0917 - the command line's options
    recordings: Annotated[list[Path], typer.Argument(help="Folders of `moe2 calibrate`, or files of one recording.")],
    out: Annotated[Path, typer.Option(help="Folder for the profiles.")],
    device: Annotated[str | None, typer.Option(help="Device, where the files do not name it.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, where the files do not name it.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Precision of the weights; else as the recording tells it, or unknown.")
    ] = None,
    correction: Annotated[str | None, typer.Option(help="Correct the meter's known bias, if not recorded.")] = None,
    tiles: Annotated[
        bool,
        typer.Option(help="Prefill in whole tiles of prompt tokens where cross-validation prefers it (prefill_first)."),
    ] = False,
    token_budget: Annotated[
        int | None,
        typer.Option(min=1, help="Fit as the scheduler chunked needs it: tokens that the server takes an iteration."),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Of kernel tables: sequences the engine runs at once; else all timed."),
    ] = None,
    kv_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of kernel tables: tokens that its KV cache holds; else all timed.")
    ] = None,
    figure: Annotated[bool, typer.Option(help="Draw data, fit, band and residuals beside each profile.")] = True,
    as_json: AsJson = False,
) -> None:
    """Fit the cost models of recordings and write a profile for each model.

    Reads folders of `moe2 calibrate`, the pair of EdgeReasoning files (prefill and decode), the three vLLM kernel
    tables (dense, attention, per sequence; with --device and --model), the output of `llama-bench -o json`, AIPerf's
    profile_export.jsonl (with --device and --model), the IISWC26 sweep or Splitwise's performance model, recognised by
    their headers and names.

    Example: moe2 fit prefill.csv decode.csv --out profiles

    Example: moe2 fit dense.csv attention.csv per_sequence.csv --device "RTX 6000" --model llama-3.1-8b-instruct
    --token-budget 2048 --out profiles
    """
    from calibration.fitting import fit_summary
    from calibration.iterations import Limits

    limits = Limits(max_batch=max_batch, token_budget=token_budget, kv_capacity_tokens=kv_tokens)
    told: dict[str, Any] = {"device": device, "model": model, "quantization": quantization, "tiles": tiles}
    with bad_input(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        if tiles and token_budget:
            raise ValueError("--tiles is for the scheduler prefill_first, --token-budget for chunked; give one of them")
        check_writable(out)
        found = _fitted(recordings, told, limits, correction)
        with timed(f"writing {len(found)} profiles"):
            written = _write(found, out, draw=figure)
    if as_json:
        say(fit_summary([fitted.profile for fitted in found]), [], as_json=True)
        return
    _tell(found, written)


def _fitted(recordings: list[Path], told: dict[str, Any], limits: Limits, correction: str | None) -> list[Fitted]:
    """Fit what the files hold: recorded sessions, or tables; what is asked for and is of the other is refused."""
    from calibration.fitting import fit_tables, read_recorded

    with timed(f"reading {', '.join(map(str, recordings))}"):
        recorded = read_recorded(recordings, device=told["device"], model=told["model"])
    if recorded is None:
        if correction is not None:
            raise ValueError("--correction: is of a meter that `moe2 calibrate` read; these files tell of none")
        with timed("fitting the tables"):
            return fit_tables(recordings, **told, limits=limits)
    if limits.max_batch or limits.kv_capacity_tokens:
        raise ValueError("--max-batch and --kv-tokens are of kernel tables; a recording has its own")
    with timed("fitting"):
        return _fit_experts(recorded, {**told, "token_budget": limits.token_budget}, correction)


def _fit_experts(recorded: list[Sessions], told: dict[str, Any], correction: str | None) -> list[Fitted]:
    """Fit each expert of a recording; of several, those that cannot be fitted are told and left out."""
    found = []
    for sessions in recorded:
        try:
            found.append(_fit_one(sessions, told, correction))
        except ValueError as error:  # noqa: PERF203 - an expert takes seconds
            if len(recorded) == 1:
                raise
            name = "/".join(str(sessions.manifest.get(key)) for key in ("device", "model", "label"))
            print(f"refused: {name}, {error}")
    if not found:
        raise ValueError(f"{recorded[0].source.file}: no expert of it can be fitted")
    return found


def _fit_one(sessions: Sessions, told: dict[str, Any], correction: str | None) -> Fitted:
    """Return the profile of one expert's sessions beside their cells."""
    from dataclasses import replace

    from calibration.fitting import fit_sessions
    from calibration.meters.corrections import correction_named

    if correction is not None and sessions.correction is None:
        asked = correction_named(correction)
        asked.check(str(sessions.manifest["meter"]["name"]))
        sessions = replace(sessions, correction=asked)
    return fit_sessions(sessions, **told)


def _write(found: list[Fitted], out: Path, *, draw: bool) -> list[Path]:
    """Write the profiles and, if asked, their figures; returns the files. Two of one file are refused."""
    from calibration.profile import file_name, write_profile

    files = [file_name(fitted.profile.name) for fitted in found]
    if repeated := sorted({name for name in files if files.count(name) > 1}):
        raise ValueError(f"{', '.join(repeated)}: more than one profile would be written to it; fit them one by one")
    out.mkdir(parents=True, exist_ok=True)
    for fitted, name in zip(found, files, strict=True):
        write_profile(fitted.profile, out / name)
    if not draw:
        return [out / name for name in files]
    from scenarios.figures.profile_diagnostics import draw_diagnostics

    return [
        path for fitted, name in zip(found, files, strict=True) for path in (out / name, draw_diagnostics(fitted, out))
    ]


def _tell(found: list[Fitted], written: list[Path]) -> None:
    from calibration.fitting import fit_summary
    from scenarios.commands.terminal_fits import print_fit

    for fitted in found:
        print_fit(fitted.profile, fit_summary([fitted.profile]))
    for path in written:
        print(path)
    print(f"{len(found)} profile{'s' if len(found) > 1 else ''} in {written[0].parent}")


def export_(
    recording: Annotated[Path, typer.Argument(help="Folder of `moe2 calibrate`.")],
    out: Annotated[Path, typer.Option(help="File to write, in the form of AIPerf's profile_export.jsonl.")],
    as_json: AsJson = False,
) -> None:
    """Write a recording's requests as AIPerf's per-request records; `moe2 fit` reads them again.

    The form holds lengths, instants, chunks and faults of requests. It has no place for energy windows, idle power,
    the server's own times, the device and the settings: those stay in the recording.

    Example: moe2 export recordings/orin --out profile_export.jsonl
    """
    from calibration.sources.aiperf import LOST, write_aiperf

    with bad_input():
        check_file(out)
        n = write_aiperf(recording, out)
    lines = [f"{n} records in {out}", f"not in it, as the form has no place for them: {', '.join(LOST)}"]
    say({"records": n, "file": str(out), "not_in_it": list(LOST)}, lines, as_json=as_json)
