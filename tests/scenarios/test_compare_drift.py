"""A slower server is found and named by `moe2 sync` and by `moe2 compare`, on recordings of a real llama.cpp server."""

from pathlib import Path

import pytest
from test_cli import moe2

from scenarios.comparing.traces import named_traces
from twin.records.tables import read_tables, write_tables

FOLDER = Path(__file__).parents[1] / "traces"
LIGHT = [trace for trace in named_traces(FOLDER) if trace.name.startswith("loopback-light")]
PROFILE = LIGHT[0] / "loopback--random-llama-320--f32.json"
SLOWER = 1.2


@pytest.fixture(scope="module")
def slower(tmp_path_factory):
    """Write the recorded runs with every duration a fifth longer, and return their folders."""
    folder = tmp_path_factory.mktemp("slower")
    for trace in LIGHT:
        tables = read_tables(trace)
        for frame in (tables.requests, tables.legs):
            for column in frame.columns.intersection(["started_s", "first_token_s", "finished_s"]):
                frame[column] = frame["arrived_s"] + SLOWER * (frame[column] - frame["arrived_s"])
        (folder / trace.name).mkdir()
        write_tables(tables, folder / trace.name)
    return [folder / trace.name for trace in LIGHT]


def test_sync_finds_the_slower_server_and_leaves_the_recorded_one_alone(slower):
    """Each recording and all together: no drift, exit 0. All a fifth slower: everything is named, exit 1."""
    assert len(LIGHT) == 3
    for recordings in ([LIGHT[0]], [LIGHT[1]], [LIGHT[2]], LIGHT):
        found = moe2("sync", PROFILE, *recordings)
        assert found.exit_code == 0, found.output
        assert "would hardly have been found; more recordings tell more" in found.output
    found = moe2("sync", PROFILE, *slower)
    assert found.exit_code == 1, found.output
    drifts = [line for line in found.output.splitlines() if line.startswith("drift: ")]
    assert len(drifts) == 1
    assert drifts[0].startswith("drift: everything, by one factor: +")


def test_compare_names_what_is_slower(slower, tmp_path):
    """The twin keeps the tolerances of each recording; beside the slower one it exceeds them, in times, not in counts.

    What one recording says of the other, without a twin: every time is 1/1.2 of the slower one's.
    """
    for trace, changed in zip(LIGHT, slower, strict=True):
        twin, limits = tmp_path / trace.name, ("--tolerances", trace / "tolerances.toml")
        moe2("run", trace / "scenario.toml", "--out", twin, "--no-report")
        kept = moe2("compare", trace, twin, *limits)
        assert kept.exit_code == 0, kept.output
        found = moe2("compare", changed, twin, *limits)
        assert found.exit_code == 1, found.output
        named = [line.split()[1] for line in found.output.splitlines() if line.startswith("EXCEEDED")]
        assert {"e2e.mean:", "ttft.mean:"} <= set(named) <= {"e2e.mean:", "ttft.mean:", "tpot.mean:"}
    (tmp_path / "strict.toml").write_text("[e2e]\nmean = 0.05\n[tpot]\nmean = 0.05\n")
    found = moe2("compare", slower[0], LIGHT[0], "--tolerances", tmp_path / "strict.toml")
    assert [line.split()[1] for line in found.output.splitlines() if "-16.7% (90 %" in line] == [
        "e2e.mean:",
        "tpot.mean:",
    ]


def test_a_recording_given_twice_is_one_session():
    """The same folder named in two ways is refused: it would count as two sessions that agree."""
    found = moe2("sync", PROFILE, LIGHT[0], LIGHT[1], LIGHT[0] / ".." / LIGHT[0].name)
    assert found.exit_code == 2
    assert f"it is the session that {LIGHT[0]} holds too; give each recording once" in found.output
