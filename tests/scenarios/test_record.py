"""Laws of recording: the load is the twin's, the loop is open, every request ends once, what ended is kept."""

import json
import re
import signal
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from record_sample import write_sample
from testbed_server import WRONG, testbed_server
from typer.testing import CliRunner

from calibration.meters.protocol import Reading
from scenarios.cli import app
from scenarios.files.loading import load
from scenarios.recording.journal import read_journal
from scenarios.recording.recording import journal_of
from scenarios.recording.scaling import sped_up
from scenarios.recording.writing import lateness
from scenarios.runs.replicating import assemble, draw_loads
from tests.llama_server import llama_server, write_llama
from twin.records.tables import SCHEMAS

ROOT = Path(__file__).parents[2]


def moe2(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def record(scenario, endpoints, out, *more):
    """Record without a report; the exit status must be one of a verdict."""
    found = moe2("record", scenario, "--endpoints", endpoints, "--out", out, "--no-report", *more)
    assert found.exit_code in {0, 1, 3}, found.output
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in (*SCHEMAS, "sends")}


def check_laws(tables):
    """Columns are the twin's, every request and leg ends in one status, instants stand in their order."""
    for name, columns in SCHEMAS.items():
        assert list(tables[name].columns) == list(columns)
    requests, legs = tables["requests"], tables["legs"]
    assert not requests.duplicated(["replication", "request_id"]).any()
    assert not legs.duplicated(["replication", "request_id", "expert"]).any()
    assert len(legs) == requests["n_legs"].sum()
    assert set(requests["status"]) | set(legs["status"]) <= {"served", "rejected", "failed", "unfinished"}
    assert (requests["finished_s"].notna() == (requests["status"] == "served")).all()
    assert (legs["finished_s"].notna() == (legs["status"] == "served")).all()
    assert (legs["reason"].notna() == legs["status"].isin(["rejected", "failed"])).all()
    instants = legs[["arrived_s", "started_s", "first_token_s", "finished_s"]].to_numpy()
    known = [row[~np.isnan(row)] for row in instants]
    assert all((np.diff(row) >= 0).all() for row in known)
    devices = tables["devices"]
    assert ((devices["busy_s"] >= 0) & (devices["idle_s"] >= 0)).all()
    assert (devices["utilisation"] == devices["busy_s"] / (devices["busy_s"] + devices["idle_s"])).all()


ROWS = [(0.02 * i, 20 + i, 8, "a|b" if i % 2 else "a") for i in range(20)]


def test_a_recording_has_the_requests_of_the_run(tmp_path):
    """Who asks what when of whom is `moe2 run`'s; each leg is asked once, at its exact lengths, uncached."""
    with testbed_server() as a, testbed_server() as b:
        scenario, endpoints = write_sample(tmp_path / "in", ROWS, {"a": a.address, "b": b.address})
        tables = record(scenario, endpoints, tmp_path / "out")
        asked = [*a.asked[1:], *b.asked[1:]]  # the first is the warm-up
    check_laws(tables)
    assert moe2("run", scenario, "--out", tmp_path / "twin", "--no-report").exit_code == 0
    for name, columns in (
        ("requests", ["request_id", "category", "arrived_s", "n_legs", "status"]),
        ("legs", ["request_id", "expert", "device", "weight", "prompt_tokens", "output_tokens", "status"]),
    ):
        twin = pd.read_parquet(tmp_path / "twin" / f"{name}.parquet")
        pd.testing.assert_frame_equal(tables[name][columns], twin[columns])
    assert sorted(len(body["prompt"]) for body in asked) == sorted(tables["legs"]["prompt_tokens"])
    assert all(body["ignore_eos"] and not body["cache_prompt"] and body["max_tokens"] == 8 for body in asked)
    assert (tables["legs"]["started_s"].notna()).all()
    assert tables["devices"]["energy_j"].isna().all()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["engine"], summary["recording"]["lateness"]["n"]) == ("recorded", 30)
    again = moe2("run", tmp_path / "out" / "scenario.toml", "--out", tmp_path / "again", "--no-report")
    assert again.exit_code == 0


