"""The commands of a person at a device: `moe2 meters …`, `calibrate`, `profiles …`, `fit`, `export`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TimeRemainingColumn

from scenarios.commands import fitting
from scenarios.commands.meters import MeterKind, Rails, meters, words
from scenarios.commands.output import AsJson
from scenarios.commands.profiles import profiles
from scenarios.commands.recorded import tell_recording
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.runs.folder import check_writable

if TYPE_CHECKING:
    from calibration.runtimes.generation import Runtime

__all__ = ["register"]

log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(meters, name="meters")
    app.add_typer(profiles, name="profiles")
    app.command("calibrate")(calibrate_)
    fitting.register(app)


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

    interrupt: KeyboardInterrupt | None = None
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
        progress = opened.enter_context(_shown())
        try:
            calibrate(
                runtime,
                found,
                out,
                plan,
                model_file=model_file,
                allowed=frozenset(words(allow)),
                correction=corrected,
                progress=progress,
            )
        except KeyboardInterrupt as error:
            interrupt = error  # held: one that is let go counts as lost, and comes again
    tell_recording(out, interrupted=interrupt is not None, as_json=as_json)


@contextmanager
def _shown() -> Iterator[Callable[[int, int, float], None]]:
    """Show how many cells are measured, of how many, and about how many seconds are left, as it is told."""
    console = progress_console()
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("cells")

        def tell(done: int, total: int, left_s: float) -> None:
            bar.update(task, completed=done, total=total)
            log.info("%d of %d cells are measured, about %.0f s are left", done, total, left_s)

        yield tell


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


def _numbers(option: str, joined: str) -> tuple[int, ...]:
    """Return the whole numbers that commas join; ValueError naming the option."""
    found = words(joined)
    if not found or not all(word.isdecimal() for word in found):
        raise ValueError(f"{option}: found {joined!r}, must be whole numbers joined by commas, as 16,64")
    return tuple(map(int, found))
