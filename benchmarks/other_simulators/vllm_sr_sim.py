"""One run of `vllm-sr-sim` on a CSV of requests: one pool of instances, round robin.

Run by `benchmarks/simulators.py` in an environment of its own; prints what it took as JSON.
"""

import csv
import json
import sys
import time
from pathlib import Path

from fleet_sim.core.fleet import Fleet, FleetConfig, PoolConfig
from fleet_sim.core.request import Request
from fleet_sim.gpu_profiles.profiles import ManualProfile

CONTEXT = 16_384


def main() -> None:
    with Path(sys.argv[1]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    run(rows[:1000], int(sys.argv[2]))  # warm
    wall_s, processor_s, done = run(rows, int(sys.argv[2]))
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "processor_s": processor_s,
                "completed": len(done),
                "ttft_s": sum(r.first_token_time - r.arrival_time for r in done) / len(done),
                "e2e_s": sum(r.physical_end_time - r.arrival_time for r in done) / len(done),
            }
        )
    )


def run(rows: list[dict[str, str]], servers: int) -> tuple[float, float, list[Request]]:
    base_s, per_sequence_s = float(rows[0]["base_s"]), float(rows[0]["per_sequence_s"])
    gpu = ManualProfile(
        name="benchmark",
        W=base_s,
        H=per_sequence_s,
        calibration_ctx=CONTEXT,
        chunk=2048,
        blk_size=16,
        total_kv_blks=36_578,
        max_slots=128,
        cost_per_hr=1.0,
    )
    pool = PoolConfig(pool_id="all", gpu=gpu, n_gpus=servers, max_ctx=CONTEXT, lb_strategy="round_robin")
    arrivals = [
        (
            float(r["arrived_s"]),
            Request(
                req_id=i,
                arrival_time=float(r["arrived_s"]),
                l_in=int(r["prompt_tokens"]),
                l_out=int(r["output_tokens"]),
            ),
        )
        for i, r in enumerate(rows)
    ]
    fleet = Fleet(FleetConfig(pools=[pool], router_type="RandomRouter"))
    wall_s, processor_s = time.perf_counter(), time.process_time()
    found = fleet.run(arrivals)
    return time.perf_counter() - wall_s, time.process_time() - processor_s, found.completed


if __name__ == "__main__":
    main()
