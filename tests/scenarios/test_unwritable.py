"""A place that cannot be written to is refused before anything is computed, by every command."""

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.runs.folder import check_file, check_replaceable, check_writable
from tests.scenarios.record_sample import write_sample
from tests.scenarios.sweep_plant import write_small
from tests.scenarios.testbed_server import testbed_server

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
    "traces add nothing --scenario nothing.toml --tolerances nothing.toml --note n --folder NOWHERE",
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


@contextmanager
def as_a_plain_user():
    """Have no more rights than an owner while the block lasts: the superuser may write anywhere."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.skipif(sys.platform == "win32", reason="rights of a file as POSIX has them")
def test_a_run_that_cannot_be_moved_away_is_refused():
    """A folder of an earlier run without the right to write is refused before anything begins, and stays."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        with as_a_plain_user():
            out = Path(name) / "run"
            out.mkdir()
            (out / "summary.json").touch()
            check_replaceable(out)
            out.chmod(0o555)
            with pytest.raises(ValueError, match=rf"--out {out}: nothing can be written to {out} \(permission denied"):
                check_replaceable(out)
            out.chmod(0o755)


@pytest.mark.parametrize("place", [str(NOWHERE), "x" * 250, "/dev/null/x", "in"])
def test_no_server_is_asked_before_the_place_is_looked_at(place, tmp_path, monkeypatch):
    """A recording into what cannot be written to, or has other files, sends nothing at all."""
    monkeypatch.chdir(tmp_path)
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", [(0.0, 20, 8, "a")], {"a": a.address})
        words = ["record", str(scenario), "--endpoints", str(endpoints), "--out", place]
        found = CliRunner().invoke(app, words)
        assert (found.exit_code, a.n_heads) == (2, 0)
    assert len(found.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
