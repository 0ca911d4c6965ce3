"""Laws of `moe2 sync`: a slower server is found and named, the new version is written beside the old, runs name it."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from calibrated_sample import MANIFEST, TRUE, calibrated
from recorded_tables import called_recorded
from test_cli import PROFILE, hand, moe2  # noqa: F401 - a fixture

from calibration.intervals import bootstrap_by_cluster
from calibration.meters.replay import ReplayMeter
from calibration.profile import read_profile, write_profile
from calibration.recordings import Source
from calibration.session.measuring import Bench, idle_row, measure
from calibration.session.plan import Plan, cells_of, first_lengths
from calibration.session.store import Store
from calibration.session_profile import session_profile
from calibration.sessions import read_sessions
from calibration.sources.power_bench import PowerSeries
from calibration.versions import profile_sha256, version_of
from tests.calibration.law_runtime import LawRuntime
from tests.clock import Clock


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Take three draws of a profile's bootstrap, not 200: nothing here looks at it."""
    monkeypatch.setattr("calibration.evidence.bootstrap_by_cluster", partial(bootstrap_by_cluster, n=3))


def metered(folder, seed, *, watts, monkeypatch):
    """Record a session of a made-up runtime whose power is replayed, a per cent apart from session to session."""
    rng, clock = np.random.default_rng(seed), Clock()
    monkeypatch.setattr("calibration.session.measuring.time", clock)
    plan = Plan(most_prompt=512, output_tokens=(4, 16), blocks=2, repeats=2, most_repeats=2, window_s=0.5)
    at_s = np.arange(0.0, 1000.0, 0.1)
    power = PowerSeries(
        source=Source(file="power", sha256="0"), at_s=at_s, power_w=np.full(len(at_s), watts * rng.lognormal(0, 0.01))
    )
    meter = ReplayMeter(power, scope="board", covers="the board", poll_s=0.002, live_ns=clock.monotonic_ns)
    runtime = LawRuntime(noise=0.02, seed=seed, clock=clock)
    bench = Bench(runtime=runtime, meter=meter, refresh_s=0.01, plan=plan, session=str(seed))
    store = Store(folder=folder)
    store.begin({**MANIFEST, "meter": {"scope": "board", "name": meter.name}})
    for cell in (cell for block in range(plan.blocks) for cell in cells_of(plan, first_lengths(plan), block)):
        store.add(cell.key, measure(bench, cell))
    store.add("idle", [idle_row(bench, "idle-loaded", 5.0)])
    return folder


def test_a_device_that_draws_a_fifth_more_is_found_by_its_joules(tmp_path, monkeypatch):
    """With a replayed meter: power a fifth higher is drift of all joules and of no seconds, refitted to within 4 %.

    Undisturbed sessions have none; one without a meter, or with another scope, has no joules to test, and says so.
    """
    old, new, more = (
        [metered(tmp_path / f"{name}{i}", 10 * seed + i, watts=watts, monkeypatch=monkeypatch) for i in range(n)]
        for seed, (name, n, watts) in enumerate((("was", 4, 40.0), ("is", 2, 40.0), ("more", 1, 48.0)))
    )
    first = session_profile(read_sessions(old), name="bench/m/q", quantization="q")
    write_profile(first, tmp_path / "first.json")
    for folder in new:
        found = moe2("sync", tmp_path / "first.json", folder)
        assert found.exit_code == 0, found.output
        assert "joules" in found.output
    sync = ("sync", tmp_path / "first.json", *more)
    found = moe2(*sync, "--out", tmp_path / "later")
    assert found.exit_code == 1, found.output
    assert [line for line in found.output.splitlines() if line.startswith("drift: all joules, by one factor: +")]
    assert found.output.count("drift: ") == 1
    tests = json.loads(moe2(*sync, "--json").output)["joules"]["tests"]
    assert {test["name"]: test["change"] for test in tests}["everything"] == pytest.approx(0.2, abs=0.04)
    second = read_profile(tmp_path / "later" / "bench--m--q@2.json")
    P = np.array([64, 1024])
    for then, now in ((first.joules.prefill_of(P), second.joules.prefill_of(P)), (first.idle_w, second.idle_w)):
        assert now == pytest.approx(1.2 * then, rel=0.04)
    assert second.seconds.prefill_of(P) == pytest.approx(first.seconds.prefill_of(P), rel=0.02)
    assert second.evidence["version"]["drift"][0]["what"] == "all joules, by one factor"
    told = json.loads(moe2(*sync, "--scratch", "--json").output)
    assert [error["after"] < 0.03 < error["before"] for error in told["errors"] if error["unit"] == "j"] == [True, True]
    unmetered = moe2("sync", tmp_path / "first.json", calibrated(tmp_path / "plain", 100))
    assert "joules: not tested, no joules recorded" in unmetered.output
    write_profile(replace(first, energy_scope="wall"), tmp_path / "wall.json")
    assert "joules are of the wall, those recorded of board" in moe2("sync", tmp_path / "wall.json", new[0]).output


