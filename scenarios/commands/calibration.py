"""The commands of a person at a device: `moe2 meters …`, `calibrate`, `fit`, `export`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import os
import sys
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TimeRemainingColumn

from calibration.whole_file import whole_file
from scenarios.commands.meters import MeterKind, Rails, meters, words
from scenarios.commands.output import AsJson, say
from scenarios.commands.profiles import profiles
from scenarios.commands.recorded import tell_recording
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.runs.folder import check_file, check_writable

if TYPE_CHECKING:
    from calibration.profile import Profile
    from calibration.runtimes.generation import Runtime
    from calibration.sessions import Sessions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(meters, name="meters")
    app.add_typer(profiles, name="profiles")
    app.command("calibrate")(calibrate_)
    app.command("fit")(fit_)
    app.command("export")(export_)


def calibrate_(  # noqa: PLR0917 - the command line's options
    out: Annotated[Path, typer.Option(help="Folder of the recording; one that is there is continued.")],
    url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint that takes token ids.")] = None,
    transformers: Annotated[
        str | None, typer.Option(help="Or a model in this process, weights random: a known model, or a config.json.")
    ] = None,
    torch_device: Annotated[str, typer.Option(help="Its device: auto, cpu, cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Its numbers: auto, float32, float16, bfloat16.")] = "auto",
    model: Annotated[str | None, typer.Option(help="Model, where the endpoint serves several.")] = None,
    model_file: Annotated[Path | None, typer.Option(help="File of the weights; its hash is recorded.")] = None,
    meter: MeterKind = "auto",
    rails: Rails = "",
    correction: Annotated[
        str | None, typer.Option(help="Correct the meter's known bias: see `moe2 meters corrections`.")
    ] = None,
    least_prompt: Annotated[int, typer.Option(min=1, help="Shortest prompt in tokens.")] = 32,
    most_prompt: Annotated[int, typer.Option(min=2, help="Longest prompt in tokens.")] = 2048,
    output: Annotated[str, typer.Option(help="Output lengths, joined by commas.")] = "16,64",
    concurrency: Annotated[str, typer.Option(help="Requests side by side, joined by commas.")] = "1",
    precision: Annotated[float, typer.Option(help="Relative half-width of a 90 % interval to reach.")] = 0.05,
    budget_s: Annotated[float, typer.Option(help="Seconds to spend at most.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Seed of the order of cells and of prompts.")] = 0,
    allow: Annotated[str, typer.Option(help="Preflight checks to let pass, joined by commas; recorded.")] = "",
    key_variable: Annotated[
        str | None, typer.Option(help="Environment variable that holds the endpoint's API key; it is not recorded.")
    ] = None,
    stall_s: Annotated[
        float, typer.Option(help="Seconds without a byte from the endpoint after which a request has failed.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Measure latency and energy of a model against prompt length; resumes where it was killed.

    The same command goes on with a recording: it measures what is missing, and again what had faults.

    Exit status: 0 every cell is measured, 1 cells are missing or had faults, 2 bad input, 130 interrupted.

    Example: moe2 calibrate --url http://127.0.0.1:8080 --out recordings/orin

    Example: moe2 calibrate --transformers llama-3.2-1b --most-prompt 512 --out recordings/here
    """
    from calibration.meters.corrections import correction_named
    from calibration.meters.opening import open_meter
    from calibration.session.calibrating import calibrate
    from calibration.session.plan import Plan

    console = progress_console()
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    interrupted = False
    with bad_input(), ExitStack() as opened:
        check_writable(out)
        plan = Plan(
            least_prompt=least_prompt,
            most_prompt=most_prompt,
            output_tokens=_numbers("--output", output),
            concurrency=_numbers("--concurrency", concurrency),
            precision=precision,
            budget_s=budget_s,
            seed=seed,
        )
        corrected = None if correction is None else correction_named(correction)
        if url is not None and transformers is None:
            runtime: Runtime = _endpoint(url, model, stall_s, key_variable)
        else:
            runtime = _in_process(url, transformers, torch_device, dtype)
        opened.callback(runtime.close)
        found = open_meter(meter, rails=words(rails))
        opened.callback(found.close)
        opened.enter_context(bar)
        task = bar.add_task("cells")
        try:
            calibrate(
                runtime,
                found,
                out,
                plan,
                model_file=model_file,
                allowed=frozenset(words(allow)),
                correction=corrected,
                progress=lambda done, total, _: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            interrupted = True
    tell_recording(out, interrupted=interrupted, as_json=as_json)


def _endpoint(url: str, model: str | None, stall_s: float, key_variable: str | None) -> Runtime:
    """Return the endpoint, with the key that a variable of the environment holds."""
    from calibration.runtimes.endpoint import Endpoint

    key = None if key_variable is None else os.environ.get(key_variable, "").strip()
    if key == "":
        raise ValueError(f"--key-variable: the environment has no variable {key_variable}, or it is empty; export it")
    if key is not None and not (key.isascii() and key.isprintable()):  # else the header's error would print it
        raise ValueError(f"--key-variable: {key_variable} holds more than a key: characters that no header can carry")
    return Endpoint(url, model, stall_s=stall_s, key=key)


def _in_process(url: str | None, transformers: str | None, torch_device: str, dtype: str) -> Runtime:
    """Return the model in this process; ValueError unless it alone is asked for."""
    from calibration.architectures import architecture_of, read_architecture
    from calibration.runtimes.random_transformer import RandomTransformer

    if url is not None or transformers is None:
        raise ValueError("what is measured? give one of --url (a server) and --transformers (a model in this process)")
    found = read_architecture(Path(transformers)) if transformers.endswith(".json") else architecture_of(transformers)
    return RandomTransformer(found, device=torch_device, dtype=dtype)


def fit_(  # noqa: PLR0917 - the command line's options
    recordings: Annotated[list[Path], typer.Argument(help="Folders of `moe2 calibrate`, or files of one recording.")],
    out: Annotated[Path, typer.Option(help="Folder for the profiles.")],
    device: Annotated[str | None, typer.Option(help="Device, where the files do not name it.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, where the files do not name it.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Precision of the weights, likewise; bf16 where nothing is told.")
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
    figure: Annotated[bool, typer.Option(help="Draw data, fit, band and residuals beside each profile.")] = True,
    as_json: AsJson = False,
) -> None:
    """Fit the cost models of recordings and write a profile for each model.

    Reads folders of `moe2 calibrate`, the pair of EdgeReasoning files (prefill and decode), the three vLLM kernel
    tables (dense, attention, per sequence), the output of `llama-bench -o json`, AIPerf's profile_export.jsonl
    (with --device and --model), the IISWC26 sweep or Splitwise's performance model, recognised by their headers and
    names.

    Example: moe2 fit prefill.csv decode.csv --out profiles
    """
    from calibration.fitting import fit_recording, fit_summary, read_recorded
    from scenarios.commands.terminal import print_fits

    with bad_input(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        if tiles and token_budget:
            raise ValueError("--tiles is for the scheduler prefill_first, --token-budget for chunked; give one of them")
        check_writable(out)
        recorded = read_recorded(recordings, device=device, model=model)
        if recorded is None and token_budget:
            raise ValueError(
                f"--token-budget: {', '.join(map(str, recordings))} hold no requests; it fits what `moe2 calibrate` "
                "recorded of a server with several at once"
            )
        if recorded is None:
            weights = quantization or "bf16"
            found = fit_recording(recordings, out, device=device, model=model, quantization=weights, tiles=tiles)
        else:
            told: dict[str, Any] = {"device": device, "model": model, "quantization": quantization}
            told |= {"tiles": tiles, "token_budget": token_budget}
            found = _fit_experts(recorded, out, told, correction, draw=figure)
    if as_json:
        say(fit_summary(found), [], as_json=True)
        return
    print_fits(fit_summary(found))
    for profile in found:
        _tell_tile(profile)
        for row in profile.evidence.get("refused_rows", ()):
            print(f"refused: {row['n']} rows, {row['reason']}")
        missing = profile.evidence.get("missing_cells", ())
        if missing:
            print(f"missing, as the session ended before: {', '.join(missing)}")
        for why in profile.evidence.get("ended", ()):
            print(f"session: {why}")
    print(f"{len(found)} profiles in {out}")


def _tell_tile(profile: Profile) -> None:
    """Print that cross-validation prefers a tile which the profile does not have, and how much it would gain."""
    tile = profile.evidence.get("prefill_s", {}).get("tile", {"chosen": 1})
    if tile["chosen"] > profile.seconds.tile_tokens:
        error, smooth = tile["errors"][str(tile["chosen"])], tile["errors"]["1"]
        print(
            f"{profile.name}: on lengths left out, prefill in tiles of {tile['chosen']} tokens is off by {error:.1%}, "
            f"the smooth form by {smooth:.1%}; --tiles takes them, for the scheduler prefill_first"
        )


def _fit_experts(
    recorded: list[Sessions], out: Path, told: dict[str, Any], correction: str | None, *, draw: bool
) -> list[Profile]:
    """Fit each expert of a recording; of several, those that cannot be fitted are told and left out."""
    found = []
    for sessions in recorded:
        try:
            found.append(_fit_one(sessions, out, told, correction, draw=draw))
        except ValueError as error:  # noqa: PERF203 - an expert takes seconds
            if len(recorded) == 1:
                raise
            name = "/".join(str(sessions.manifest.get(key)) for key in ("device", "model", "label"))
            print(f"refused: {name}, {error}")
    if not found:
        raise ValueError(f"{recorded[0].source.file}: no expert of it can be fitted")
    return found


def _fit_one(sessions: Sessions, out: Path, told: dict[str, Any], correction: str | None, *, draw: bool) -> Profile:
    """Fit and write one profile, with its figure."""
    from dataclasses import replace

    from calibration.fitting import fit_sessions
    from calibration.meters.corrections import correction_named
    from calibration.profile import file_name, write_profile

    if correction is not None and sessions.correction is None:
        asked = correction_named(correction)
        asked.check(str(sessions.manifest["meter"]["name"]))
        sessions = replace(sessions, correction=asked)
    profile = fit_sessions(sessions, **told)
    out.mkdir(parents=True, exist_ok=True)
    write_profile(profile, out / file_name(profile.name))
    if draw:
        from scenarios.figures.profile_diagnostics import draw_diagnostics

        print(draw_diagnostics(profile, sessions, out))
    return profile


def export_(
    recording: Annotated[Path, typer.Argument(help="Folder of `moe2 calibrate`.")],
    out: Annotated[Path, typer.Option(help="File to write, in the form of AIPerf's profile_export.jsonl.")],
    as_json: AsJson = False,
) -> None:
    """Write a recording's requests as AIPerf's per-request records.

    Example: moe2 export recordings/orin --out profile_export.jsonl
    """
    from calibration.sources.aiperf import write_aiperf

    with bad_input():
        check_file(out)
        with whole_file(out) as draft:
            n = write_aiperf(recording, draft)
    say({"records": n, "file": str(out)}, [f"{n} records in {out}"], as_json=as_json)


def _numbers(option: str, joined: str) -> tuple[int, ...]:
    """Return the whole numbers that commas join; ValueError naming the option."""
    found = words(joined)
    if not found or not all(word.isdecimal() for word in found):
        raise ValueError(f"{option}: found {joined!r}, must be whole numbers joined by commas, as 16,64")
    return tuple(map(int, found))
