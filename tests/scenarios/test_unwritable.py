"""A place that cannot be written to is refused before anything is computed, by every command."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.runs.folder import check_file, check_writable
from tests.scenarios.sweep_plant import write_small

NOWHERE = Path("/proc/moe2")  # not even the superuser can make a file in /proc


def no_simulation(*_, **__):
    pytest.fail("something was simulated before the output was looked at")


CALLS = [
    "run SMALL --out NOWHERE/run",
    "run SMALL --out out --timeline /proc/timeline.json",
    "sweep SMALL --vary seed=1,2 --out NOWHERE",
    "sweep SMALL --vary seed=1,2 --out out --cache NOWHERE",
    "plan testbed --out NOWHERE",
    "capacity testbed --out NOWHERE",
    "sensitivity testbed --out NOWHERE",
    "whatif testbed --out NOWHERE",
    "versus testbed orin-only --out NOWHERE",
    "record testbed --endpoints nothing.toml --out NOWHERE",
    "compare nothing nothing --out NOWHERE",
    "import vllm-bench nothing.json --expert e --device d --out NOWHERE",
    "report nothing nothing2 --out NOWHERE",
    "timeline nothing --out /proc/timeline.json",
    "sync rtx-4090/gemma-7b/bf16 nothing --out NOWHERE",
    "calibrate --url http://127.0.0.1:9 --out NOWHERE",
    "fit nothing --out NOWHERE",
    "export nothing --out /proc/records.jsonl",
    "profiles scale rtx-4090/gemma-7b/bf16 --device rtx-3090 --out NOWHERE",
    "answers collect --endpoints nothing.toml --questions nothing.jsonl --out /proc/answers.parquet",
    "embed nothing.jsonl --out /proc/embedding.npz",
    "train --out /proc/gate.safetensors",
    "evaluate --curves NOWHERE",
]


@pytest.mark.skipif(sys.platform != "linux", reason="writes to /proc")
@pytest.mark.parametrize("call", CALLS)
def test_what_cannot_be_written_is_said_first(call, tmp_path, monkeypatch):
    """One message that names the option and the place, exit status 2, nothing simulated and nothing left behind."""
    small = write_small(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scenarios.runs.performing._simulated", no_simulation)
    found = CliRunner().invoke(
        app, [w.replace("SMALL", str(small)).replace("NOWHERE", str(NOWHERE)) for w in call.split()]
    )
    assert found.exit_code == 2, found.output
    (line,) = found.stderr.splitlines()
    assert "nothing can be written to /proc" in line
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_looking_leaves_nothing_behind(tmp_path):
    """Neither a folder that is there nor one that would be made is changed."""
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    check_file(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "why"), [("", "is a folder; name a file in it"), ("no/a.json", "there is no folder")])
def test_a_file_needs_a_folder_and_a_name(tmp_path, name, why):
    """The message says which of the two is missing, under the option that was given."""
    with pytest.raises(ValueError, match=f"^--timeline .*{why}"):
        check_file(tmp_path / name, option="--timeline")
