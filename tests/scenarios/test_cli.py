"""Laws of the command line: what a scenario gives, and what wrong input gives."""

import json
import re
import shutil

import pandas as pd
import pytest
from record_sample import write_sample
from typer.testing import CliRunner

from calibration.profile import bundled_profiles
from scenarios.cli import app
from scenarios.files.loading import bundled_scenarios
from scenarios.runs.workers import performed

TABLES = ("requests.parquet", "legs.parquet", "devices.parquet")
SMALL = ("--no-report", "--set", "duration_s=300.0", "--set", "warmup_s=30.0", "--set", "replications=2")


def moe2(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def contents(folder):
    return [(folder / name).read_bytes() for name in TABLES]


SCENARIO = """
name = "hand"
duration_s = 60.0
[load]
process = "requests"
path = "requests.csv"
[[experts]]
name = "a"
device = "bench"
profile = "bench.json"
max_batch = 2
[budgets]
delay_s = 5.0
energy_j_per_request = 1000.0
"""
ROWS = "request_id,arrived_s,prompt_tokens,output_tokens,category,experts\n1,0.5,10,20,law,a\n2,0.5,30,4,law,a\n"
PROFILE = {
    "schema": 1, "name": "bench/m/q", "device": "bench", "model": "m", "quantization": "q", "runtime": "r",
    "power_mode": "p", "provenance": {"latency": "assumed", "energy": "assumed"}, "energy_scope": "wall",
    "context_tokens": 4096, "prefill_s": [0.5, 0.0, 0.0],
    "decode_s": {"base": 0.0625, "per_sequence": 0.0, "per_context_token": 0.0}, "knee_tokens": 0,
    "prefill_j": [8.0, 0.0, 0.0], "decode_j": {"base": 2.0, "per_sequence": 0.0, "per_context_token": 0.0},
    "idle_w": 1.0, "residuals": {"prefill": [], "decode": []}, "evidence": {},
}  # fmt: skip


@pytest.fixture
def hand(tmp_path):
    """Write a scenario, its requests and its profile by hand; return the scenario's path."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "requests.csv").write_text(ROWS)
    (tmp_path / "in" / "bench.json").write_text(json.dumps(PROFILE))
    path = tmp_path / "in" / "hand.toml"
    path.write_text(SCENARIO)
    return path


def test_a_hand_written_scenario_gives_what_can_be_worked_out_by_hand(hand, tmp_path, monkeypatch):
    """Run from another folder: two prefills of 0.5 s, then 3 shared and 16 lone iterations of 1/16 s."""
    monkeypatch.chdir(tmp_path)
    found = moe2("run", hand.relative_to(tmp_path), "--out", "out", "--no-report")
    assert found.exit_code == 0, found.output
    legs = pd.read_parquet("out/legs.parquet").set_index("request_id")
    assert legs["started_s"].tolist() == [0.5, 1.0]
    assert legs["first_token_s"].tolist() == [1.0, 1.5]
    assert legs["finished_s"].tolist() == [1.5 + 19 / 16, 1.5 + 3 / 16]
    assert legs["energy_j"].tolist() == [8 + 3 + 2 * 16, 8 + 3]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "holds"
    assert summary["metrics"]["energy"]["per_request_j"]["value"] == (16 + 2 * 19 + 60 - 1 - 19 / 16) / 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*TABLES, "summary.json", "scenario.toml"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("budgets.delay_s=2.2", 0),
        ("budgets.delay_s=2.1", 1),
        ("budgets.energy_j_per_request=40.0", 1),
        ("budgets.delay_s={law=2.2}", 0),
        ("budgets.delay_s={default=9.0,maths=2.2}", 3),
    ],
)
def test_the_exit_status_is_the_verdict(hand, tmp_path, change, code):
    """0 holds, 1 violated, 3 undecided: a scenario without chance is judged on one run, without an interval."""
    found = moe2("run", hand, "--out", tmp_path / "out", "--no-report", "--set", change)
    assert found.exit_code == code, found.output
    assert ("no randomness in this scenario: the figures are exact" in found.output) == (code != 3)
    assert "all intervals hold together" not in found.output or code == 3


def test_unknown_energy_leaves_its_budget_undecided_and_names_the_profile(hand, tmp_path):
    """Missing is not zero: energies are null, the budget undecided, the profile named."""
    profile = {**PROFILE, "prefill_j": None}
    (hand.parent / "bench.json").write_text(json.dumps(profile))
    found = moe2("run", hand, "--out", tmp_path / "out", "--no-report")
    assert found.exit_code == 3
    assert "bench/m/q" in found.output
    assert pd.read_parquet(tmp_path / "out" / "legs.parquet")["energy_j"].isna().all()


def test_added_power_is_drawn_at_all_times_and_moves_the_scope(hand, tmp_path):
    """W watts added to an expert add W joules for each second of the run."""
    energies = []
    for added in ("", 'added_power = { power_w = 10.0, scope = "wall", source = "a clamp meter" }\n'):
        hand.write_text(SCENARIO.replace("max_batch = 2\n", "max_batch = 2\n" + added))
        moe2("run", hand, "--out", tmp_path / "out", "--no-report")
        energies.append(pd.read_parquet(tmp_path / "out" / "devices.parquet")["energy_j"].iloc[0])
    assert energies[1] - energies[0] == pytest.approx(600.0)


def test_the_testbed_is_reproducible_to_the_byte(tmp_path, monkeypatch):
    """Same seed, same bytes, in processes too; the resolved scenario gives them from elsewhere, another seed not."""
    runs = {name: tmp_path / name for name in ("one", "two", "resolved", "other")}
    moe2("run", "testbed", "--out", runs["one"], *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("scenarios.runs.performing.performed", lambda tasks, _: performed(tasks, 2))
        moe2("run", "testbed", "--out", runs["two"], *SMALL)
    moe2("run", runs["one"] / "scenario.toml", "--out", runs["resolved"], "--no-report")
    moe2("run", "testbed", "--out", runs["other"], *SMALL, "--seed", 1)
    assert contents(runs["one"]) == contents(runs["two"]) == contents(runs["resolved"])
    assert contents(runs["one"])[0] != contents(runs["other"])[0]


def test_a_run_conserves_requests_legs_and_joules(tmp_path):
    """Every request has n_legs legs; legs' joules and idle joules are the devices'; accuracy is on test questions."""
    moe2("run", "testbed", "--out", tmp_path / "out", *SMALL)
    requests, legs, devices = (pd.read_parquet(tmp_path / "out" / name) for name in TABLES)
    key = ["replication", "request_id"]
    counts = legs.groupby(key).size().reindex(pd.MultiIndex.from_frame(requests[key]))
    assert counts.tolist() == requests["n_legs"].tolist()
    for replication, mine in devices.groupby("replication"):
        leg_j = legs.loc[legs["replication"] == replication, "energy_j"].sum()
        assert leg_j + mine["idle_energy_j"].sum() == pytest.approx(mine["energy_j"].sum(), rel=1e-9)
    assert legs.groupby(key)["weight"].sum().to_numpy() == pytest.approx(1.0)
    assert requests.loc[requests["status"] == "served", "correct"].notna().all()


def test_bundled_scenarios_are_valid():
    """`moe2 check` accepts every bundled scenario and `moe2 scenarios` names it."""
    listed = moe2("scenarios").output
    for name in bundled_scenarios():
        assert moe2("check", name).exit_code == 0
        assert name in listed


def refused(path, tmp_path, *args):
    """Return the message of a run that is refused; nothing may be left behind."""
    found = moe2("run", path, "--out", tmp_path / "out", "--no-report", *args)
    assert found.exit_code == 2, found.output
    assert isinstance(found.exception, SystemExit)
    assert "Traceback" not in found.output
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*partial"))
    return found.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("duration_s", "duration_ms", r"hand.toml: key duration_ms is not known \(did you mean 'duration_s'"),
        ("duration_s = 60.0", 'duration_s = "1 min"', "hand.toml: key duration_s = '1 min'"),
        ("duration_s = 60.0", "duration_s = nan", "hand.toml: key duration_s = nan"),
        ("bench.json", "bank.json", "hand.toml.*bank.json"),
        ('"bench.json"', '"rtx-4090/llama-3.1-8b-instrct/bf16"', "did you mean 'rtx-4090/llama-3.1-8b-instruct/bf16'"),
        ('"requests"', '"tide"', "load: process should be 'poisson', .*'requests' or 'recorded'"),
        ("requests.csv", "nothing.csv", "nothing.csv"),
        ("max_batch = 2", "max_batch = 0", r"experts\[0\].max_batch = 0: should be greater than or equal to 1"),
        ("[budgets]", "[budgets", "hand.toml: not TOML"),
        ("delay_s = 5.0", "delay_s = -5.0", "budgets.delay_s = -5.0: should be greater than 0"),
        ("[budgets]", "[network]\nlan_delay_s = 500.0\n[budgets]", "network.lan_delay_s = 500.0.*less than or equal"),
    ],
)
def test_a_wrong_scenario_is_refused(hand, tmp_path, old, new, message):
    """Exit 2 and one message with file, key, what was found, what is allowed; no traceback, no folder."""
    hand.write_text(SCENARIO.replace(old, new, 1))
    assert_says(message, refused(hand, tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prefill_s", [float("nan"), 0.0, 0.0], "bench.json.*prefill_s.*nan"),
        ("prefill_s", [-1.0, 0.0, 0.0], r"bench.json.*prefill_s.*-1.0"),
        ("idle_w", "3", "bench.json.*idle_w.*'3'"),
        ("energy_scope", "gpus", "bench.json.*energy_scope.*'gpus'.*'gpu'"),
        ("prefil_s", [1.0, 0.0, 0.0], "bench.json.*prefil_s.*prefill_s"),
    ],
)
def test_a_wrong_profile_is_refused(hand, tmp_path, key, value, message):
    """The message names the profile's file, the key, what was found and what is allowed."""
    (hand.parent / "bench.json").write_text(json.dumps({**PROFILE, key: value}))
    assert_says(message, refused(hand, tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,0.5", "1,soon", "requests.csv, line 2, column 'arrived_s': found 'soon'"),
        ("30,4", "30,0", "requests.csv, line 3, column 'output_tokens': found '0'"),
        ("law,a\n2", "law,b\n2", "requests.csv, line 2, column 'experts'.*no expert 'b'; allowed are a"),
        (ROWS.split("\n", 1)[1], "", "requests.csv: the load is empty"),
    ],
)
def test_a_wrong_request_file_is_refused(hand, tmp_path, old, new, message):
    """The message names the file, the line, the column, what was found and what is allowed."""
    (hand.parent / "requests.csv").write_text(ROWS.replace(old, new, 1))
    assert_says(message, refused(hand, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('router.subset=["gema-7b@orin-a"]', "no expert is named 'gema-7b@orin-a' .did you mean 'gemma-7b@orin-a'"),
        ("router.subset=[]", "the list is empty"),
        ("router.gate=nothing.safetensors", "nothing.safetensors"),
        ("budgets.energy_j_per_request=1.0", "tightest budget: energy_j_per_request is 1 J"),
        ('load.requests_per_s=1e-7;router.subset=["yi-6b-chat@orin-d"]', "testbed.toml.*the load is empty"),
        ("experts[3].max_batch=4", "max_batch is 4.*no batch terms"),
        ("experts[0].profile=agx-orin-64gb/deepseek-r1-distill-llama-8b/fp16", "max_batch|no answers of model"),
        ("router.kk=2", "key router.kk is not known"),
        ("experts[99].noise=false", "no 99 in a list of 8"),
        ("router.k", "write it as key=value"),
    ],
)
def test_a_wrong_change_of_the_testbed_is_refused(tmp_path, change, message):
    """What `--set` makes wrong is refused as clearly as what a file says."""
    changes = [word for one in change.split(";") for word in ("--set", one)]
    assert_says(message, refused("testbed", tmp_path, *changes))


def test_other_peoples_folders_are_left_alone(hand, tmp_path):
    """A folder that no run wrote is refused as output and keeps its files."""
    shutil.copytree(hand.parent, tmp_path / "thesis")
    found = moe2("run", hand, "--out", tmp_path / "thesis", "--no-report")
    assert found.exit_code == 2
    assert len(list((tmp_path / "thesis").iterdir())) == 3


def test_bundled_profiles_are_found_by_name():
    """Every expert of the testbed has a bundled profile."""
    text = bundled_scenarios()["testbed"].read_text()
    named = {line.split('"')[1] for line in text.splitlines() if line.startswith("profile")}
    assert len(named) == 8
    assert named <= set(bundled_profiles())


def assert_says(pattern, output):
    assert re.search(pattern, " ".join(output.split())), output


@pytest.mark.parametrize(("max_batch", "grows"), [(1, True), (64, False)])
def test_a_device_that_is_always_busy_has_no_growing_queue_for_that_alone(tmp_path, max_batch, grows):
    """A request a second, 1.5 s each: one at a time the queue grows, side by side it never does, and both are busy."""
    scenario, _ = write_sample(tmp_path / "in", [(float(i), 1, 1500, "a") for i in range(200)], {"a": "http://x"})
    scenario.write_text(scenario.read_text().replace("max_batch = 64", f"max_batch = {max_batch}"))
    found = moe2("run", scenario, "--out", tmp_path / "out", "--no-report")
    assert pd.read_parquet(tmp_path / "out" / "devices.parquet")["utilisation"].min() > 0.95
    assert ("its queue grows as long as load comes" in found.output) is grows
