"""Legs per second of the twin's two engines on the same load: 8 batching servers, k = 2, about 100 output tokens.

Run it with `python benchmarks/compiled_engine.py [REQUESTS]`; it prints the machine and medians of five runs, in
wall and in processor seconds: on a machine that others use the second says more.
"""

import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.simpy_engine import REQUESTS_PER_S, RUNS, K, load, plant
from twin.network import Network
from twin.users.load import Legs, Requests
from twin.world import Engine, simulate

N_SIMPY = 5_000


def seconds(requests: Requests, legs: Legs, engine: Engine) -> tuple[float, float]:
    """Return the wall and processor seconds of one run."""
    wall_s, processor_s = time.perf_counter(), time.process_time()
    simulate(
        experts=plant(),
        requests=requests,
        legs=legs,
        network=Network(access_delay_s=0.02, lan_delay_s=0.0005),
        duration_s=float(requests.arrived_s[-1]) + 1.0,
        drain_cap_s=1e9,
        seed=1,
        engine=engine,
    )
    return time.perf_counter() - wall_s, time.process_time() - processor_s


def main() -> None:
    n_requests = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, one core, k = {K}")
    seconds(*load(int(REQUESTS_PER_S * 10), 100), engine="compiled")  # machine code is read or made
    for engine, n in (("compiled", n_requests), ("simpy", N_SIMPY)):
        requests, legs = load(n, 100)
        found = [seconds(requests, legs, engine) for _ in range(RUNS)]
        wall_s, processor_s = (statistics.median(column) for column in zip(*found, strict=True))
        print(
            f"{engine} engine, {len(requests):,} requests: {len(requests) / wall_s:,.0f} requests/s, "
            f"{len(legs) / wall_s:,.0f} legs/s; per processor second {len(legs) / processor_s:,.0f} legs"
        )


if __name__ == "__main__":
    main()