@pytest.fixture
def bench(tmp_path):
    """Return a profile's file, fitted on five recordings."""
    folders = [calibrated(tmp_path / f"old{i}", 100 + i) for i in range(5)]
    profile = session_profile(read_sessions(folders), name="bench/m/q", quantization="q")
    write_profile(profile, tmp_path / "bench.json")
    return tmp_path / "bench.json"


def test_a_server_slowed_by_a_fifth_is_found_refitted_and_versioned(bench, tmp_path):
    """Exit 1 and the name of what drifted; the error falls; the new file supersedes the old, which is as it was."""
    before = bench.read_bytes()
    new = calibrated(tmp_path / "new", 200, slower=1.2)
    found = moe2("sync", bench, new, "--out", tmp_path / "profiles")
    assert found.exit_code == 1, found.output
    assert "drift: everything, by one factor" in found.output
    assert bench.read_bytes() == before
    (written,) = (tmp_path / "profiles").iterdir()
    assert written.name == "bench--m--q@2.json"
    second, first = read_profile(written), read_profile(bench)
    assert version_of(second) == 2
    assert second.evidence["version"]["supersedes"]["sha256"] == profile_sha256(first)
    assert second.seconds.prefill[1] == pytest.approx(1.2 * TRUE[1], rel=0.08)
    again = moe2("sync", bench, new, "--out", tmp_path / "profiles")
    assert again.exit_code == 2
    assert "a version is never changed" in " ".join(again.output.split())
    assert "p = " in again.output, "what was found is shown all the same"
    told = json.loads(moe2("sync", bench, new, "--scratch", "--json").output)
    assert told["exit_status"] == 1
    assert told["errors"][0]["after"] < told["errors"][0]["before"] / 3
    assert moe2("sync", written, calibrated(tmp_path / "later", 201, slower=1.2)).exit_code == 0


def test_an_undisturbed_recording_is_left_alone_and_one_session_alone_says_nothing(bench, tmp_path):
    """Exit 0 without drift; a profile of one session and one recording: exit 3, until the spread is stated."""
    new = calibrated(tmp_path / "new", 300)
    found = moe2("sync", bench, new)
    assert found.exit_code == 0, found.output
    assert "no drift found" in found.output
    one = session_profile(read_sessions([tmp_path / "old0"]), name="bench/m/q", quantization="q")
    write_profile(one, tmp_path / "one.json")
    alone = moe2("sync", tmp_path / "one.json", new)
    assert alone.exit_code == 3
    assert "record more sessions, or state --session-spread" in alone.output
    assert moe2("sync", tmp_path / "one.json", new, "--session-spread", "0.02").exit_code == 0


def test_a_session_is_not_held_against_what_was_fitted_to_it(bench, tmp_path):
    """Of a profile's own sessions, and of those that a new version was refitted to, none counts as new: exit 2."""
    new = calibrated(tmp_path / "new", 200, slower=1.2)
    found = moe2("sync", bench, new, "--out", tmp_path / "profiles")
    assert found.output.startswith("bench/m/q has drifted: everything, by one factor, +")
    second = tmp_path / "profiles" / "bench--m--q@2.json"
    for profile, own in ((bench, tmp_path / "old3"), (second, tmp_path / "old3"), (second, new)):
        found = moe2("sync", profile, calibrated(tmp_path / "later", 201), own)
        assert found.exit_code == 2
        assert "it would agree with itself" in found.output


