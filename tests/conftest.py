"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, settings

from scenarios.commands.calibration import register
from scenarios.runs.workers import performed

# No example is judged by the time it takes: the machine may be busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# CI runs the same cases every time: what it says of a change is about the change. Elsewhere new cases are tried.
settings.register_profile("ci", settings.get_profile("patient"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of public measurements named by MOE2_DATA; skip without it."""
    folder = os.environ.get("MOE2_DATA")
    if not folder:
        pytest.skip("MOE2_DATA is not set: it names the folder of public measurements these laws are checked on")
    path = Path(folder)
    if not (path / "measurements").is_dir():
        pytest.fail(f"MOE2_DATA={folder}: no folder 'measurements' there")
    return path


@pytest.fixture(scope="session", autouse=True)
def in_turn() -> Iterator[None]:
    """Let replications run in turn: the tests themselves run side by side, and processes take seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scenarios.runs.performing.performed", lambda tasks, _: performed(tasks, 1))
        yield


@pytest.fixture(scope="module")
def calibration_app() -> Iterator[typer.Typer]:
    """Return the commands on a machine without a thermometer: they wait for no temperature to settle."""
    found = typer.Typer()
    register(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.session.calibrating.thermometer", lambda: None)
        yield found
