"""Requests per wall second of the twin's `simpy` engine: 8 batching servers, k = 2, every iteration an event.

Run it with `python benchmarks/simpy_engine.py [REQUESTS]`; it prints the machine and the median of five runs.
"""

import platform
import statistics
import sys
import time

import numpy as np

from calibration.costs import Costs
from calibration.profile import Profile, Provenance
from twin.network import Network
from twin.servers.expert import Expert
from twin.users.load import Legs, Requests, poisson_requests
from twin.users.prompts import PromptPool
from twin.world import simulate

N_SERVERS, K, RUNS = 8, 2, 5
REQUESTS_PER_S = 20.0


def plant() -> list[Expert]:
    profile = Profile(
        name="benchmark",
        device="none",
        model="none",
        quantization="none",
        runtime="none",
        power_mode="none",
        provenance=Provenance(latency="assumed", energy="assumed"),
        energy_scope="gpu",
        context_tokens=8192,
        seconds=Costs(prefill=(0.01, 1e-4, 1e-8), base=0.015, per_sequence=3e-4, per_context_token=1e-7),
        knee_tokens=0,
        prefill_j=(1.0, 0.02, 0.0),
        decode_j=(4.0, 0.1, 1e-5),
        idle_w=20.0,
        residuals_prefill=(0.1, -0.1),
        residuals_decode=(0.05, -0.05),
        evidence={},
    )
    return [
        Expert(
            name=f"expert {i}",
            device=f"device {i}",
            profile=profile,
            max_batch=32,
            kv_capacity_tokens=10**5,
            noise=True,
        )
        for i in range(N_SERVERS)
    ]


def load(n_requests: int, mean_output_tokens: int) -> tuple[Requests, Legs]:
    chance = np.random.default_rng(1)
    pool = PromptPool(
        question_id=np.arange(500),
        category=np.full(500, "any"),
        prompt_tokens=chance.integers(50, 500, 500),
        output_tokens=chance.integers(1, 2 * mean_output_tokens, (500, N_SERVERS)),
    )
    requests = poisson_requests(
        requests_per_s=REQUESTS_PER_S,
        n_users=200,
        duration_s=n_requests / REQUESTS_PER_S,
        pool=pool,
        rows=np.arange(500),
        seed=1,
    )
    order = chance.random((len(requests), N_SERVERS)).argsort(axis=1)  # (requests, servers): k of them at random
    request, expert = np.repeat(np.arange(len(requests)), K), order[:, :K].ravel()
    legs = Legs(
        request=request,
        expert=expert,
        weight=np.full(len(request), 1 / K),
        prompt_tokens=requests.prompt_tokens[request],
        output_tokens=pool.output_tokens[requests.prompt[request], expert],
    )
    return requests, legs


def requests_per_wall_s(n_requests: int, mean_output_tokens: int) -> float:
    requests, legs = load(n_requests, mean_output_tokens)
    began_s = time.perf_counter()
    simulate(
        experts=plant(),
        requests=requests,
        legs=legs,
        network=Network(access_delay_s=0.02, lan_delay_s=0.0005),
        duration_s=n_requests / REQUESTS_PER_S,
        drain_cap_s=600.0,
        seed=1,
        engine="simpy",
    )
    return len(requests) / (time.perf_counter() - began_s)


def main() -> None:
    n_requests = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, one core")
    for mean_output_tokens in (10, 100):
        rates = [requests_per_wall_s(n_requests, mean_output_tokens) for _ in range(RUNS)]
        print(
            f"simpy engine, {N_SERVERS} servers, k = {K}, about {mean_output_tokens} output tokens: "
            f"{statistics.median(rates):,.0f} requests/s (median of {RUNS}, {min(rates):,.0f} to {max(rates):,.0f})"
        )


if __name__ == "__main__":
    main()
