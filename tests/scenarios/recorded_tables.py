"""Tables of a made-up run of two experts, as a recorder or the twin would write them."""

import json

import numpy as np
import pandas as pd

from twin.records.tables import Tables, joined


def tables_of(*, seed, n=120, replications=1, stretch=1.0, jitter=0.0, legs=None):
    """Return tables of n requests on two experts (or of the `legs` given); `stretch` multiplies every duration."""
    return joined(
        [
            _one(seed + 1000 * r, n, replication=r, stretch=stretch, jitter=jitter, legs=legs)
            for r in range(replications)
        ]
    )


def _one(seed, n, *, replication, stretch, jitter, legs):
    rng = np.random.default_rng(seed)
    arrived_s = np.sort(rng.uniform(0, 100, n))
    output_tokens = rng.integers(2, 50, n)
    factor = stretch * (1 + jitter * np.random.default_rng(seed + 1).uniform(-1, 1, n))
    first_s, whole_s = rng.uniform(0.1, 1.0, n) * factor, rng.uniform(1.0, 3.0, n) * factor
    expert = rng.integers(0, 2, n)
    made = pd.DataFrame(
        {
            "replication": replication,
            "request_id": np.arange(n),
            "expert": np.array(["one@a", "two@b"], dtype=object)[expert],
            "device": np.array(["a", "b"], dtype=object)[expert],
            "weight": 1.0,
            "arrived_s": arrived_s,
            "started_s": arrived_s,
            "first_token_s": arrived_s + first_s,
            "finished_s": arrived_s + whole_s,
            "prompt_tokens": rng.integers(5, 500, n),
            "output_tokens": output_tokens,
            "energy_j": 50.0 * whole_s,
            "status": "served",
            "attempt": 1,
            "reason": None,
        }
    )
    if legs is not None:
        made = made.head(len(legs)).assign(expert="one@a", device="a", **legs)
        made["first_token_s"] = made["arrived_s"]
    requests = made[["replication", "request_id", "arrived_s", "finished_s", "energy_j", "status"]].assign(
        user_id=pd.array([None] * len(made), dtype="Int64"),
        question_id=pd.array([None] * len(made), dtype="Int64"),
        category="law",
        n_legs=1,
        answer=None,
        correct=pd.array([None] * len(made), dtype="boolean"),
    )
    devices = pd.DataFrame({"replication": replication, "device": ["a", "b"], "busy_s": 90.0, "idle_s": 10.0})
    energies = {"busy_energy_j": 900.0, "idle_energy_j": 50.0, "overhead_energy_j": 0.0, "energy_j": 950.0}
    return Tables(requests=requests, legs=made, devices=devices.assign(**energies, utilisation=0.9))


def called_recorded(folder, **about):
    """Let the summary of a simulated run say that it was recorded, for what takes no other; returns the folder."""
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "engine": "recorded", "recording": about}))
    return folder
