"""The twin beside two other simulators of LLM serving, on the same requests: the first 10,000 of Azure's trace.

Run it with `python benchmarks/simulators.py [ROUNDS]`, with the public data in $MOE2_DATA. The others live in
environments of their own, which are made on first use as `python -m venv` and `pip install` make them; where that
fails (no network, another system) the other is left out, and a line says so. Every round runs each once, on one core,
in a process of its own that has warmed up on 1,000 requests; the figures are medians over rounds of the seconds of the
simulation itself, imports and reading of the requests left out.

128 sequences, 2048 tokens per iteration, 36,578 blocks of 16 tokens; eight servers in turn (round robin), then one.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.__main__ import processor
from calibration.profile import bundled_profiles, read_profile
from twin.network import Network
from twin.servers.expert import Expert
from twin.users.load import Legs, Requests
from twin.users.traces import read_trace
from twin.world import Engine, simulate

N_REQUESTS, ROUNDS, WARM = 10_000, 5, 1000
SERVERS = (8, 1)
PROFILE = "rtx-pro-6000/llama-3.1-8b-instruct/bf16"
OTHERS = {  # package and version: (its script, what it models)
    "vllm-sr-sim==0.1.0.dev20260713123629": (
        "vllm_sr_sim.py",
        "one event per request, no iterations: service time fixed at its start from the sequences then active",
    ),
    "ai-dynamo-runtime==1.6.1": (
        "dynosim.py",
        "DynoSim, Rust: every iteration, blocks, chunked prefill; its own built-in polynomial costs, not ours; reads "
        "its trace file within the time",
    ),
}
FIRST = "twin, compiled engine"
TWIN = {
    "compiled": "every iteration's effect (runs in closed form), blocks, chunked prefill, preemption",
    "simpy": "the same, every iteration an event",
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if "MOE2_DATA" not in os.environ:
        print("needs the Azure trace: set MOE2_DATA to the folder of public data")
        return
    core = one_core()
    print(f"{processor()}, {core}; {N_REQUESTS:,} requests of Azure's conversation trace of 2023, medians of {rounds}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        requests_per_s = write_requests(path)
        commands = {f"twin, {engine} engine": [sys.executable, __file__, engine] for engine in TWIN}
        for package, (script, _) in OTHERS.items():
            python = environment(package)
            if python is None:
                print(f"left out: {package} could not be installed; by hand: pip install {package}")
            else:
                commands[package] = [python, Path(__file__).parent / "other_simulators" / script]
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(rounds):
            for name, command in commands.items():
                for servers in SERVERS:
                    found.setdefault((name, servers), []).append(measured([*command, path, str(servers)]))
    report(found, requests_per_s)


def one_core() -> str:
    """Let this process and all that it starts have one core, where the system can; return what there is."""
    if not hasattr(os, "sched_setaffinity"):
        return "not kept to one core: this system cannot"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return "kept to one core"


def report(found: dict[tuple[str, int], list[dict[str, float]]], requests_per_s: float) -> None:
    heads = "simulator | servers | requests/s | per processor second | times the twin | completed | at once | mean E2E"
    print(f"\n| {heads} |\n|---|---|---|---|---|---|---|---|")
    for (name, servers), runs in sorted(found.items(), key=lambda item: -item[0][1]):
        wall_s, processor_s, base_s = (
            statistics.median(run[key] for run in rounds)
            for rounds, key in ((runs, "wall_s"), (runs, "processor_s"), (found[FIRST, servers], "processor_s"))
        )
        print(
            f"| {name} | {servers} | {N_REQUESTS / wall_s:,.0f} | {N_REQUESTS / processor_s:,.0f} | "
            f"{processor_s / base_s:,.1f} | {runs[0]['completed']:,} | "
            f"{requests_per_s * runs[0]['e2e_s'] / servers:.1f} | {runs[0]['e2e_s']:.3f} s |"
        )
    print()
    for name, says in [*((f"twin, {e} engine", s) for e, s in TWIN.items()), *((p, s) for p, (_, s) in OTHERS.items())]:
        print(f"{name} models {says}.")
    print(
        f"At once: sequences on a server, by Little's law, at the trace's own {requests_per_s:.1f} requests/s. Where "
        "every iteration is simulated, they share it: the fewer they are, the more iterations a request takes.\n"
        "Not comparable: the latencies, where costs differ in form or cannot be set (vllm-sr-sim: two numbers, prompt "
        "chunks at the cost of decoding; DynoSim: none of ours). Neither has a gate, fusion, energy per leg or users."
    )


def write_requests(path: Path) -> float:
    """Write the requests; return how many come in a second."""
    trace = read_trace(Path(os.environ["MOE2_DATA"]) / "traces" / "AzureLLMInferenceTrace_conv_2023.csv.gz", "azure")
    costs = read_profile(bundled_profiles()[PROFILE]).seconds
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["arrived_s", "prompt_tokens", "output_tokens", "base_s", "per_sequence_s"])
        for i in range(N_REQUESTS):
            lengths = (trace.prompt_tokens[i], trace.output_tokens[i])
            rows.writerow([trace.arrived_s[i], *lengths, costs.base, costs.per_sequence])
    return N_REQUESTS / float(trace.arrived_s[N_REQUESTS - 1])


def environment(package: str) -> Path | None:
    """Return the Python of an environment that has the package, made on first use; None where that fails."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "moe2-benchmarks" / package
    python = home / "bin" / "python"
    if (home / "ready").exists():
        return python
    venv.create(home, with_pip=True, clear=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    if subprocess.run(install, check=False, capture_output=True).returncode:  # noqa: S603
        return None
    (home / "ready").touch()
    return python


def measured(command: list) -> dict[str, float]:
    """Return what a process says of its run; it has one thread where it asks how many it may have."""
    one = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKIO_WORKER_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **one})  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def run_twin(engine: Engine, path: Path, servers: int) -> None:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    play(rows[:WARM], engine, servers)  # machine code is read or made
    wall_s, processor_s, out = play(rows, engine, servers)
    done = out.finished_s == out.finished_s
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "processor_s": processor_s,
                "completed": int(done.sum()),
                "ttft_s": float((out.first_token_s - out.arrived_s)[done].mean()),
                "e2e_s": float((out.finished_s - out.arrived_s)[done].mean()),
            }
        )
    )