def test_arrivals_do_not_wait_for_slow_servers(tmp_path):
    """150 requests are all under way at once at a server that answers none before it has them all: no pool, no slot."""
    n = 150
    rows = [(0.002 * i, 8, 2, "a") for i in range(n)]
    with testbed_server(holds=n + 1) as a:
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address})
        tables = record(scenario, endpoints, tmp_path / "out")
        most = a.most_open
    assert most == n
    assert (tables["requests"]["status"] == "served").all()
    assert tables["legs"]["arrived_s"].max() <= tables["legs"]["first_token_s"].min()


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_goes_wrong_leaves_a_reason(tmp_path, wrong):
    """Of two servers one goes wrong on its third to fifth legs: those fail, or are rejected, and nothing else is."""
    told = {"stall": "stalled: nothing came for 2 s", "http 400": "http 400: out of memory", "cut": "cut: "}
    told |= {"http 500": "http 500: out of memory", "no count": "garbage: usage: prompt_tokens = 'many'"}
    told |= {"no number": "garbage: NaN is no number"}
    with testbed_server(does=lambda P: wrong if 22 <= P <= 24 else "") as a, testbed_server() as b:
        patience_s = 2.0 if wrong == "stall" else 60.0  # no leg fails for a busy machine alone
        addresses = {"a": a.address, "b": b.address}
        scenario, endpoints = write_sample(tmp_path / "in", ROWS, addresses, timeout_s=patience_s)
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    bad = tables["legs"][tables["legs"]["status"] != "served"]
    word = "rejected" if wrong == "http 400" else "failed"
    if wrong == "stall":  # on a busy machine another may stall too
        assert (bad["reason"] == told[wrong]).sum() >= 3
    else:
        assert bad["status"].to_list() == [word] * 3
        assert bad["reason"].str.startswith(told.get(wrong, wrong)).all()
        assert set(bad["expert"]) == {"a"}
    of_request = tables["requests"].set_index("request_id")["status"]
    assert (of_request[bad["request_id"]] == word).all()
    assert (of_request.drop(bad["request_id"]) == "served").all()


def test_a_server_killed_in_the_middle(tmp_path):
    """What a dead server has not finished fails, by a cut or a refused connection; the other goes on."""
    with testbed_server(token_s=0.02) as a, testbed_server() as b:
        rows = [(0.05 * i, 20 + i, 8, "a" if i % 2 else "b") for i in range(40)]
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address, "b": b.address})
        a.does = lambda P: "killed" if P == 20 + 17 else ""  # its ninth leg
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    legs = tables["legs"]
    assert (legs[legs["expert"] == "b"]["status"] == "served").all()
    dead = legs[(legs["expert"] == "a") & (legs["status"] == "failed")]
    assert 11 <= len(dead) <= 20
    assert dead["reason"].str.match("cut|unreachable").all()
    assert dead["reason"].str.startswith("unreachable").sum() >= 10


@pytest.mark.parametrize("wrong", ["ended", "stall", "garbage"])
def test_the_twin_with_the_same_fault_counts_the_same(tmp_path, wrong):
    """A server that ends, stalls or answers garbage from its 11th leg (to its 15th): the twin's crash loses those."""
    rows = [(0.1 * i, 20 + i, 4, "a|b" if i % 2 else "a") for i in range(20)]
    upto = 19 if wrong == "ended" else 14
    with testbed_server(does=lambda P: wrong if 20 + 10 <= P <= 20 + upto else "") as a, testbed_server() as b:
        patience_s = 4.0 if wrong == "stall" else 60.0
        addresses = {"a": a.address, "b": b.address}
        scenario, endpoints = write_sample(tmp_path / "in", rows, addresses, timeout_s=patience_s)
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    repaired = "" if wrong == "ended" else f", repaired_s={0.1 * upto + 0.05}"
    crash = f'faults.crashes=[{{device="device of a", at_s=0.95{repaired}}}]'
    run = moe2("run", scenario, "--set", crash, "--out", tmp_path / "twin", "--no-report")
    assert run.exit_code in {0, 1, 3}, run.output
    compared = moe2("compare", tmp_path / "out", tmp_path / "twin")
    assert compared.exit_code == 0, compared.output
    twin = pd.read_parquet(tmp_path / "twin" / "requests.parquet")
    assert tables["requests"]["status"].to_list() == twin["status"].to_list()
    assert (twin["status"] == "failed").sum() == upto - 9


