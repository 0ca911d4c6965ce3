"""Regression traces: adding one is one command, a changed file is refused, and the twin stays near what is kept."""

import json
from pathlib import Path

import pytest
from recorded_tables import called_recorded
from test_cli import PROFILE, hand, moe2  # noqa: F401 - a fixture

from scenarios.comparing.traces import named_traces, replay_trace

FOLDER = Path(__file__).parents[1] / "traces"


@pytest.fixture
def added(hand, tmp_path):  # noqa: F811
    """Keep a run as a trace and return its folder and the words of the command."""
    moe2("run", hand, "--out", tmp_path / "real", "--no-report")
    called_recorded(tmp_path / "real")
    (tmp_path / "limits.toml").write_text("[e2e]\nmean = 0.05\np95 = 0.05\n")
    return tmp_path / "traces" / "first", (
        "traces", "add", tmp_path / "real", "--scenario", hand, "--tolerances", tmp_path / "limits.toml",
        "--note", "made by the twin", "--name", "first", "--folder", tmp_path / "traces",
    )  # fmt: skip


def test_every_kept_trace_is_within_its_tolerances(capsys):
    """Each recorded run in tests/traces, replayed, is as near as its own tolerances say; errors are printed."""
    found = [replay_trace(trace) for trace in named_traces(FOLDER)]
    with capsys.disabled():
        for one in found:
            words = "\n  ".join(finding.words for finding in one.comparison.findings)
            print(f"\n{one.name}, {len(one.comparison.pairs.requests)} requests:\n  {words}")
    assert {one.name: one.comparison.exit_status for one in found} == {one.name: 0 for one in found}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_000_000


def test_a_run_is_kept_and_replayed_by_one_command_each(added, tmp_path):
    """What the twin made it meets exactly; the trace stands alone: its profile and scenario are copies."""
    folder, words = added
    found = moe2(*words)
    assert found.exit_code == 0, found.output
    names = {path.name for path in folder.iterdir()}
    tables = {"requests.parquet", "legs.parquet", "devices.parquet"}
    assert names == {*tables, "scenario.toml", "bench--m--q.json", "tolerances.toml", "trace.toml"}
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    again = moe2("traces", "check", "--folder", tmp_path / "traces")
    assert again.exit_code == 0, again.output
    assert "kept: e2e.mean: 1.688 measured, 1.688 simulated, +0.0%" in again.output
    assert moe2(*words).exit_code == 2  # it is there already


def test_a_recording_brings_its_own_scenario(added, tmp_path):
    """Without --scenario it is the one in the recorded folder; one that has none, as an import, is told to name it."""
    _, words = added
    own = [word for i, word in enumerate(words) if "--scenario" not in words[max(i - 1, 0) : i + 1]]
    found = moe2(*own)
    assert found.exit_code == 0, found.output
    (tmp_path / "real" / "scenario.toml").unlink()
    found = moe2(*own[:-4], "--name", "second", "--folder", tmp_path / "traces")
    assert found.exit_code == 2
    assert "has no scenario.toml of its own; name the scenario with --scenario" in found.output
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["first"]


def test_a_twin_that_drifts_from_its_trace_is_told(added, tmp_path):
    """A trace added of a server 20 % slower than its profile says: exit 1, with what exceeds which tolerance."""
    folder, words = added
    slower = {**PROFILE, "prefill_s": [0.6, 0.0, 0.0], "decode_s": {**PROFILE["decode_s"], "base": 0.075}}
    (tmp_path / "in" / "bench.json").write_text(json.dumps(slower))
    assert moe2(*words).exit_code == 1
    found = moe2("traces", "check", "first", "--folder", folder.parent)
    assert found.exit_code == 1
    assert "exceeded: e2e.mean: 1.688 measured, 2.025 simulated, +20.0%, beyond the tolerance 0.05" in found.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: (f / "tolerances.toml").write_text("[e2e]\nmean = 9.0\n"), "tolerances.toml: was changed"),
        (lambda f: (f / "legs.parquet").unlink(), "legs.parquet: is missing"),
        (lambda f: (f / "more.json").write_text("{}"), "more.json: is not in the registry"),
        (lambda f: (f / "trace.toml").write_text("note = 'x'"), "cannot be read as a trace's registry"),
    ],
)
def test_a_trace_that_was_changed_is_refused(added, change, told):
    """Every file has its hash in the registry: a loosened tolerance does not go unseen."""
    folder, words = added
    moe2(*words)
    change(folder)
    found = moe2("traces", "check", "--folder", folder.parent)
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())


