"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