def test_a_leg_that_failed_is_tried_again(tmp_path):
    """A server that fails each request when it first comes, and a gateway that tries twice: two rows each, served."""
    rows = [(0.02 * i, 20, 4, "a") for i in range(12)]
    gateway = "[gateway]\nmax_attempts = 2\nbackoff_s = 0.01\n"
    with testbed_server() as a:
        a.does = lambda P: "http 500" if P == 20 and a.asked.count(a.asked[-1]) == 1 else ""
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address}, more=gateway)
        tables = record(scenario, endpoints, tmp_path / "out")
        n_asked = len(a.asked) - 1
    requests, legs = tables["requests"], tables["legs"]
    assert (requests["status"] == "served").all()
    assert (requests["n_legs"] == 2).all()
    assert n_asked == len(legs) == len(tables["sends"]) == 24
    for _, tries in legs.groupby("request_id"):
        assert tries["attempt"].tolist() == [1, 2]
        assert tries["status"].tolist() == ["failed", "served"]
        assert tries["reason"].tolist() == ["http 500: out of memory", None]


def test_a_leg_that_takes_too_long_is_given_up_as_in_the_twin(tmp_path):
    """A server that stalls for good, and a gateway that waits three seconds: a slow twin counts the same."""
    rows = [(0.1 * i, 20 + i, 4, "a|b" if i % 2 else "a") for i in range(20)]
    with testbed_server(does=lambda P: "stall" if P >= 20 + 10 else "") as a, testbed_server() as b:
        gateway, addresses = "[gateway]\ntimeout_s = 3.0\n", {"a": a.address, "b": b.address}
        scenario, endpoints = write_sample(tmp_path / "in", rows, addresses, more=gateway, timeout_s=6.0)
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    slow = 'faults.slow_downs=[{device="device of a", at_s=0.95, factor=1000.0}]'
    assert moe2("run", scenario, "--set", slow, "--out", tmp_path / "twin", "--no-report").exit_code in {0, 1, 3}
    twin = {name: pd.read_parquet(tmp_path / "twin" / f"{name}.parquet") for name in ("requests", "legs")}
    assert tables["requests"]["status"].to_list() == twin["requests"]["status"].to_list()
    reasons = [frame[frame["status"] == "failed"]["reason"].to_list() for frame in (tables["legs"], twin["legs"])]
    assert reasons == [["no answer within 3 s"] * 10] * 2


def test_a_quorum_suffices(tmp_path):
    """One answer of two suffices: a request is served at the first, also where the other expert is down."""
    rows = [(0.02 * i, 20, 4, "a|b") for i in range(10)]
    with testbed_server() as a, testbed_server(does=lambda P: "http 500" if P == 20 else "") as b:
        gateway = "[gateway]\nquorum = 1\n"
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address, "b": b.address}, more=gateway)
        tables = record(scenario, endpoints, tmp_path / "out")
    requests, legs = tables["requests"].set_index("request_id"), tables["legs"]
    assert (requests["status"] == "served").all()
    assert legs.groupby("expert")["status"].unique().str[0].to_dict() == {"a": "served", "b": "failed"}
    of_a = legs[legs["expert"] == "a"].set_index("request_id")["finished_s"]
    assert (requests["finished_s"] == of_a).all()


def test_more_requests_than_the_gateway_admits_are_rejected(tmp_path):
    """Whoever comes while three are under way is rejected, and no server hears of it; so are most of ten at once."""
    rows = [(0.1 + 0.001 * i, 8, 2, "a") for i in range(10)]
    with testbed_server(holds=4, token_s=0.3) as a:
        gateway = "[gateway]\nadmission_limit = 3\n"
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address}, more=gateway)
        tables = record(scenario, endpoints, tmp_path / "out")
        n_asked = len(a.asked) - 1
    status = tables["requests"]["status"]
    assert status.to_list()[:4] == ["served"] * 3 + ["rejected"]
    assert set(status[4:]) <= {"served", "rejected"}  # served where the machine was busy for longer than the three took
    assert len(tables["legs"]) == n_asked == (status == "served").sum()
    assert a.most_open == 3


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
    tables = {name: pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in (*SCHEMAS, "sends")}
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
    tables = {name: pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in (*SCHEMAS, "sends")}
    check_laws(tables)
    counts = tables["requests"]["status"].value_counts()
    assert counts["served"] >= 20
    assert counts["unfinished"] > 0
    assert 20 < len(tables["requests"]) < len(SLOW_ROWS)
    assert a.n_open == 0
    beside = moe2("compare", tmp_path / "out", tmp_path / "out").output
    assert "note: REAL: interrupted: requests that were under way are unfinished" in beside


class SteadyMeter:
    """A meter of a steady 40 W."""

    name, scope, covers, refresh_s, poll_s = "steady", "gpu", "a steady 40 W", 0.005, 0.005

    def read(self):
        return Reading(at_ns=time.monotonic_ns(), power_w=40.0, energy_j=None)

    def close(self):
        pass


