"""What the shell may complete: scenarios, keys of a scenario, profiles. Nothing is loaded until the shell asks."""

# ruff: noqa: PLC0415 - every command would pay for it
from __future__ import annotations

import typer

__all__ = ["complete_changes", "complete_profiles", "complete_scenarios"]


def complete_scenarios(incomplete: str) -> list[tuple[str, str]]:
    """Return the bundled scenarios that begin so, with the questions they ask; files are the shell's own business."""
    from scenarios.files.loading import bundled_scenarios, load

    return [(name, load(name).file.description) for name in bundled_scenarios() if name.startswith(incomplete)]


def complete_profiles(incomplete: str) -> list[str]:
    """Return the bundled profiles that begin so."""
    from calibration.profile import bundled_profiles

    return [name for name in bundled_profiles() if name.startswith(incomplete)]


def complete_changes(context: typer.Context, incomplete: str) -> list[str]:
    """Return the keys of the scenario in question, or of `testbed`, that begin so, each with its equals sign."""
    from scenarios.files.keys import keys_of
    from scenarios.files.loading import load

    if "=" in incomplete:
        return []
    try:
        file = load(str(context.params.get("scenario") or "testbed")).file
    except ValueError:
        return []
    return [f"{key}=" for key in keys_of(file) if key.startswith(incomplete)]
