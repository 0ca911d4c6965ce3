"""A small plant of one noisy server, written to a folder, and the commands that ask what if."""

import json

import typer

from scenarios.commands import questions, sweep

app = typer.Typer()
app.callback()(lambda: None)  # with it a single command keeps its name
for module in (sweep, questions):
    module.register(app)

SCENARIO = """
name = "small"
duration_s = 60.0
replications = 3
seed = 5
[load]
process = "requests"
path = "requests.csv"
[[experts]]
name = "a"
device = "bench"
profile = "bench.json"
max_batch = 2
noise = true
[budgets]
delay_s = 9.0
energy_j_per_request = 1000.0
"""
PROFILE = {
    "schema": 1, "name": "bench/m/q", "device": "bench", "model": "m", "quantization": "q", "runtime": "r",
    "power_mode": "p", "provenance": {"latency": "measured", "energy": "measured"}, "energy_scope": "wall",
    "context_tokens": 4096, "prefill_s": [0.5, 0.0, 0.0],
    "decode_s": {"base": 0.0625, "per_sequence": 0.0, "per_context_token": 0.0}, "knee_tokens": 0,
    "prefill_j": [8.0, 0.0, 0.0], "decode_j": {"base": 2.0, "per_sequence": 0.0, "per_context_token": 0.0},
    "idle_w": 1.0, "residuals": {"prefill": [-0.1, 0.0, 0.1], "decode": [-0.2, 0.0, 0.2]}, "evidence": {},
}  # fmt: skip


def write_small(folder, n_requests=20):
    """Write scenario, profile and requests; return the scenario's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{i},{59.0 * i / n_requests:.3f},{10 + i % 7},{5 + i % 11},law,a" for i in range(n_requests)]
    header = "request_id,arrived_s,prompt_tokens,output_tokens,category,experts"
    (folder / "requests.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "bench.json").write_text(json.dumps(PROFILE))
    path = folder / "small.toml"
    path.write_text(SCENARIO)
    return path
