"""A small scenario whose requests name their experts, the endpoints to record it on, and what holds of its tables."""

import json

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from scenarios.cli import app
from twin.records.tables import SCHEMAS

PROFILE = {
    "schema": 1, "name": "bench/m/q", "device": "bench", "model": "m", "quantization": "q", "runtime": "r",
    "power_mode": "p", "provenance": {"latency": "assumed", "energy": "assumed"}, "energy_scope": "wall",
    "context_tokens": 4096, "prefill_s": [0.001, 0.0, 0.0],
    "decode_s": {"base": 0.001, "per_sequence": 0.0, "per_context_token": 0.0}, "knee_tokens": 0,
    "prefill_j": [8.0, 0.0, 0.0], "decode_j": {"base": 2.0, "per_sequence": 0.0, "per_context_token": 0.0},
    "idle_w": 1.0, "residuals": {"prefill": [], "decode": []}, "evidence": {},
}  # fmt: skip
ROWS = [(0.02 * i, 20 + i, 8, "a|b" if i % 2 else "a") for i in range(20)]


def write_sample(folder, rows, addresses, *, more="", timeout_s=60.0):
    """Write scenario.toml, requests.csv, bench.json and endpoints.toml; return the paths of scenario and endpoints.

    `rows` are (arrived_s, prompt_tokens, output_tokens, experts joined by |); experts are named by their address's key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = "request_id,arrived_s,prompt_tokens,output_tokens,category,experts\n"
    lines = [f"{i},{at},{prompt},{output},any,{experts}\n" for i, (at, prompt, output, experts) in enumerate(rows)]
    (folder / "requests.csv").write_text(header + "".join(lines))
    (folder / "bench.json").write_text(json.dumps(PROFILE))
    experts = "".join(
        f'[[experts]]\nname = "{name}"\ndevice = "device of {name}"\nprofile = "bench.json"\nmax_batch = 64\n'
        "kv_capacity_tokens = 1000000\n"
        for name in addresses
    )
    load = '[load]\nprocess = "requests"\npath = "requests.csv"\n'
    head = f'name = "sample"\nduration_s = {max(row[0] for row in rows) + 0.1:.3f}\ndrain_cap_s = 60.0\n'
    (folder / "scenario.toml").write_text(f"{head}{load}{experts}{more}")
    endpoints = "".join(
        f'[[endpoints]]\nexpert = "{name}"\nurl = "{url}"\ntimeout_s = {timeout_s}\n' for name, url in addresses.items()
    )
    (folder / "endpoints.toml").write_text(endpoints)
    return folder / "scenario.toml", folder / "endpoints.toml"


def moe2(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def record(scenario, endpoints, out, *more):
    """Record without a report; the exit status must be one of a verdict."""
    found = moe2("record", scenario, "--endpoints", endpoints, "--out", out, "--no-report", *more)
    assert found.exit_code in {0, 1, 3}, found.output
    return tables_in(out)


def tables_in(out):
    """Return the tables of a recording, and its sends."""
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