def test_joules_are_the_meters(tmp_path, monkeypatch):
    """A steady 40 W over the run's time are its joules, busy and idle together; a device without a meter has none."""
    opened = {"nvml": SteadyMeter}
    monkeypatch.setattr("scenarios.recording.metering.open_meter", lambda kind, **_: opened.get(kind, NoScope)())
    rows = [(0.3 * i, 8, 40, "a|b") for i in range(5)]
    with testbed_server(token_s=0.004) as a, testbed_server() as b:
        budget = "[budgets]\nenergy_j_per_request = 1000.0\n"
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address, "b": b.address}, more=budget)
        endpoints.write_text(endpoints.read_text().replace('expert = "a"', 'expert = "a"\nmeter = "nvml"'))
        devices = record(scenario, endpoints, tmp_path / "out")["devices"].set_index("device")
    metered, other = devices.loc["device of a"], devices.loc["device of b"]
    assert metered["energy_j"] == pytest.approx(40 * (metered["busy_s"] + metered["idle_s"]), rel=1e-6)
    assert metered["busy_energy_j"] == pytest.approx(40 * metered["busy_s"], rel=1e-6)
    assert metered["busy_energy_j"] + metered["idle_energy_j"] == pytest.approx(metered["energy_j"])
    assert np.isnan([other["energy_j"], other["idle_energy_j"]]).all()
    verdict = json.loads((tmp_path / "out" / "summary.json").read_text())["verdicts"][0]
    assert verdict["status"] == "undecided"
    assert "device of b was not measured" in verdict["note"]


class NoScope(SteadyMeter):
    scope = None


def test_a_report_says_that_it_was_recorded(tmp_path):
    """The page of a recording, and the one drawn again from its folder, say what was real, and how to record again."""
    rows = [(0.02 * i, 8, 4, "a") for i in range(20)]
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--json")
    assert json.loads(found.stdout)["engine"] == "recorded"
    page = tmp_path / "out" / "report.html"
    first = page.read_text(encoding="utf-8")
    again = moe2("report", tmp_path / "out")
    assert again.exit_code == 0, again.output
    for text in (first, page.read_text(encoding="utf-8")):
        assert "Servers, devices and their network were real" in text
        assert "moe2 record" in text


def test_two_real_servers_serve_what_they_are_sent(tmp_path):
    """Two llama.cpp servers at once: each serves its legs, token for token, and every device has the same horizon."""
    rows = [(0.1 * i, 10 + i, 3 + i % 4, ("a", "b", "a|b")[i % 3]) for i in range(18)]
    model = write_llama(tmp_path / "llama.gguf")
    with (
        llama_server(model, slots=2, log=tmp_path / "a.log") as a,
        llama_server(model, slots=2, log=tmp_path / "b.log") as b,
    ):
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a, "b": b})
        tables = record(scenario, endpoints, tmp_path / "out")
        served = [httpx.get(f"{address}/metrics", timeout=60.0).text for address in (a, b)]
    check_laws(tables)
    legs, devices = tables["legs"], tables["devices"]
    assert (legs["status"] == "served").all()
    assert legs["started_s"].notna().all()
    for expert, text in zip(("a", "b"), served, strict=True):
        mine, warm_up = legs[legs["expert"] == expert], {"prompt": 16, "output": 2}
        for key, counter in (("prompt", "prompt_tokens_total"), ("output", "tokens_predicted_total")):
            counted = int(re.search(rf"^llamacpp:{counter} (\d+)", text, re.MULTILINE)[1])
            assert counted == mine[f"{key}_tokens"].sum() + warm_up[key]
    horizon_s = devices["busy_s"] + devices["idle_s"]
    assert horizon_s.iloc[0] == pytest.approx(horizon_s.iloc[1])
    assert horizon_s.iloc[0] >= legs["finished_s"].max()


