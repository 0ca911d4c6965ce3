"""A small scenario whose requests name their experts, and the endpoints to record it on."""

import json

PROFILE = {
    "schema": 1, "name": "bench/m/q", "device": "bench", "model": "m", "quantization": "q", "runtime": "r",
    "power_mode": "p", "provenance": {"latency": "assumed", "energy": "assumed"}, "energy_scope": "wall",
    "context_tokens": 4096, "prefill_s": [0.001, 0.0, 0.0],
    "decode_s": {"base": 0.001, "per_sequence": 0.0, "per_context_token": 0.0}, "knee_tokens": 0,
    "prefill_j": [8.0, 0.0, 0.0], "decode_j": {"base": 2.0, "per_sequence": 0.0, "per_context_token": 0.0},
    "idle_w": 1.0, "residuals": {"prefill": [], "decode": []}, "evidence": {},
}  # fmt: skip


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
