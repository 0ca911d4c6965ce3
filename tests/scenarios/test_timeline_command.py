"""`moe2 run --timeline` and `moe2 timeline`: the same file, from a run as it ends and from its folder."""

import json

import pytest
from typer.testing import CliRunner

from scenarios.cli import app

SMALL = [
    "--set", "duration_s=60.0", "--set", "warmup_s=0.0", "--set", "replications=1",
    "--set", "verdicts.max_replications=1", "--set", 'verdicts.inputs="nominal"', "--set", "router.k=1",
    "--set", 'router.subset=["llama-3.1-8b-instruct@rtx4090-a"]', "--set", "network.access_points.grid=[2, 2]",
]  # fmt: skip


def moe2(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_run_and_its_folder_give_the_same_timeline(tmp_path):
    """The option and the command write the same bytes: a trace with the server, its legs and the requests."""
    window = {"run": ("--timeline-from", 10, "--timeline-until", 50), "timeline": ("--from", 10, "--until", 50)}
    first, again = tmp_path / "first.json", tmp_path / "again.json"
    run = moe2("run", "testbed", "--out", tmp_path / "run", "--no-report", *SMALL, "--timeline", first, *window["run"])
    assert run.exit_code in {0, 1, 3}, run.output
    assert moe2("timeline", tmp_path / "run", "--out", again, *window["timeline"]).exit_code == 0
    assert first.read_bytes() == again.read_bytes()
    events = json.loads(first.read_text(encoding="utf-8"))["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert names == ["requests", "llama-3.1-8b-instruct@rtx4090-a on rtx4090-a", "handovers"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--timeline-from", 5), "add --timeline FILE"),
        (("--timeline", "nowhere/t.json"), "there is no folder"),
        (("--timeline", "."), "is a folder"),
        (("--timeline", "t.json", "--timeline-from", 9, "--timeline-until", 3), "must be a window"),
    ],
)
def test_a_wrong_timeline_is_refused_before_the_run(tmp_path, options, message):
    """Exit status 2 with one message; nothing was run."""
    found = moe2("run", "testbed", "--out", tmp_path / "run", *options)
    assert found.exit_code == 2
    assert message in found.output.replace("\n", "")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    """The message names the table that is missing."""
    found = moe2("timeline", tmp_path, "--out", tmp_path / "t.json")
    assert found.exit_code == 2
    assert "there is no requests.parquet" in found.output.replace("\n", "")