def test_a_routed_scenario_is_routed_as_the_run_is(tmp_path):
    """Gate, subset, prompts and join are the twin's; questions go out as texts given; the way to the user is added."""
    changes = ["duration_s=120.0", "warmup_s=0.0", "load.requests_per_s=0.2", "router.k=2", "drain_cap_s=60.0"]
    scenario = load("testbed", changes)
    drawn = assemble(sped_up(scenario, 40.0))
    names, ids = [e.name for e in drawn.experts], drawn.routing.pool.question_id
    (tmp_path / "q.jsonl").write_text(
        "".join(json.dumps({"question_id": int(q), "prompt": f"say {q}"}) + "\n" for q in ids)
    )
    with testbed_server(token_s=0.0, chunk=200) as server:
        tables_of = "".join(f'[[endpoints]]\nexpert = "{name}"\nurl = "{server.address}"\n' for name in names)
        (tmp_path / "endpoints.toml").write_text(tables_of)
        words = [word for change in changes for word in ("--set", change)]
        texts = ("--questions", tmp_path / "q.jsonl", "--speed", 40, "--replications", 1)
        tables = record("testbed", tmp_path / "endpoints.toml", tmp_path / "out", *words, *texts)
        asked = server.asked[len(names) :]
    check_laws(tables)
    (twin,) = draw_loads(drawn, n=1)
    legs, requests = tables["legs"], tables["requests"]
    assert legs["expert"].to_list() == [names[i] for i in twin.legs.expert]
    assert requests["question_id"].to_list() == ids[twin.requests.prompt].tolist()
    assert (requests["status"] == "served").all()
    texts = sorted(f"say {q}" for q in ids[twin.requests.prompt[twin.legs.request]])
    assert sorted(body["prompt"] for body in asked) == texts
    last_s = legs.groupby("request_id", sort=False)["finished_s"].max().to_numpy()
    assert requests["finished_s"].to_numpy() - last_s == pytest.approx(np.full(len(last_s), 0.02))
    assert (legs.groupby("request_id", sort=False)["arrived_s"].min().to_numpy() >= requests["arrived_s"] + 0.02).all()


def test_speed_moves_requests_together_and_changes_nothing_else():
    """Played four times as fast, every load draws the same requests for the same experts, sooner."""
    loads = (
        ["load.requests_per_s=0.5"],
        ['load={process="gamma", requests_per_s=0.5, cv=2.0}'],
        ['load={process="mmpp", states=[{requests_per_s=0.2, mean_s=50.0}, {requests_per_s=1.0, mean_s=20.0}]}'],
        ['load={process="diurnal", requests_per_s=0.5, shape=[1.0, 3.0], period_s=80.0}'],
    )
    for changes in loads:
        scenario = load(
            "testbed",
            [*changes, "duration_s=200.0", "warmup_s=10.0", 'router.subset=["mathstral-7b@rtx4090-c"]', "router.k=1"],
        )
        (slow,), (fast,) = (draw_loads(assemble(sped_up(scenario, speed)), n=1) for speed in (1.0, 4.0))
        assert len(slow.requests) > 50
        assert fast.requests.arrived_s * 4 == pytest.approx(slow.requests.arrived_s, rel=1e-9)
        for key in ("prompt", "user_id", "prompt_tokens"):
            assert getattr(fast.requests, key).tolist() == getattr(slow.requests, key).tolist()
        assert fast.legs.expert.tolist() == slow.legs.expert.tolist()


