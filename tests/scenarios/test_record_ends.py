"""Laws of recordings that end otherwise than planned: no disk, no files, nothing known but what the journal says."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_sample import check_laws, moe2, tables_in, write_sample
from testbed_server import testbed_server

from scenarios.recording.journal import Events, GivenUp, Journal, Sent, Stopped, Unanswered, read_journal
from scenarios.recording.recording import journal_of
from scenarios.recording.tabulating import of_replication

ROOT = Path(__file__).parents[2]


def added(journal, event):
    """Add an event; False where the disk is full, which the error says of the journal."""
    try:
        journal.add(event)
    except OSError as error:
        return error.filename != str(journal.path)
    return True


@settings(max_examples=30)
@given(room=st.integers(0, 400))
def test_a_line_of_the_journal_is_whole_or_not_there(tmp_path_factory, room):
    """However much the disk takes of a line, those before and after stand: half a line would be one with the next."""
    path, real = tmp_path_factory.mktemp("full") / "out.journal.jsonl", os.write
    left = [room]

    def write(file, content):
        n = real(file, content[: left[0]])
        left[0] -= n
        if not n:
            raise OSError(errno.ENOSPC, "No space left on device")
        return n

    ends = [Stopped(replication=n, at_s=float(n), whole=True) for n in range(5)]
    with Journal(path, {}) as journal, pytest.MonkeyPatch.context() as patched:
        patched.setattr("scenarios.recording.journal.os.write", write)
        written = [end for end in ends[:-1] if added(journal, end)]
        left[0] = 1000
        journal.add(ends[-1])
    assert read_journal(path).stopped == [*written, ends[-1]]


def limited(**limits):
    """Return what sets limits of a process before its program begins."""
    import resource

    def set_limits():
        for kind, most in limits.items():
            number = getattr(resource, f"RLIMIT_{kind.upper()}")
            resource.setrlimit(number, (most, resource.getrlimit(number)[1]))

    return set_limits


def recorded_by_a_process(scenario, endpoints, out, **limits):
    program = Path(sys.executable).with_name("moe2")
    command = [program, "record", scenario, "--endpoints", endpoints, "--out", out]
    return subprocess.run(
        [*map(str, command), "--no-report"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limited(**limits),
        check=False,
    )


def test_a_full_disk_ends_a_recording_in_one_line(tmp_path):
    """Exit 2 and one line with the way out; what ended before is written by --resume, and every request ends once."""
    pytest.importorskip("resource", reason="this system has no such limits")
    rows = [(0.01 * i, 8, 2, "a") for i in range(60)]
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address})
        found = recorded_by_a_process(scenario, endpoints, tmp_path / "out", fsize=12_000)
    assert found.returncode == 2, found.stderr
    line = found.stderr.splitlines()[-1]
    assert re.search(r"out\.journal\.jsonl: .*; `moe2 record --resume` writes what ended before", line)
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "out").exists()
    resumed = moe2("record", "--resume", "--out", tmp_path / "out", "--no-report")
    assert resumed.exit_code == 0, resumed.output
    tables = tables_in(tmp_path / "out")
    check_laws(tables)
    assert 0 < (tables["requests"]["status"] == "served").sum() < 60


def test_more_connections_than_files_unless_asked(tmp_path):
    """150 requests under way at once are served by a client that may open 64 files unless it asks for more."""
    resource = pytest.importorskip("resource", reason="this system has no such limits")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 400:
        pytest.skip("this system allows too few files")
    n = 150
    rows = [(0.002 * i, 8, 2, "a") for i in range(n)]
    with testbed_server(holds=n + 1) as a:
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address})
        found = recorded_by_a_process(scenario, endpoints, tmp_path / "out", nofile=64)
    assert f"requests: {n} served" in found.stdout, found.stdout + found.stderr


def test_an_interrupt_before_anything_was_sent_leaves_nothing(tmp_path, monkeypatch):
    """Exit 130 and no journal, so that the same command begins anew; --resume has nothing to write."""

    def interrupted(plan, _):
        with Journal(journal_of(plan.out), plan.manifest) as journal:
            journal.add(Stopped(replication=0, at_s=0.0, whole=False))
        return False

    monkeypatch.setattr("scenarios.recording.recording.perform", interrupted)
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", [(0.0, 8, 2, "a")], {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out")
    assert found.exit_code == 130
    assert "interrupted before anything was sent: nothing is kept" in found.output
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("last", ["sent", "given_up", "unanswered"])
def test_a_killed_recording_lasted_as_long_as_anything_is_known_of(last):
    """Whatever the last event was, the recording ends just after it: who was rejected then had come."""
    sent = {"replication": 0, "leg": 0, "attempt": 1, "planned_s": 1.0}
    events = Events(manifest={}, sent=[Sent(**sent, sent_s=1.0)])
    more = {
        "sent": Sent(**sent, sent_s=7.0),
        "given_up": GivenUp(replication=0, leg=0, attempt=1, at_s=7.0, reason="no answer"),
        "unanswered": Unanswered(replication=0, request=1, at_s=7.0, status="rejected"),
    }
    getattr(events, last).append(more[last])
    known = dict.fromkeys(("experts", "load", "link", "pool", "rules"))
    assert 7.0 < of_replication(events, 0, **known).horizon_s < 7.001


def test_what_went_wrong_is_told_in_numbers(tmp_path):
    """Why legs were not served, the most frequent first, the rest in sum; no empty table without a budget."""
    codes = [500, 500, 400, 501, 502, 503, 504, 505]
    with testbed_server(does=lambda P: f"http {codes[P - 20]}" if 20 <= P < 28 else "") as a:
        rows = [(0.01 * i, 20 + i, 2, "a") for i in range(len(codes) + 1)]
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--no-report")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[:3] == [
        "sample: no budget to judge",
        "requests: 7 failed, 1 rejected, 1 served",
        "2 legs failed: http 500: out of memory",
    ]
    assert sum(line.startswith("1 leg ") for line in lines) == 4
    assert "2 more for 2 other reasons, which are in legs.parquet" in lines
    told = json.loads((tmp_path / "out" / "summary.json").read_text())["told"]["warnings"]
    assert told == [f"{'; '.join(lines[2:8])}."], "the report says it too"
