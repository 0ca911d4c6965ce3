"""The twin's figures in docs/results.md: a real server replayed, bursts, and queueing laws."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from calibration.costs import Costs
from calibration.iterations import IterationFit, Limits, compose_iterations, fit_iterations
from calibration.profile import Profile, Provenance
from twin.network import Network
from twin.servers.expert import Expert
from twin.users.arrivals import gamma_arrivals_s
from twin.users.load import Legs, Requests
from twin.world import Run, simulate

MAX_SEQUENCES, TOKEN_BUDGET, BLOCK_TOKENS, BLOCKS = 128, 2048, 16, 36_578
"""The recorded server's own settings; the number of blocks is the one that the record's authors derived."""
PERCENTS = (90, 99)
PARTS = (lambda n: slice(n // 2), lambda n: slice(n // 2, None))

Replayed = dict[str, tuple[np.ndarray, ...]]
"""(measured, simulated) seconds of each request, in the order of arrival, for TTFT, TPOT and E2E."""


def sections() -> Iterable[str]:
    yield "## The twin"
    yield from bursts()
    data = os.environ.get("MOE2_DATA")
    if data:
        yield from reality(Path(data))


def reality(data: Path) -> Iterable[str]:
    fit = fitted(data)
    found = replayed(data, fit)
    yield (
        "### A real server replayed\n\n"
        "A vLLM 0.19 server under overload (300 requests of ShareGPT lengths, Llama-3.1-8B, RTX PRO 6000; "
        "`traces/vllm_rtxpro6000_llama31_8b_record.csv`) against the twin with `chunked` and `paged` "
        f"({MAX_SEQUENCES} sequences, {TOKEN_BUDGET} tokens, blocks of {BLOCK_TOKENS}; {BLOCKS:,} blocks, as the "
        "record's authors derived them). Costs come from kernel times of that card alone; no coefficient was fitted "
        f"to the record, but see below. The fit of {len(fit.fit.residuals):,} iterations misses them by "
        f"{100 * np.abs(fit.fit.residuals).mean():.1f} % on average (knee {fit.knee_tokens} tokens)."
    )
    yield error_table(found)
    yield (
        "The twin is too fast throughout. Kernel tables hold no host time (scheduling, sampling, launches), and under "
        "overload a few per cent per iteration add up in the queue, so TTFT is off the most. The aim, all means within "
        "5 %, is missed. How rows are weighed matters: the tables' mixed iterations take about 15 % longer than their "
        "parts, which the cost form cannot say. The fit weighs decode, prompt and mixed iterations alike. That choice "
        "was made with this record in view: without mixed rows the means were off by -26, -10 and -15 %, with all rows "
        "as they stand (98 % mixed) by +37, +19 and +23 %. It has not been checked on a second record."
    )
    yield from held_out(data, fit, found)


def held_out(data: Path, fit: IterationFit, without: Replayed) -> Iterable[str]:
    host_s = host_time_s(data, fit)
    yield (
        "#### With a host time per iteration, on requests that it was not found on\n\n"
        f"One number more, {1000 * host_s:.2f} ms for every iteration whatever it carries, found on the first half of "
        "the requests (by arrival) such that their mean TPOT is the measured one; their TTFT and E2E and the whole "
        "second half do not enter. It is fitted to this record, unlike all else. Errors of the second half only, first "
        "without the host time, then with it:"
    )
    yield error_table(halves(without)[1])
    yield error_table(halves(replayed(data, fit, host_s=host_s))[1])
    yield (
        "Both halves are of one run of one server and overlap in time, and both had been looked at with other host "
        "times before the mean TPOT became the criterion: this shows that one constant is enough, "
        "not that it holds for another server."
    )


def error_table(found: Replayed) -> str:
    rows = [
        "| | measured mean | twin mean | error of mean | of p90 | of p99 | mean error per request |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (measured, simulated) in found.items():
        errors = [float(np.quantile(simulated, p / 100) / np.quantile(measured, p / 100) - 1) for p in PERCENTS]
        cells = [simulated.mean() / measured.mean() - 1, *errors]
        each = float(np.mean(np.abs(simulated / measured - 1)))
        shown = " | ".join(f"{100 * e:+.1f} %" for e in cells)
        rows.append(f"| {name} | {measured.mean():.3f} s | {simulated.mean():.3f} s | {shown} | {100 * each:.1f} % |")
    return "\n".join(rows)


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


def fitted(data: Path) -> IterationFit:
    files = [
        data / "measurements" / f"vllm_rtxpro6000_llama31_8b_{kind}.csv.gz"
        for kind in ("dense", "attention", "per_sequence")
    ]
    iterations = compose_iterations(*files, layers=32)
    limits = Limits(max_batch=MAX_SEQUENCES, token_budget=TOKEN_BUDGET, kv_capacity_tokens=BLOCKS * BLOCK_TOKENS)
    return fit_iterations(iterations.within(limits))


def replayed(data: Path, fit: IterationFit, *, host_s: float = 0.0) -> Replayed:
    """Return what the twin makes of the record, every iteration longer by `host_s`."""
    costs = dataclasses.replace(fit.costs, base=fit.costs.base + host_s)
    record = pd.read_csv(data / "traces" / "vllm_rtxpro6000_llama31_8b_record.csv").sort_values("arrived_s")
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
    ttft_s, e2e_s = out.first_token_s - out.arrived_s, out.finished_s - out.arrived_s
    measured_ttft_s, measured_e2e_s = record["ttft_s"].to_numpy(), record["e2e_s"].to_numpy()
    many = output > 1
    return {
        "TTFT": (measured_ttft_s, ttft_s),
        "TPOT": tuple(
            ((e - t)[many] / (output[many] - 1)) for e, t in ((measured_e2e_s, measured_ttft_s), (e2e_s, ttft_s))
        ),
        "E2E": (measured_e2e_s, e2e_s),
    }


def bursts() -> Iterable[str]:
    yield "### Bursts\n\nOne server with a single slot, 1.125 s of service, 60 % busy, for 20,000 s; gamma gaps."
    costs = Costs(prefill=(0.125, 0.0, 0.0), base=0.125, per_sequence=0.0, per_context_token=0.0)
    server = Expert(name="a", device="a", profile=profile(costs, 0), max_batch=1, kv_capacity_tokens=10**6)
    rows = ["| coefficient of variation of the gaps | p95 of the delay |", "|---|---|"]
    for cv in (1.0, 2.0, 3.0):
        chance = np.random.default_rng(4)
        arrived_s = gamma_arrivals_s(chance, requests_per_s=0.6 / 1.125, cv=cv, duration_s=20_000.0)
        lengths = np.full(len(arrived_s), 9)
        out = served(server, arrived_s, lengths, lengths).outcomes
        rows.append(f"| {cv:g} | {np.quantile(out.finished_s - out.arrived_s, 0.95):.1f} s |")
    yield "\n".join(rows)


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


if __name__ == "__main__":
    print("\n\n".join(sections()))