@pytest.mark.parametrize("slots", [None, 64, 2, "2"])
def test_slots_that_are_not_the_scenarios_are_told(tmp_path, slots):
    """A server that tells 2 slots where max_batch is 64 is warned of at once and ever after; else nothing is said."""
    words = "a: the server says that it has 2 slots, max_batch is 64"
    with testbed_server(slots=slots) as a:
        scenario, endpoints = write_sample(tmp_path / "in", [(0.0, 8, 2, "a")], {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--no-report")
    assert found.exit_code == 0, found.output
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    compared = moe2("compare", tmp_path / "out", tmp_path / "out").output
    summed_up = [" ".join(told["recording"]["slots_apart"]), " ".join(told["told"]["warnings"])]
    assert [words in place for place in (found.stderr, found.stdout, compared, *summed_up)] == [slots == 2] * 5


def test_late_sends_are_flagged():
    """One late send in a hundred passes, two do not."""
    for n_late, flagged in ((0, False), (1, False), (2, True)):
        late_s = np.r_[np.full(100 - n_late, 0.001), np.full(n_late, 0.5)]
        found = lateness(pd.DataFrame({"late_s": late_s}))
        assert (found["flagged"], found["late_share"]) == (flagged, n_late / 100)


FLAWS = {
    "expert 'b' would run and has no endpoint": lambda text: text.split("[[endpoints]]")[1].join(["[[endpoints]]", ""]),
    "key urll is not known (did you mean 'url'?)": lambda text: text.replace("url", "urll"),
    "no expert 'bb' (did you mean 'b'?)": lambda text: text.replace('"b"', '"bb"'),
    "key meter = 'volt': must be one of": lambda text: text + 'meter = "volt"\n',
    "key timeout_s = 0": lambda text: text.replace("60.0", "0"),
    "key url = 'ftp": lambda text: text.replace("http", "ftp"),
    "key url = 'http://127.0.0.2:99999'": lambda text: re.sub(r"2:\d+", "2:99999", text),
    "key url = 'http://'": lambda text: re.sub(r"//[^\"]+", "//", text),
    "key model is missing or empty": lambda text: text + 'model = ""\n',
    "key rails = [1]": lambda text: text + 'meter = "ina3221"\nrails = [1]\n',
    "key gpu = -1": lambda text: text + 'meter = "nvml"\ngpu = -1\n',
    "tell a meter where to look, and there is none": lambda text: text + 'rails = ["VDD_GPU_SOC"]\n',
    "key endpoint is not known (did you mean 'endpoints'?)": lambda text: text.replace("[[endpoints]]", "[[endpoint]]"),
    "the environment has no variable NO_SUCH_KEY": lambda text: text + 'key_variable = "NO_SUCH_KEY"\n',
    "has an endpoint already": lambda text: text.replace('"b"', '"a"'),
    "cannot be read as a TOML file": lambda text: text + "[",
    "no OpenAI-compatible endpoint is ready there": lambda text: text,
}


@pytest.mark.parametrize("message", FLAWS)
def test_wrong_endpoints_are_refused_in_one_message(tmp_path, message):
    """Whatever is wrong with the endpoints or their servers is said in one message, before anything is sent."""
    with testbed_server() as a:
        addresses = {"a": a.address, "b": a.address.replace("127.0.0.1", "127.0.0.2")}
        scenario, endpoints = write_sample(tmp_path / "in", ROWS, addresses)
        endpoints.write_text(FLAWS[message](endpoints.read_text()))
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert message in found.output
    assert "Traceback" not in found.output
    assert not (tmp_path / "out").exists()
    assert not journal_of(tmp_path / "out").exists()


@pytest.mark.parametrize("models", ['{"data": null}', '{"data": ["small"]}', '{"data": []}', "<html>"])
def test_a_server_that_lists_no_models_is_refused(tmp_path, models):
    """Whatever stands where the list of models should: one message with the expert and the address, nothing sent."""
    with testbed_server(models=models) as a:
        scenario, endpoints = write_sample(tmp_path / "in", ROWS[:1], {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out")
        assert a.asked == []
    assert found.exit_code == 2
    assert found.output.startswith(f"moe2: endpoint of 'a': {a.address}: ")


def test_a_load_that_waits_for_answers_is_refused(tmp_path):
    """What users ask after an answer has no instants to be sent at: it is refused, with what can be recorded."""
    scenario, endpoints = write_sample(tmp_path / "in", ROWS, {"a": "http://127.0.0.1:9"})
    again = 'load={process="recorded", path="somewhere"}'
    found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--set", again)
    assert found.exit_code == 2
    assert "process = 'recorded'" in found.output
    assert "poisson" in found.output


def test_the_key_of_an_api_is_sent_and_not_written(tmp_path, monkeypatch):
    """A secret comes from the environment, a password from the URL; neither is in what the recording leaves behind."""
    monkeypatch.setenv("BENCH_KEY", "s3cret")
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", ROWS[:4:2], {"a": a.address.replace("//", "//me:s3cret@")})
        record(scenario, endpoints, tmp_path / "out")
        basic = b64encode(b"me:s3cret").decode().lower()
        assert all(f"authorization: basic {basic}" in head.lower() for head in a.heads)
        endpoints.write_text(endpoints.read_text().replace("me:s3cret@", "") + 'key_variable = "BENCH_KEY"\n')
        a.heads.clear()
        record(scenario, endpoints, tmp_path / "key")
        assert all("authorization: bearer s3cret" in head.lower() for head in a.heads)
    written = [p.read_bytes() for name in ("out", "key") for p in (tmp_path / name).rglob("*") if p.is_file()]
    assert len(written) > 10
    assert not any(b"s3cret" in content for content in written)


@pytest.mark.parametrize("line", [b"{]", b"[]", b'{"kind": "moved"}', b'{"kind": "sent", "leg": 1}'])
def test_a_journal_that_was_changed_is_refused(tmp_path, line):
    """A line that is no event, in the middle, is refused by its number: it was not the recorder that wrote it."""
    path = tmp_path / "out.journal.jsonl"
    path.write_bytes(b'{"schema": 1}\n' + line + b"\n")
    found = moe2("record", "--resume", "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert "line 2" in found.output
    assert path.exists()
