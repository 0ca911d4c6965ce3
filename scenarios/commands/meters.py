"""The commands of meters: `moe2 meters test`, `corrections`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from calibration.meters.protocol import Meter

__all__ = ["MeterKind", "Rails", "meters", "words"]

MeterKind = Annotated[str, typer.Option("--meter", help="auto, ina3221, tegrastats, jtop, nvml or none.")]
Rails = Annotated[str, typer.Option(help="Rails that add up to the module, joined by commas, on an unknown board.")]

meters = typer.Typer(help="What this device's power can be read from.", no_args_is_help=True)


@meters.command("test")
def meters_test(
    meter: MeterKind = "auto",
    rails: Rails = "",
    quick: Annotated[bool, typer.Option("--quick", help="5 seconds instead of about a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the meter: its refresh period, and its energy counter beside its integrated power under load.

    What loads it is a core of this machine, or on a GPU a model of random weights, where torch has CUDA.

    Exit status: 0 no finding, 1 a finding (more than 5 % of disagreement, say), 2 no such meter.

    Example: moe2 meters test --quick
    """
    from calibration.meters.opening import open_meter
    from calibration.meters.selftest import FULL_S, QUICK_S, self_test

    with bad_input():
        found = open_meter(meter, rails=words(rails))
        load, unloaded = _load_of(found)
        result = self_test(found, seconds=QUICK_S if quick else FULL_S, load=load)
        found.close()
    told = {**result.as_json(), "unloaded": unloaded}
    lines = [f"{key:13} {_shown(value)}" for key, value in told.items() if key not in {"warnings", "unloaded"}]
    lines += [f"warning: {warning}" for warning in (*result.warnings, *([unloaded] if unloaded else []))]
    say(told, lines, as_json=as_json)
    raise typer.Exit(1 if result.warnings and result.source != "none" else 0)


def _load_of(meter: Meter) -> tuple[Callable[[], object] | None, str]:
    """Return what loads the device of a meter (None: a core of this machine), and why a GPU stays idle, '' if not."""
    if meter.scope != "gpu":
        return None, ""
    from calibration.architectures import architecture_of
    from calibration.runtimes.random_transformer import RandomTransformer

    runtime = RandomTransformer(architecture_of("llama-3.2-1b"), device="cuda")
    try:
        runtime.report()
    except ValueError as error:
        return None, f"nothing loaded the GPU ({error}): counter and power are compared while it idles"
    return lambda: runtime.generate([100] * 32, 16), ""


@meters.command("corrections")
def meters_corrections(as_json: AsJson = False) -> None:
    """List the known biases of meters; none is applied unless `moe2 calibrate --correction` or `fit` is told to.

    Example: moe2 meters corrections
    """
    from calibration.meters.corrections import CORRECTIONS

    lines = [
        f"{c.name}: joules under load x {c.loaded:g} (± {c.uncertainty:.0%}), idle x {c.idle:g}\n"
        f"  for {c.meter}; {c.source}"
        for c in CORRECTIONS
    ]
    say([asdict(c) for c in CORRECTIONS], lines, as_json=as_json)


def words(joined: str) -> tuple[str, ...]:
    """Return the words that commas join."""
    return tuple(word.strip() for word in joined.split(",") if word.strip())


def _shown(value: Any) -> str:
    return "not known" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
