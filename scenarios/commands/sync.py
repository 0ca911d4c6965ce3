"""The command that keeps a profile true: `moe2 sync`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from collections.abc import Iterator
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
        for line in _lines(found):
            print(line)
    if out is not None:
        with bad_input():
            written = write_version(found, out)
        if not as_json:
            print(f"{found.new.name} in {written}; it supersedes {found.old.name}, which stays as it is")
    raise typer.Exit(found.exit_status)


def _lines(found: Sync) -> Iterator[str]:
    yield found.sentence
    yield f"noise is {found.drift.noise}"
    yield from _tests(found)
    yield from _of_joules(found)
    if found.exit_status == 0:
        yield from _not_found(found)
    yield from _errors(found)
    yield from (f"note: {note}" for note in found.notes)


def _tests(found: Sync) -> Iterator[str]:
    from calibration.drift import described

    tests = [(described(test.name, test.unit), test) for drift in found.drifts for test in drift.tests]
    width = max((len(what) for what, _ in tests), default=0)
    for what, test in tests:
        shown = "not tested" if isnan(test.p) else f"{test.change:+7.1%} ± {test.error:.1%}  p = {test.p:.2g}"
        yield f"  {what:{width}}  {shown}"
    yield from (f"drift: {test.words}" for drift in found.drifts for test in drift.found)


def _of_joules(found: Sync) -> Iterator[str]:
    if found.joules is None:
        yield f"joules: not tested, {found.untold}"
    elif not found.joules.decided:
        yield "joules: could not be tested, record more sessions or state --session-spread"
    if found.left:
        yield f"joules are left as they were: {found.left}"


def _not_found(found: Sync) -> Iterator[str]:
    """Yield how likely a false alarm was, and what change would not have been seen."""
    from calibration.detectable import broadest, detectable
    from calibration.drift import described

    yield f"false-alarm level {sum(drift.level for drift in found.drifts):g}, all hypotheses together"
    for drift in (drift for drift in found.drifts if drift.decided):
        test = broadest(drift)
        what, least = described(test.name, test.unit), detectable(test, drift)
        yield f"{what}: a change of less than {least:.1%} would hardly have been found; more recordings tell more"


def _errors(found: Sync) -> Iterator[str]:
    for error in found.errors:
        phase = error.phase if error.unit == "s" else f"joules of {error.phase}"
        yield (
            f"{phase}, {error.n} rows held out: error {error.before:.1%} before, {error.after:.1%} after "
            f"(measured against predicted: {error.signed_before:+.1%}, {error.signed_after:+.1%})"
        )
