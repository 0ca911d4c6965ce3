"""The commands of a person at a device: `moe2 meters test`, `calibrate`, `fit`, `profiles …`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from calibration.sessions import Sessions

__all__ = ["register"]

MeterKind = Annotated[str, typer.Option("--meter", help="auto, ina3221, tegrastats, jtop, nvml or none.")]
Rails = Annotated[str, typer.Option(help="Rails that add up to the module, joined by commas, on an unknown board.")]

meters = typer.Typer(help="What this device's power can be read from.", no_args_is_help=True)
profiles = typer.Typer(help="Fitted profiles: list, show, compare, validate.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(meters, name="meters")
    app.add_typer(profiles, name="profiles")
    app.command("calibrate")(calibrate_)
    app.command("fit")(fit_)
    app.command("export")(export_)


@meters.command("test")
def meters_test(
    meter: MeterKind = "auto",
    rails: Rails = "",
    quick: Annotated[bool, typer.Option("--quick", help="5 seconds instead of about a minute.")] = False,
) -> None:
    """Check the meter: its refresh period, and its energy counter beside its integrated power under load.

    Exit status: 0 no finding, 1 a finding (more than 5 % of disagreement, say), 2 no such meter.

    Example: moe2 meters test --quick
    """
    from calibration.meters.opening import open_meter
    from calibration.meters.selftest import FULL_S, QUICK_S, self_test

    with bad_input():
        found = open_meter(meter, rails=_words(rails))
        result = self_test(found, seconds=QUICK_S if quick else FULL_S)
        found.close()
    for key, value in result.as_json().items():
        if key != "warnings":
            print(f"{key:13} {_shown(value)}")
    for warning in result.warnings:
        print(f"warning: {warning}")
    raise typer.Exit(1 if result.warnings and result.source != "none" else 0)


def calibrate_(  # noqa: PLR0917 - the command line's options
    out: Annotated[Path, typer.Option(help="Folder of the recording; one that is there is continued.")],
    url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint that takes token ids.")],
    model: Annotated[str | None, typer.Option(help="Model, where the endpoint serves several.")] = None,
    model_file: Annotated[Path | None, typer.Option(help="File of the weights; its hash is recorded.")] = None,
    meter: MeterKind = "auto",
    rails: Rails = "",
    least_prompt: Annotated[int, typer.Option(min=1, help="Shortest prompt in tokens.")] = 32,
    most_prompt: Annotated[int, typer.Option(min=2, help="Longest prompt in tokens.")] = 2048,
    output: Annotated[str, typer.Option(help="Output lengths, joined by commas.")] = "16,64",
    concurrency: Annotated[str, typer.Option(help="Requests side by side, joined by commas.")] = "1",
    precision: Annotated[float, typer.Option(help="Relative half-width of a 90 % interval to reach.")] = 0.05,
    budget_s: Annotated[float, typer.Option(help="Seconds to spend at most.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Seed of the order of cells and of prompts.")] = 0,
    allow: Annotated[str, typer.Option(help="Preflight checks to let pass, joined by commas; recorded.")] = "",
) -> None:
    """Measure latency and energy of a served model against prompt length; resumes where it was killed.

    Example: moe2 calibrate --url http://127.0.0.1:8080 --out recordings/orin
    """
    from calibration.meters.opening import open_meter
    from calibration.meters.selftest import QUICK_S, self_test
    from calibration.runtimes.endpoint import Endpoint
    from calibration.session.calibrating import calibrate
    from calibration.session.plan import Plan

    bar = Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=Console(stderr=True))
    with bad_input(), bar:
        task = bar.add_task("cells")
        plan = Plan(
            least_prompt=least_prompt,
            most_prompt=most_prompt,
            output_tokens=tuple(map(int, _words(output))),
            concurrency=tuple(map(int, _words(concurrency))),
            precision=precision,
            budget_s=budget_s,
            seed=seed,
        )
        found = open_meter(meter, rails=_words(rails))
        store = calibrate(
            Endpoint(url, model),
            found,
            out,
            plan,
            self_test=self_test(found, seconds=QUICK_S),
            model_file=model_file,
            allowed=frozenset(_words(allow)),
            progress=lambda done, total, _: bar.update(task, completed=done, total=total),
        )
        found.close()
    rows = store.read()
    asked = rows[rows["kind"] == "request"]
    faults = int((asked["fault"] != "").sum())
    print(f"{len(store.keys())} cells, {len(asked)} requests, {faults} with faults, in {out}")
    print(f"next: moe2 fit {out} --out profiles")


def fit_(  # noqa: PLR0917 - the command line's options
    recordings: Annotated[list[Path], typer.Argument(help="Folders of `moe2 calibrate`, or files of one recording.")],
    out: Annotated[Path, typer.Option(help="Folder for the profiles.")],
    device: Annotated[str | None, typer.Option(help="Device, where the files do not name it.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, where the files do not name it.")] = None,
    quantization: Annotated[str, typer.Option(help="Precision of the weights, likewise.")] = "bf16",
    figure: Annotated[bool, typer.Option(help="Draw data, fit, band and residuals beside each profile.")] = True,
) -> None:
    """Fit the cost models of recordings and write a profile for each model.

    Reads folders of `moe2 calibrate`, the pair of EdgeReasoning files (prefill and decode), the three vLLM kernel
    tables (dense, attention, per sequence), the output of `llama-bench -o json`, or AIPerf's profile_export.jsonl
    (with --device and --model), recognised by their headers and names.

    Example: moe2 fit prefill.csv decode.csv --out profiles
    """
    from calibration.fitting import device_slug, fit_recording, fit_summary
    from calibration.profile import file_name, write_profile
    from calibration.session_profile import session_profile
    from scenarios.commands.terminal import print_fits

    with bad_input():
        sessions = _sessions(recordings, device, model)
        if sessions is None:
            found = fit_recording(recordings, out, device=device, model=model, quantization=quantization)
        else:
            named = device_slug(device or str(sessions.manifest["device"])), model or _stem(sessions.manifest["model"])
            profile = session_profile(sessions, name=f"{named[0]}/{named[1]}/{quantization}", quantization=quantization)
            out.mkdir(parents=True, exist_ok=True)
            write_profile(profile, out / file_name(profile.name))
            found = [profile]
            if figure:
                from scenarios.figures.profile_diagnostics import draw_diagnostics

                print(draw_diagnostics(profile, sessions, out))
    print_fits(fit_summary(found))
    print(f"{len(found)} profiles in {out}")


def export_(
    recording: Annotated[Path, typer.Argument(help="Folder of `moe2 calibrate`.")],
    out: Annotated[Path, typer.Option(help="File to write, in the form of AIPerf's profile_export.jsonl.")],
) -> None:
    """Write a recording's requests as AIPerf's per-request records.

    Example: moe2 export recordings/orin --out profile_export.jsonl
    """
    from calibration.sources.aiperf import write_aiperf

    with bad_input():
        print(f"{write_aiperf(recording, out)} records in {out}")


@profiles.command("list")
def profiles_list() -> None:
    """List the bundled profiles with their provenance."""
    from calibration.profile import bundled_profiles, read_profile

    for name, file in bundled_profiles().items():
        p = read_profile(file)
        print(f"{name:58} latency {p.provenance.latency:8} energy {p.provenance.energy:8} {p.energy_scope}")


@profiles.command("show")
def profiles_show(name: Annotated[str, typer.Argument(help="A bundled profile or a path.")]) -> None:
    """Print a profile's costs and evidence, as JSON."""
    from calibration.profile import find_profile
    from calibration.profile_json import dump_profile

    with bad_input():
        print(dump_profile(find_profile(name, Path.cwd())), end="")


