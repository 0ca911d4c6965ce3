"""The scenario that a testbed's server and its twin are both given: requests of a form, at a rate for a utilisation."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from scenarios.files.loading import load
from scenarios.runs.result import run
from tools.loopback import Form, Loopback

__all__ = ["drawn", "rate_for", "write_scenario"]

Row = tuple[float, int, int]  # arrival in seconds, prompt tokens, output tokens
N_REQUESTS = 4000  # that a utilisation is found with
TOLERANCE = 0.01  # of a rate


def drawn(form: Form, chance: np.random.Generator, *, rate: float, duration_s: float) -> list[Row]:
    """Return Poisson arrivals at `rate` per second; prompts are even in the logarithm, outputs even."""
    arrived_s = np.cumsum(chance.exponential(1 / rate, size=int(3 * rate * duration_s) + 20))
    return _with_lengths(form, chance, arrived_s[arrived_s < duration_s])


def rate_for(utilisation: float, form: Form, server: Loopback, profile: Path, folder: Path) -> float:
    """Return the requests per second at which the twin's server is busy for that share of the time, a number below 1.

    The same requests come more or less often, so that the share grows with the rate.
    """
    chance = np.random.default_rng(0)
    unit = _with_lengths(form, chance, np.cumsum(chance.exponential(size=N_REQUESTS)))

    def beyond(log_rate: float) -> float:
        rows = [(at / np.exp(log_rate), *lengths) for at, *lengths in unit]
        scenario = write_scenario(folder, rows, profile, server, duration_s=rows[-1][0] + 1.0)
        return float(run(load(scenario)).tables.devices["utilisation"].iloc[0]) - utilisation

    return float(np.exp(brentq(beyond, np.log(0.01), np.log(1000.0), xtol=TOLERANCE)))


def write_scenario(folder: Path, rows: Sequence[Row], profile: Path, server: Loopback, *, duration_s: float) -> Path:
    """Write the requests and the scenario, the server's settings as it reports them; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "requests.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["request_id", "arrived_s", "prompt_tokens", "output_tokens", "category", "experts"])
        writer.writerows((i, repr(float(at)), *lengths, "any", "llama") for i, (at, *lengths) in enumerate(rows))
    lines = [
        'name = "loopback"',
        f"duration_s = {float(duration_s)}",
        '[load]\nprocess = "requests"\npath = "requests.csv"',
        '[[experts]]\nname = "llama"\ndevice = "loopback"\nscheduler = "chunked"',
        f"profile = {json.dumps(str(profile))}",
        f"max_batch = {server.slots}\ntoken_budget = {server.token_budget}",
        f"kv_capacity_tokens = {server.kv_tokens}",
    ]
    (folder / "scenario.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "scenario.toml"


def _with_lengths(
    form: Form, chance: np.random.Generator, arrived_s: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> list[Row]:
    (least, most), (fewest, many), n = form.prompt, form.output, len(arrived_s)
    prompts = np.round(np.exp(chance.uniform(np.log(least), np.log(most), n))).astype(int)
    return list(zip(arrived_s.tolist(), prompts.tolist(), chance.integers(fewest, many + 1, n).tolist(), strict=True))
