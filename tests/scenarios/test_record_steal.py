"""What a virtual machine's host takes while a recording is made is in its summary, and beside a comparison."""

import json
from dataclasses import replace

import pytest
from record_sample import write_sample
from rich.console import Console
from testbed_server import testbed_server
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.commands.record import _told
from scenarios.files.loading import load
from scenarios.recording.recording import perform, prepare, recording_of
from scenarios.recording.writing import write_recording


def write_stat(root, *, stolen, busy):
    """Write a /proc/stat of so many ticks stolen and busy, as the kernel does: guests' ticks stand in user already."""
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "stat").write_text(f"cpu  {busy} 0 0 0 0 0 0 {stolen} 50 50\ncpu0 1 2 3 4 5 6 7 8 9 10\n")


def recorded(folder, *, root, after):
    """Record two requests on a machine whose files are under `root`, which `after` writes meanwhile."""
    with testbed_server() as a:
        scenario, endpoints = write_sample(folder / "in", [(0.0, 8, 2, "a"), (0.05, 8, 2, "a")], {"a": a.address})
        plan = replace(prepare(load(str(scenario)), folder / "out", endpoints), root=root)
        assert perform(plan, lambda *_: after())
    return write_recording(recording_of(folder / "out"), folder / "out", report=False, console=Console(quiet=True))


def test_what_the_host_takes_is_in_the_summary_and_told(tmp_path):
    """Of 1000 ticks between begin and end 30 were stolen: 3.0 %, in the summary, on the screen and when compared."""
    write_stat(tmp_path, stolen=100, busy=9_000)
    result = recorded(tmp_path, root=tmp_path, after=lambda: write_stat(tmp_path, stolen=130, busy=9_970))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["recording"]["steal_share"] == pytest.approx(0.03)
    words = "3.0% of the time of the client's processors was taken by their host (steal)"
    assert words in _told(tmp_path / "out", result)
    assert any(words in warning for warning in summary["told"]["warnings"])
    compared = CliRunner().invoke(app, ["compare", str(tmp_path / "out"), str(tmp_path / "out")])
    assert compared.exit_code == 0, compared.output
    assert f"note: REAL: {words}" in compared.output


@pytest.mark.parametrize("ticks", [{"stolen": 100, "busy": 10_000}, None])
def test_little_is_not_told_and_nothing_known_is_none(tmp_path, ticks):
    """Nothing stolen is 0, a machine that does not tell is None: neither is a warning."""
    if ticks is not None:
        write_stat(tmp_path, stolen=100, busy=9_000)
    result = recorded(tmp_path, root=tmp_path, after=lambda: ticks and write_stat(tmp_path, **ticks))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["recording"]["steal_share"] == (None if ticks is None else 0.0)
    assert not any("steal" in line for line in _told(tmp_path / "out", result))