def play(rows: list[dict[str, str]], engine: Engine, servers: int) -> tuple[float, float, object]:
    requests, legs = columns(rows, servers)
    profile = read_profile(bundled_profiles()[PROFILE])
    experts = [
        Expert(
            name=f"server {i}", device=f"card {i}", profile=profile, max_batch=128, kv_capacity_tokens=36_578 * 16,
            scheduler="chunked", token_budget=2048, kv="paged", block_tokens=16,
        )
        for i in range(servers)
    ]  # fmt: skip
    wall_s, processor_s = time.perf_counter(), time.process_time()
    run = simulate(
        experts=experts, requests=requests, legs=legs, network=Network(), engine=engine, seed=1,
        duration_s=float(requests.arrived_s[-1]) + 1.0, drain_cap_s=1e9,
    )  # fmt: skip
    return time.perf_counter() - wall_s, time.process_time() - processor_s, run.outcomes


def columns(rows: list[dict[str, str]], servers: int) -> tuple[Requests, Legs]:
    import numpy as np  # noqa: PLC0415 - the parent process needs no arrays

    n = len(rows)
    arrived_s = np.array([float(r["arrived_s"]) for r in rows])
    prompt, output = (np.array([int(r[c]) for r in rows]) for c in ("prompt_tokens", "output_tokens"))
    requests = Requests(
        request_id=np.arange(n), user_id=np.full(n, -1), prompt=np.full(n, -1, dtype=np.intp),
        category=np.full(n, "any", dtype=object), arrived_s=arrived_s, prompt_tokens=prompt, output_tokens=output,
    )  # fmt: skip
    turn = np.arange(n) % servers
    return requests, Legs(
        request=np.arange(n), expert=turn, weight=np.ones(n), prompt_tokens=prompt, output_tokens=output
    )


if __name__ == "__main__":
    if len(sys.argv) > 3:
        run_twin(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
