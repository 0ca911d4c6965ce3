"""The tables of `moe2 run` against an independent simulation, iteration by iteration."""

import json
import math
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from scenarios.files.loading import load
from scenarios.running import perform, prepare
from tests import oracle
from tests.strategies import coefficients, loads

DURATION_S = 30.0


def write_scenario(folder, experts, rows):
    """Write a scenario of hand-written profiles and a requests CSV; return the path of the scenario."""
    sections = []
    for i, e in enumerate(experts):
        profile = {
            "schema": 1, "name": f"hand/{i}", "device": "bench", "model": "m", "quantization": "q", "runtime": "r",
            "power_mode": "p", "provenance": {"latency": "assumed", "energy": "assumed"}, "energy_scope": "wall",
            "context_tokens": 4096, "knee_tokens": 0, "idle_w": e["idle_w"],
            "residuals": {"prefill": [], "decode": []}, "evidence": {},
        }  # fmt: skip
        for key in ("prefill_s", "prefill_j"):
            profile[key] = list(e[key])
        for key in ("decode_s", "decode_j"):
            profile[key] = dict(zip(("base", "per_sequence", "per_context_token"), e[key], strict=True))
        (folder / f"p{i}.json").write_text(json.dumps(profile))
        sections.append(
            f'[[experts]]\nname = "e{i}"\ndevice = "d{i}"\nprofile = "p{i}.json"\n'
            f"max_batch = {e['max_batch']}\nkv_capacity_tokens = {e['kv_capacity_tokens']}\n"
        )
    lines = [f"{i},{at!r},{p},{o},c,e{expert}" for i, at, p, o, expert in rows]
    (folder / "r.csv").write_text(
        "request_id,arrived_s,prompt_tokens,output_tokens,category,experts\n" + "\n".join(lines) + "\n"
    )
    head = f'name = "t"\nduration_s = {DURATION_S}\ndrain_cap_s = 1e6\n[load]\nprocess = "requests"\npath = "r.csv"\n'
    path = folder / "scenario.toml"
    path.write_text(head + "\n".join(sections))
    return path


def run(path, out, engine):
    perform(prepare(load(path), out, engine=engine), report=False, console=Console(quiet=True))
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in ("requests", "legs", "devices")}


def close(found, expected, what):
    if expected is None:
        assert found is None or math.isnan(found), f"{what}: {found}, expected nothing"
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), what


@st.composite
def experts(draw):
    seconds, joules = draw(coefficients()), draw(coefficients())
    return {
        "prefill_s": seconds[0], "decode_s": seconds[1], "prefill_j": joules[0], "decode_j": joules[1],
        "idle_w": draw(st.floats(0, 9)), "max_batch": draw(st.integers(1, 5)),
        "kv_capacity_tokens": draw(st.integers(8, 60)),
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plant=st.lists(experts(), min_size=1, max_size=3), data=st.data())
def test_every_leg_and_device_agrees_with_the_oracle(engine, plant, data):
    """Times and joules of each leg, and busy, idle and total joules of each device, agree to 1e-9."""
    rows = data.draw(loads(n_experts=len(plant)))
    with tempfile.TemporaryDirectory() as folder:
        path = write_scenario(Path(folder), plant, rows)
        tables = run(path, Path(folder) / "out", engine)
    servers = [oracle.Server(**{k: v for k, v in e.items() if k != "idle_w"}) for e in plant]
    found = tables["legs"].set_index("request_id")
    for i, server in enumerate(servers):
        mine = [oracle.Sequence(r, at, p, o) for r, at, p, o, expert in rows if expert == i]
        for s in oracle.simulate(server, mine):
            leg = found.loc[s.request_id]
            assert (leg["status"], leg["expert"]) == (s.status, f"e{i}")
            for column in ("arrived_s", "started_s", "first_token_s", "finished_s", "energy_j"):
                close(leg[column], getattr(s, column), f"{column} of {s.request_id} in {rows}")
        server.leg_j = sum(s.energy_j for s in mine)
    horizon_s = max(DURATION_S, *(s.last_end_s for s in servers))
    for (_, device), server, e in zip(tables["devices"].iterrows(), servers, plant, strict=True):
        idle_j = (horizon_s - server.busy_s) * e["idle_w"]
        close(device["busy_s"], server.busy_s, "busy_s")
        close(device["busy_energy_j"], server.leg_j, "busy_energy_j")
        close(device["energy_j"], server.leg_j + idle_j, "energy_j")
