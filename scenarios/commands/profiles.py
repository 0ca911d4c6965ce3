"""The commands of fitted profiles: `moe2 profiles list`, `show`, `compare`, `scale`, `validate`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenarios.commands.completing import complete_profiles
from scenarios.commands.options import ProfileArg
from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input
from scenarios.runs.folder import check_writable

if TYPE_CHECKING:
    from calibration.profile import Profile

__all__ = ["profiles"]

profiles = typer.Typer(help="Fitted profiles: list, show, compare, scale, validate.", no_args_is_help=True)


@profiles.command("list")
def profiles_list(as_json: AsJson = False) -> None:
    """List the bundled profiles with their provenance.

    Example: moe2 profiles list
    """
    from calibration.profile import bundled_profiles, read_profile

    found = {name: read_profile(file) for name, file in bundled_profiles().items()}
    lines = [f"{name:58} latency {p.provenance.latency:8} energy {_energy(p)}" for name, p in found.items()]
    told = {name: {**asdict(p.provenance), "energy_scope": p.energy_scope} for name, p in found.items()}
    say(told, lines, as_json=as_json)


def _energy(profile: Profile) -> str:
    """Return where a profile's joules come from and what they cover, in words."""
    if profile.provenance.energy is None:
        return "not known"
    return f"{profile.provenance.energy:8} {profile.energy_scope}"


@profiles.command("show")
def profiles_show(name: ProfileArg) -> None:
    """Print a profile's costs and evidence, as JSON.

    Example: moe2 profiles show rtx-4090/gemma-7b/bf16
    """
    from calibration.profile import find_profile
    from calibration.profile_json import dump_profile

    with bad_input():
        print(dump_profile(find_profile(name, Path.cwd())), end="")


@profiles.command("compare")
def profiles_compare(
    first: ProfileArg,
    second: Annotated[str, typer.Argument(help="Another.", autocompletion=complete_profiles)],
    output: Annotated[int, typer.Option(min=1, help="Output tokens of the request compared.")] = 128,
    as_json: AsJson = False,
) -> None:
    """Print what a lone request costs by both profiles, over prompt lengths.

    Example: moe2 profiles compare rtx-4090/gemma-7b/bf16 agx-orin-64gb/gemma-7b/fp16
    """
    from calibration.evidence import is_beyond
    from calibration.profile import find_profile

    with bad_input():
        one, two = find_profile(first, Path.cwd()), find_profile(second, Path.cwd())
    extrapolated = False
    lines, told = (
        [f"{'prompt':>8} {'s, first':>10} {'s, second':>10} {'ratio':>7} {'J, first':>10} {'J, second':>10}"],
        [],
    )
    for P in (64, 256, 1024, 4096):
        seconds = [float(p.seconds.leg_of(P, output)) for p in (one, two)]
        joules = [None if p.joules is None else float(p.joules.leg_of(P, output)) for p in (one, two)]
        beyond = [is_beyond(p, P, output) for p in (one, two)]
        shown = " ".join(f"{'—' if j is None else f'{j:.4g}':>10}" for j in joules)
        marked = [f"{s:.4g}*" if far else f"{s:.4g}" for s, far in zip(seconds, beyond, strict=True)]
        times = " ".join(f"{mark:>10}" for mark in marked)
        extrapolated |= any(beyond)
        ratio = seconds[1] / seconds[0] if seconds[0] else float("nan")
        lines.append(f"{P:>8} {times} {ratio:>7.3g} {shown}")
        costs = {"prompt_tokens": P, "output_tokens": output, "seconds": seconds, "joules": joules}
        told.append({**costs, "extrapolated": beyond})
    if extrapolated:
        lines.append("* beyond the lengths that the profile was fitted on: extrapolated")
    scopes = [one.energy_scope, two.energy_scope]
    unknown = [f"{profile.name}: its joules are not known" for profile in (one, two) if profile.joules is None]
    lines += unknown
    if not unknown and scopes[0] != scopes[1]:
        lines.append(f"joules are of different scopes, {scopes[0]} and {scopes[1]}: do not compare them")
    say({"profiles": [one.name, two.name], "energy_scopes": scopes, "costs": told}, lines, as_json=as_json)


@profiles.command("scale")
def profiles_scale(
    name: ProfileArg,
    out: Annotated[Path, typer.Option(help="Folder for the profile.")],
    device: Annotated[str | None, typer.Option(help="Device to scale it to, by bandwidth and tensor rate.")] = None,
    model: Annotated[str | None, typer.Option(help="Model to scale it to, by bytes read and work.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a profile for a device or a model that was not measured, with the error of doing so in its evidence.

    Example: moe2 profiles scale rtx-4090/llama-3.1-8b-instruct/bf16 --device rtx-3090 --out profiles
    """
    from calibration.device_transfer import bundled_device_errors, moved_profile
    from calibration.devices import device_of
    from calibration.profile import file_name, find_profile, write_profile
    from calibration.transfer import modelled_as
    from scenarios.story.provenance import errors

    with bad_input():
        profile = find_profile(name, Path.cwd())
        if device is None and model is None:
            raise ValueError("scaled to what? give --device, --model or both")
        check_writable(out)
        if model is not None:
            profile = modelled_as(profile, model)
        if device is not None:
            source, target = device_of(profile.name.partition("/")[0]), device_of(device)
            profile = moved_profile(profile, source, target, errors=bundled_device_errors())
        out.mkdir(parents=True, exist_ok=True)
        write_profile(profile, out / file_name(profile.name))
    written = str(out / file_name(profile.name))
    off = profile.evidence["transfer_errors"]
    told = {"profile": profile.name, "file": written, "transfer_errors": off}
    lines = [f"{profile.name}: {errors(profile)}, {profile.evidence['transfer_errors_note']}"]
    if profile.joules is None:
        lines.append(f"{profile.name}: its joules are not known")
    say(told, [*lines, written], as_json=as_json)


@profiles.command("validate")
def profiles_validate(
    paths: Annotated[list[Path] | None, typer.Argument(help="Profile files; all bundled ones without a name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check profile files to the letter; exit status 2 with one message for the first that is wrong.

    What is wrong includes an origin or a scope of joules that the profile does not have: runs read such a file, as
    earlier versions wrote it, without them.

    Example: moe2 profiles validate profiles/mine.json
    """
    from calibration.profile import bundled_profiles, read_profile

    with bad_input():
        files = {str(path): path for path in paths} if paths else bundled_profiles()
        found = {name: read_profile(file, strict=True).name for name, file in files.items()}
    say(found, [f"{path}: valid, {name}" for path, name in found.items()], as_json=as_json)
