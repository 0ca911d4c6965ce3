"""One run of NVIDIA's DynoSim (`ai-dynamo-runtime`, its offline mocker replay) on a CSV of requests.

Run by `benchmarks/simulators.py` in an environment of its own; prints what it took as JSON.
"""

import csv
import json
import sys
import tempfile
import time
from pathlib import Path

from dynamo._core import run_mocker_trace_replay

BLOCK = 512  # of the trace's hashes; each request has its own, so none shares a prefix


def main() -> None:
    servers = int(sys.argv[2])
    with Path(sys.argv[1]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as folder:
        trace, first = Path(folder) / "trace.jsonl", Path(folder) / "first.jsonl"
        lines = [line(i, row) for i, row in enumerate(rows)]
        trace.write_text("".join(lines), encoding="utf-8")
        first.write_text("".join(lines[:1000]), encoding="utf-8")
        replay(first, servers)  # warm
        wall_s, processor_s = time.perf_counter(), time.process_time()
        found = replay(trace, servers)
        wall_s, processor_s = time.perf_counter() - wall_s, time.process_time() - processor_s
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "processor_s": processor_s,
                "completed": found["completed_requests"],
                "ttft_s": found["mean_ttft_ms"] / 1000,
                "e2e_s": found["mean_e2e_latency_ms"] / 1000,
            }
        )
    )


def line(i: int, row: dict[str, str]) -> str:
    prompt = int(row["prompt_tokens"])
    blocks = -(-prompt // BLOCK)
    return (
        json.dumps(
            {
                "timestamp": round(1000 * float(row["arrived_s"])),
                "input_length": prompt,
                "output_length": int(row["output_tokens"]),
                "hash_ids": list(range(1000 * i, 1000 * i + blocks)),
            }
        )
        + "\n"
    )


def replay(trace: Path, servers: int) -> dict[str, float]:
    engine = {
        "backend": "vllm",
        "num_gpu_blocks": 36_578,
        "block_size": 16,
        "max_num_seqs": 128,
        "max_num_batched_tokens": 2048,
        "enable_prefix_caching": False,
    }
    return run_mocker_trace_replay(
        [str(trace)],
        extra_engine_args={"engine": engine},
        num_workers=servers,
        trace_block_size=BLOCK,
        capture_planner_details=False,
    ).summary


if __name__ == "__main__":
    main()
