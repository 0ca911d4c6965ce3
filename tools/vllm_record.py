"""A recorded vLLM server, and what the twin makes of the same requests."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from calibration.costs import Costs
from calibration.iterations import IterationFit, Limits, fit_iterations
from calibration.profile import Profile, Provenance
from calibration.visited import visited_iterations
from tools.table_replay import of_tables, replay
from twin.network import Network
from twin.servers.expert import Expert
from twin.users.load import Legs, Requests
from twin.world import Run, simulate

MAX_SEQUENCES, TOKEN_BUDGET, BLOCK_TOKENS, BLOCKS = 128, 2048, 16, 36_578
"""The recorded server's own settings; the number of blocks is the one that the record's authors derived."""
LAYERS = 32
PARTS = (lambda n: slice(n // 2), lambda n: slice(n // 2, None))

Replayed = dict[str, tuple[np.ndarray, ...]]
"""(measured, simulated) seconds of each request, in the order of arrival, for TTFT, TPOT and E2E."""


def fitted(data: Path) -> IterationFit:
    limits = Limits(max_batch=MAX_SEQUENCES, token_budget=TOKEN_BUDGET, kv_capacity_tokens=BLOCKS * BLOCK_TOKENS)
    return fit_iterations(visited_iterations(*tables(data), layers=LAYERS, limits=limits))


def replayed(data: Path, fit: IterationFit, *, host_s: float = 0.0) -> Replayed:
    """Return what the twin makes of the record, every iteration longer by `host_s`."""
    costs = dataclasses.replace(fit.costs, base=fit.costs.base + host_s)
    record = read_record(data)
    arrived_s, prompt, output = (record[c].to_numpy() for c in ("arrived_s", "prompt_tokens", "output_tokens"))
    server = Expert(
        name="vllm",
        device="RTX PRO 6000",
        profile=profile(costs, fit.knee_tokens),
        max_batch=MAX_SEQUENCES,
        kv_capacity_tokens=BLOCKS * BLOCK_TOKENS,
        scheduler="chunked",
        token_budget=TOKEN_BUDGET,
        kv="paged",
        block_tokens=BLOCK_TOKENS,
    )
    out = served(server, arrived_s, prompt, output).outcomes
    return _beside(record, out.first_token_s, out.finished_s)


def replayed_by_tables(data: Path) -> Replayed:
    """Return what comes of the record with iterations as long as the tables say, without a cost form."""
    record = read_record(data)
    arrived_s, prompt, output = (record[c].to_numpy() for c in ("arrived_s", "prompt_tokens", "output_tokens"))
    seconds = of_tables(*tables(data), layers=LAYERS, most_tokens=TOKEN_BUDGET + MAX_SEQUENCES)
    first_s, last_s = replay(arrived_s, prompt, output, seconds, slots=MAX_SEQUENCES, budget=TOKEN_BUDGET)
    return _beside(record, first_s, last_s)


def host_time_s(data: Path, fit: IterationFit) -> float:
    """Return the seconds per iteration with which the first half's mean TPOT is the measured one."""

    def too_slow(host_s: float) -> float:
        measured, simulated = halves(replayed(data, fit, host_s=host_s))[0]["TPOT"]
        return float(simulated.mean() - measured.mean())

    return float(brentq(too_slow, 0.0, 0.01, xtol=1e-6))


def halves(found: Replayed) -> tuple[Replayed, Replayed]:
    """Return the requests that arrive first and those that arrive last, in equal numbers."""
    first, last = ({name: tuple(c[part(len(c))] for c in pair) for name, pair in found.items()} for part in PARTS)
    return first, last


def tables(data: Path, card: str = "rtxpro6000") -> tuple[Path, Path, Path]:
    """Return the kernel tables of a card, the record's: dense, attention, per sequence."""
    folder = data / "measurements"
    dense, attention, per_sequence = (
        folder / f"vllm_{card}_llama31_8b_{kind}.csv.gz" for kind in ("dense", "attention", "per_sequence")
    )
    return dense, attention, per_sequence


def read_record(data: Path) -> pd.DataFrame:
    """Return the recorded requests in the order of arrival."""
    return pd.read_csv(data / "traces" / "vllm_rtxpro6000_llama31_8b_record.csv").sort_values("arrived_s")


def _beside(record: pd.DataFrame, first_s: np.ndarray, last_s: np.ndarray) -> Replayed:
    """Return what was measured beside what comes of simulated instants."""
    arrived_s, output = record["arrived_s"].to_numpy(), record["output_tokens"].to_numpy()
    ttft_s, e2e_s = first_s - arrived_s, last_s - arrived_s
    measured_ttft_s, measured_e2e_s = record["ttft_s"].to_numpy(), record["e2e_s"].to_numpy()
    many = output > 1
    return {
        "TTFT": (measured_ttft_s, ttft_s),
        "TPOT": tuple(
            ((e - t)[many] / (output[many] - 1)) for e, t in ((measured_e2e_s, measured_ttft_s), (e2e_s, ttft_s))
        ),
        "E2E": (measured_e2e_s, e2e_s),
    }


def profile(costs: Costs, knee_tokens: int) -> Profile:
    return Profile(
        name="of kernel times",
        device="any",
        model="any",
        quantization="bf16",
        runtime="vLLM 0.19, kernel times",
        power_mode="default",
        provenance=Provenance(latency="composed", energy=None),
        energy_scope=None,
        context_tokens=131_072,
        seconds=costs,
        knee_tokens=knee_tokens,
        prefill_j=None,
        decode_j=None,
        idle_w=None,
        residuals_prefill=(),
        residuals_decode=(),
        evidence={},
    )


def served(server: Expert, arrived_s: np.ndarray, prompt: np.ndarray, output: np.ndarray) -> Run:
    n = len(arrived_s)
    requests = Requests(
        request_id=np.arange(n),
        user_id=np.full(n, -1),
        prompt=np.full(n, -1, dtype=np.intp),
        category=np.full(n, "any", dtype=object),
        arrived_s=arrived_s,
        prompt_tokens=prompt,
        output_tokens=output,
    )
    legs = Legs(
        request=np.arange(n),
        expert=np.zeros(n, dtype=np.intp),
        weight=np.ones(n),
        prompt_tokens=prompt,
        output_tokens=output,
    )
    return simulate(
        experts=[server],
        requests=requests,
        legs=legs,
        network=Network(),
        duration_s=float(arrived_s[-1]) + 1.0,
        drain_cap_s=1e9,
        seed=0,
    )
