"""Laws of the journal: whatever ends a recording, what ended before is kept and nothing else is made of it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from record_sample import check_laws, moe2, tables_in, write_sample
from testbed_server import testbed_server

from scenarios.recording.journal import read_journal
from scenarios.recording.recording import journal_of

ROOT = Path(__file__).parents[2]


def started(tmp_path, scenario, endpoints, n_ended):
    """Start `moe2 record` in a process of its own and wait until so many legs have ended."""
    moe2_program = Path(sys.executable).with_name("moe2")
    command = [moe2_program, "record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--no-report"]
    child = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    journal, end_s = journal_of(tmp_path / "out"), time.monotonic() + 180
    while time.monotonic() < end_s and child.poll() is None:
        if journal.exists() and journal.read_bytes().count(b'"ended"') >= n_ended:
            return child
        time.sleep(0.01)
    raise AssertionError(f"no {n_ended} legs ended: exit status {child.poll()}")


SLOW_ROWS = [(0.02 * i, 8, 40 if i % 3 else 4, "a") for i in range(400)]


def test_a_killed_recording_keeps_what_ended(tmp_path):
    """SIGKILL: the journal reads; --resume makes tables of it: what ended is served, what was sent is unfinished."""
    with testbed_server(token_s=0.02) as a:
        scenario, endpoints = write_sample(tmp_path / "in", SLOW_ROWS, {"a": a.address})
        child = started(tmp_path, scenario, endpoints, 20)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with journal_of(tmp_path / "out").open("ab") as file:
            file.write(b'{"kind":"ended","repl')  # a line that the kill cut off
        events = read_journal(journal_of(tmp_path / "out"))
        refused = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    faster = moe2("record", scenario, "--resume", "--out", tmp_path / "out", "--speed", 2)
    assert faster.exit_code == 2
    assert "leave out SCENARIO, --speed" in faster.output
    found = moe2("record", "--resume", "--out", tmp_path / "out", "--no-report")
    assert found.exit_code == 0, found.output
    tables = tables_in(tmp_path / "out")
    check_laws(tables)
    counts = tables["requests"]["status"].value_counts()
    assert counts["served"] == len(events.ended) >= 20
    assert counts["unfinished"] >= len(events.sent) - len(events.ended) > 0
    at_s = max([event.sent_s for event in events.sent] + [event.ended_s for event in events.ended])
    assert len(tables["requests"]) == sum(row[0] <= at_s for row in SLOW_ROWS)
    assert not journal_of(tmp_path / "out").exists()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["recording"]["interrupted"] == [0]
    again = moe2("record", "--resume", "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "no unfinished recording" in again.output


def test_ctrl_c_writes_what_there_is(tmp_path):
    """SIGINT: the tables are written at once, with what was under way unfinished, and what had not come left out.

    While it goes on, nobody else begins there, or writes what it has so far: its journal is its own.
    """
    with testbed_server(token_s=0.02) as a:
        scenario, endpoints = write_sample(tmp_path / "in", SLOW_ROWS, {"a": a.address})
        child = started(tmp_path, scenario, endpoints, 20)
        n_asked = sum(len(body["prompt"]) == 16 for body in a.asked)
        for words in ((scenario, "--endpoints", endpoints), ("--resume",)):
            found = moe2("record", *words, "--out", tmp_path / "out")
            assert found.exit_code == 2
            assert "another `moe2 record` is writing it now" in found.output
        assert sum(len(body["prompt"]) == 16 for body in a.asked) == n_asked  # no warm-up disturbs it
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
        assert "interrupted at" in child.stdout.read()
        child.stdout.close()
    tables = tables_in(tmp_path / "out")
    check_laws(tables)
    counts = tables["requests"]["status"].value_counts()
    assert counts["served"] >= 20
    assert counts["unfinished"] > 0
    assert 20 < len(tables["requests"]) < len(SLOW_ROWS)
    assert a.n_open == 0
    beside = moe2("compare", tmp_path / "out", tmp_path / "out").output
    assert "note: REAL: interrupted: requests that were under way are unfinished" in beside


@pytest.mark.parametrize("line", [b"{]", b"[]", b'{"kind": "moved"}', b'{"kind": "sent", "leg": 1}'])
def test_a_journal_that_was_changed_is_refused(tmp_path, line):
    """A line that is no event, in the middle, is refused by its number: it was not the recorder that wrote it."""
    path = tmp_path / "out.journal.jsonl"
    path.write_bytes(b'{"schema": 1}\n' + line + b"\n")
    found = moe2("record", "--resume", "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert "line 2" in found.output
    assert path.exists()