def test_a_run_speaks_through_its_lone_legs(hand, tmp_path):  # noqa: F811
    """A recorded run on a server whose prefill takes 0.6 s, not 0.5 s: a is named, as 20 %; runs name the version."""
    rows = "".join(f"{i},{3 * i},{10 + i},{4 + i % 5},law,a\n" for i in range(30))
    (hand.parent / "requests.csv").write_text(
        "request_id,arrived_s,prompt_tokens,output_tokens,category,experts\n" + rows
    )
    old = {**PROFILE, "evidence": {"prefill_s": {"covariance": [[1e-8, 0, 0], [0, 0, 0], [0, 0, 0]], "scale": 0.01}}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (hand.parent / "bench.json").write_text(json.dumps({**PROFILE, "prefill_s": [0.6, 0.0, 0.0]}))
    moe2("run", hand, "--out", tmp_path / "real", "--no-report", "--set", "duration_s=100.0")
    args = ("--session-spread", "0.02", "--out", tmp_path / "new")
    refused = moe2("sync", tmp_path / "old.json", tmp_path / "real", *args)
    assert refused.exit_code == 2, "it was simulated, and says so"
    assert f"RECORDED {tmp_path / 'real'}: was simulated (engine 'compiled' in its summary.json)" in refused.stderr
    assert not (tmp_path / "new").exists()
    late = {"n": 30, "late_share": 0.0, "late_s": 0.01, "max_s": 0.002, "flagged": False}
    called_recorded(tmp_path / "real", steal_share=0.3, interrupted=[0], lateness=late)
    found = moe2("sync", tmp_path / "old.json", tmp_path / "real", *args)
    assert found.exit_code == 1, found.output
    assert "drift: a (prefill_s[0]): +20.0%" in found.output
    notes = [line for line in found.output.splitlines() if line.startswith(f"note: {tmp_path / 'real'}: ")]
    assert len(notes) == 2, "what disturbed a recording is beside what was found in it"
    assert "30.0% of the time" in notes[0]
    assert "interrupted" in notes[1]
    run = (
        "--no-report",
        "--set",
        "duration_s=100.0",
        "--set",
        f"experts[0].profile={tmp_path / 'new/bench--m--q@2.json'}",
    )
    moe2("run", hand, "--out", tmp_path / "twin", *run)
    (named,) = json.loads((tmp_path / "twin" / "summary.json").read_text())["profiles"]
    second = read_profile(tmp_path / "new" / "bench--m--q@2.json")
    assert (named["profile"], named["version"], named["sha256"]) == ("bench/m/q@2", 2, profile_sha256(second))
    (earlier,) = json.loads((tmp_path / "real" / "summary.json").read_text())["profiles"]
    assert earlier["version"] == 1
    assert earlier["sha256"] == profile_sha256(read_profile(hand.parent / "bench.json"))


def test_what_vllms_client_measured_is_a_recording(hand, tmp_path):  # noqa: F811
    """An import is measured: a prefill of 0.6 s, not 0.5 s, is found by `sync`, and `traces add` keeps the run."""
    n, out = 12, [4 + i % 5 for i in range(12)]
    result = {
        "input_lens": [10 + i for i in range(n)], "output_lens": out, "ttfts": [0.6] * n, "errors": [""] * n,
        "itls": [[0.0625] * (o - 1) for o in out], "start_times": [1000.0 + 3 * i for i in range(n)],
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(result))
    named = ("--out", tmp_path / "real", "--expert", "a", "--device", "bench")
    assert moe2("import", "vllm-bench", tmp_path / "result.json", *named).exit_code == 0
    old = {**PROFILE, "evidence": {"prefill_s": {"covariance": [[1e-8, 0, 0], [0, 0, 0], [0, 0, 0]], "scale": 0.01}}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    found = moe2("sync", tmp_path / "old.json", tmp_path / "real", "--session-spread", "0.02")
    assert found.exit_code == 1, found.output
    assert "drift: a (prefill_s[0]): +20.0%" in found.output
    (tmp_path / "limits.toml").write_text("[ttft]\nmean = 0.17\n")
    added = moe2(
        "traces", "add", tmp_path / "real", "--scenario", hand, "--tolerances", tmp_path / "limits.toml",
        "--note", "vLLM's client", "--folder", tmp_path / "traces",
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    assert "kept: ttft.mean: 0.6 measured, 0.5 simulated, -16.7%" in added.output


def test_folders_that_hold_nothing_to_sync_are_refused(bench, hand, tmp_path):  # noqa: F811
    """No recording, an expert that is not there, no profile: exit 2 and one message."""
    moe2("run", hand, "--out", tmp_path / "run", "--no-report")
    called_recorded(tmp_path / "run")
    for name in ("empty", "garbage", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "garbage" / "legs.parquet").write_text("no table")
    (tmp_path / "other" / "legs.parquet").write_bytes((tmp_path / "run" / "devices.parquet").read_bytes())
    for args, told in (
        ((bench, tmp_path / "garbage"), "legs.parquet: cannot be read as Parquet"),
        ((bench, tmp_path / "other"), "legs.parquet: no column 'request_id'"),
        ((bench, tmp_path / "empty"), "neither a recording of `moe2 calibrate`"),
        ((bench, tmp_path / "run", "--expert", "aa"), "no leg on expert 'aa' (did you mean"),
        ((bench, tmp_path / "run"), "0 of 2 legs were served alone"),
        ((bench.with_name("bench2.json"), tmp_path / "run"), "there is no such profile"),
        ((bench, tmp_path / "old0", "--level", "2"), "level 2.0: must be between 0 and 1"),
    ):
        found = moe2("sync", *args)
        assert found.exit_code == 2
        assert told in " ".join(found.output.split()), found.output
