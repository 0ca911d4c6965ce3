"""The command that keeps a profile true: `moe2 sync`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenarios.commands.refusal import bad_input
from scenarios.runs.folder import check_writable

if TYPE_CHECKING:
    from scenarios.comparing.syncing import Sync

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(sync)


def sync(  # noqa: PLR0917 - the command line's options
    profile: Annotated[str, typer.Argument(help="A profile's file, or the name of a bundled one.")],
    recorded: Annotated[
        list[Path],
        typer.Argument(help="Folders of `moe2 calibrate`, `moe2 record` or `moe2 import`; each is one session."),
    ],
    prior: Annotated[
        bool, typer.Option("--prior/--scratch", help="Refit with the old evidence as prior, or from the new alone.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Folder to write the new version to; the old file stays.")] = None,
    level: Annotated[float, typer.Option(help="Chance of a false alarm, over all coefficients together.")] = 0.05,
    session_spread: Annotated[
        float | None,
        typer.Option(help="How much undisturbed sessions differ (0.03: 3 %), where too few were recorded to tell."),
    ] = None,
    expert: Annotated[str | None, typer.Option(help="The profile's expert, in a run of several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Test whether a profile still holds for a new recording, in seconds and in joules, and refit it as a new version.

    A recording is a cluster: what sessions of a shared machine differ by is part of the noise, taken from the sessions
    that the profile was fitted on and those given here. Several recordings at once find smaller changes.

    Exit status: 0 no drift found, 1 drift found, 2 bad input, 3 nothing could be tested (too few sessions, and no
    --session-spread).

    Example: moe2 sync profiles/orin.json recordings/monday recordings/tuesday --out profiles
    """
    from calibration.profile import find_profile
    from scenarios.comparing.syncing import observations_in, synchronised, write_version

    with bad_input():
        if out is not None:
            check_writable(out)
        found = synchronised(
            find_profile(profile, Path.cwd()),
            observations_in(recorded, expert),
            how="prior" if prior else "scratch",
            level=level,
            session_spread=session_spread,
        )
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print_sync(found)
    if out is not None:
        with bad_input():
            written = write_version(found, out)
        if not as_json:
            print(f"{found.new.name} in {written}; it supersedes {found.old.name}, which stays as it is")
    raise typer.Exit(found.exit_status)


def _print_sync(found: Sync) -> None:
    from calibration.detectable import broadest, detectable
    from calibration.drift import described

    drift = found.drift
    print(found.sentence)
    print(f"noise is {drift.noise}")
    drifts = [drift, *([] if found.joules is None else [found.joules])]
    tests = [(described(test.name, test.unit), test) for one in drifts for test in one.tests]
    width = max((len(what) for what, _ in tests), default=0)
    for what, test in tests:
        shown = "not tested" if isnan(test.p) else f"{test.change:+7.1%} ± {test.error:.1%}  p = {test.p:.2g}"
        print(f"  {what:{width}}  {shown}")
    for test in (test for one in drifts for test in one.found):
        print(f"drift: {test.words}")
    if found.joules is None:
        print(f"joules: not tested, {found.untold}")
    elif not found.joules.decided:
        print("joules: could not be tested, record more sessions or state --session-spread")
    if found.left:
        print(f"joules are left as they were: {found.left}")
    if found.exit_status == 0:
        print(f"false-alarm level {sum(one.level for one in drifts):g}, all hypotheses together")
        for test, one in ((broadest(one), one) for one in drifts if one.decided):
            what, least = described(test.name, test.unit), detectable(test, one)
            print(f"{what}: a change of less than {least:.1%} would hardly have been found; more recordings tell more")
    for error in found.errors:
        phase = error.phase if error.unit == "s" else f"joules of {error.phase}"
        print(
            f"{phase}, {error.n} rows held out: error {error.before:.1%} before, {error.after:.1%} after "
            f"(measured against predicted: {error.signed_before:+.1%}, {error.signed_after:+.1%})"
        )