def test_what_cannot_be_a_trace_is_refused_and_leaves_nothing(added, tmp_path):
    """No note, a name that is a path, no such trace, too many bytes: exit 2, nothing written."""
    folder, words = added
    for option, value, told in (
        ("--note", " ", "--note is empty"),
        ("--name", "../up", "must be the name of a folder"),
    ):
        changed = [value if before == option else word for before, word in zip(("", *words), words, strict=False)]
        found = moe2(*changed)
        assert found.exit_code == 2
        assert told in " ".join(found.output.split())
    elsewhere = moe2(*("testbed" if word == words[4] else word for word in words))
    assert elsewhere.exit_code == 2
    assert elsewhere.output.startswith(f"moe2: {tmp_path / 'real'}: it has legs on the expert 'a'")
    assert not any(folder.parent.iterdir())
    folder.parent.rmdir()
    assert moe2("traces", "check", "--folder", folder.parent).exit_code == 2
    from scenarios.comparing.traces import add_trace

    with pytest.raises(ValueError, match="at most 10 are kept; record less"):
        add_trace(
            tmp_path / "real", folder.parent, name="big", scenario=str(words[4]), tolerances=words[6], note="n",
            most_bytes=10,
        )  # fmt: skip
    assert not (folder.parent / "big").exists()


def test_a_simulated_run_is_no_trace(added, hand, tmp_path):  # noqa: F811
    """What the twin made would agree with the twin for good: exit 2, nothing is kept; tables alone say nothing."""
    folder, words = added
    again = tmp_path / "again"
    moe2("run", hand, "--out", again, "--no-report")
    found = moe2(*(again if word == words[2] else word for word in words))
    assert found.exit_code == 2
    assert f"{again}: was simulated (engine 'compiled' in its summary.json), not measured" in found.stderr
    assert "`moe2 record`" in found.stderr
    assert not folder.exists()
    (again / "summary.json").unlink()
    assert moe2(*(again if word == words[2] else word for word in words)).exit_code == 0


def test_a_kept_trace_is_kept_again_with_other_tolerances(added, tmp_path):
    """Loosening a tolerance is another trace, made of the first: it says nothing of a twin."""
    folder, words = added
    moe2(*words)
    others = {words[2]: folder, words[6]: folder / "tolerances.toml", "first": "second"}
    found = moe2(*(others.get(word, word) for word in words))
    assert found.exit_code == 0, found.output
    assert {path.name for path in (tmp_path / "traces").iterdir()} == {"first", "second"}


def test_no_trace_is_no_success(tmp_path):
    """A folder that holds none says so, with exit status 2: nothing was held against anything."""
    found = moe2("traces", "check", "--folder", tmp_path)
    assert found.exit_code == 2
    assert "holds no trace" in found.stderr


def test_the_list_says_what_each_trace_is_and_whether_it_is_whole(added):
    """As many requests and experts as were recorded, the note, and exit 1 with the file that was changed."""
    folder, words = added
    moe2(*words)
    found = moe2("traces", "list", "--folder", folder.parent)
    assert found.exit_code == 0, found.output
    assert found.output.startswith(
        f"1 trace in {folder.parent}, every file is as it was added\nfirst: 2 requests in 0 s on a, "
    )
    assert "made by the twin" in found.output
    (folder / "legs.parquet").write_bytes(b"")
    changed = moe2("traces", "list", "--folder", folder.parent, "--json")
    (one,) = json.loads(changed.stdout)
    assert changed.exit_code == 1
    assert one["flaws"] == [f"{folder / 'legs.parquet'}: was changed"]
    assert (one["name"], one["n_requests"], len(one["sha256"])) == ("first", None, 6)


def test_one_trace_is_checked_by_its_name(added):
    """Of two, the one named is replayed, once however often it is named; a wrong name is told with the near one."""
    folder, words = added
    moe2(*words)
    moe2(*("second" if word == "first" else word for word in words))
    one = moe2("traces", "check", "second", "second", "--folder", folder.parent)
    assert (one.exit_code, one.output.count("second:")) == (0, 1)
    assert "first:" not in one.output
    assert one.output.endswith("1 of 1 traces within their tolerances\n")
    assert moe2("traces", "check", "--folder", folder.parent).output.endswith("2 of 2 traces within their tolerances\n")
    wrong = moe2("traces", "check", "secnd", "--folder", folder.parent)
    assert wrong.exit_code == 2
    assert "no trace 'secnd' (did you mean 'second'?); there are first, second" in wrong.stderr
