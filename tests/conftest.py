"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


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
