"""Laws of recording: the load is the twin's, the loop is open, what is sent is served token for token."""

import json
import re

import httpx
import numpy as np
import pandas as pd
import pytest
from record_sample import ROWS, check_laws, moe2, record, write_sample
from testbed_server import testbed_server

from scenarios.files.loading import load
from scenarios.recording.scaling import sped_up
from scenarios.recording.writing import lateness
from scenarios.runs.replicating import assemble, draw_loads
from tests.llama_server import llama_server, write_llama


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


def test_late_sends_are_flagged():
    """One late send in a hundred passes, two do not."""
    for n_late, flagged in ((0, False), (1, False), (2, True)):
        late_s = np.r_[np.full(100 - n_late, 0.001), np.full(n_late, 0.5)]
        found = lateness(pd.DataFrame({"late_s": late_s}))
        assert (found["flagged"], found["late_share"]) == (flagged, n_late / 100)