@profiles.command("compare")
def profiles_compare(
    first: Annotated[str, typer.Argument(help="A bundled profile or a path.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    output: Annotated[int, typer.Option(min=1, help="Output tokens of the request compared.")] = 128,
) -> None:
    """Print what a lone request costs by both profiles, over prompt lengths.

    Example: moe2 profiles compare rtx-4090/gemma-7b/bf16 agx-orin-64gb/gemma-7b/fp16
    """
    from calibration.profile import find_profile

    with bad_input():
        one, two = find_profile(first, Path.cwd()), find_profile(second, Path.cwd())
    print(f"{'prompt':>8} {'s, first':>10} {'s, second':>10} {'ratio':>7} {'J, first':>10} {'J, second':>10}")
    for P in (64, 256, 1024, 4096):
        seconds = [float(p.seconds.leg_of(P, output)) for p in (one, two)]
        joules = [None if p.joules is None else float(p.joules.leg_of(P, output)) for p in (one, two)]
        shown = " ".join(f"{'—' if j is None else f'{j:.4g}':>10}" for j in joules)
        print(f"{P:>8} {seconds[0]:>10.4g} {seconds[1]:>10.4g} {seconds[1] / seconds[0]:>7.3g} {shown}")
    if one.energy_scope != two.energy_scope:
        print(f"joules are of different scopes, {one.energy_scope} and {two.energy_scope}: do not compare them")


@profiles.command("validate")
def profiles_validate(paths: Annotated[list[Path], typer.Argument(help="Profile files.")]) -> None:
    """Check profile files; exit status 2 with one message for the first that is wrong."""
    from calibration.profile import read_profile

    with bad_input():
        for path in paths:
            print(f"{path}: valid, {read_profile(path).name}")


def _sessions(recordings: list[Path], device: str | None, model: str | None) -> Sessions | None:
    """Return recorded sessions from any tool that records requests; None for other kinds of file."""
    from calibration.sessions import read_sessions
    from calibration.sources.aiperf import read_aiperf
    from calibration.sources.llama_bench import read_llama_bench

    if all(path.is_dir() for path in recordings):
        return read_sessions(recordings)
    (path, *more) = recordings
    if path.suffix not in {".json", ".jsonl"}:
        return None
    if more:
        raise ValueError(f"{path}: give one such file at a time, found {len(recordings)}")
    if path.suffix == ".json":
        return read_llama_bench(path)
    if device is None or model is None:
        raise ValueError(f"{path}: AIPerf's records name neither device nor model; give --device and --model")
    return read_aiperf(path, device=device, model=model)


def _words(joined: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in joined.split(",") if word.strip())


def _shown(value: Any) -> str:
    return "not known" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _stem(model: Any) -> str:
    return Path(str(model)).stem.lower()
