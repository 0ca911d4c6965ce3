"""Requests per wall second of `moe2 run`, end to end: gate, network, 8 batching servers, k = 2, noise, tables written.

Run it with `python benchmarks/end_to_end.py [REQUESTS …]`; each size is run five times in a process of its own, after
one run that compiles. The seconds are those of the whole process, interpreter start and imports included.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from math import log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.__main__ import processor
from calibration.profile import bundled_profiles
from moe2.answers import bundled_answers

RUNS = 5
FEW_RUNS_ABOVE = 1_000_000  # requests; larger sizes are run once
ROOM_GB = 12.0  # that must be free for the ten million requests, which take about 8
REQUESTS_PER_S = 5.0


def scenario(folder: Path, n_requests: int) -> Path:
    """Write a scenario in which the bundled gate spreads requests over the eight models, all on one kind of card."""
    profile = json.loads(bundled_profiles()["rtx-4090/llama-3.1-8b-instruct/bf16"].read_text(encoding="utf-8"))
    parts = [
        f'name = "end to end"\nduration_s = {n_requests / REQUESTS_PER_S}\nreplications = 1\n'
        f'[load]\nprocess = "poisson"\nrequests_per_s = {REQUESTS_PER_S}\n[users]\ncount = 2000\n'
        '[verdicts]\ninputs = "nominal"\n[router]\nk = 2\nsubset = [%s]\n'
        % ", ".join(f'"{model}"' for model in bundled_answers().models)
    ]
    for model in bundled_answers().models:
        (folder / f"{model}.json").write_text(json.dumps({**profile, "name": f"bench/{model}", "model": model}))
        parts.append(
            f'[[experts]]\nname = "{model}"\ndevice = "card of {model}"\nprofile = "{model}.json"\n'
            "max_batch = 32\nkv_capacity_tokens = 60000\nnoise = true"
        )
    path = folder / "scenario.toml"
    path.write_text("\n".join(parts) + "\n")
    return path


def run(path: Path, folder: Path) -> tuple[float, float, float]:
    """Return the wall seconds, processor seconds and peak gigabytes of one run."""
    moe2 = Path(sys.executable).with_name("moe2")
    shutil.rmtree(folder / "out", ignore_errors=True)
    began_s = time.perf_counter()
    done = subprocess.Popen([moe2, "run", path, "--out", folder / "out", "--no-report", "--quiet"])  # noqa: S603
    _, status, used = os.wait4(done.pid, 0)
    wall_s = time.perf_counter() - began_s
    if os.waitstatus_to_exitcode(status) == 2 or not (folder / "out" / "summary.json").exists():
        raise SystemExit("moe2 run did not perform the benchmark's scenario")
    return wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20  # Linux gives kilobytes


def main() -> None:
    sizes = [int(n) for n in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    if not sys.argv[1:] and available_gb() > ROOM_GB:
        sizes.append(10_000_000)
    print(f"{processor()}, {platform.system()}, Python {platform.python_version()}, one process, inputs nominal")
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        run(scenario(Path(folder), 1000), Path(folder))
        started = [run(scenario(Path(folder), 1000), Path(folder)) for _ in range(RUNS)]
        start_s = statistics.median(wall_s for wall_s, _, _ in started)
        print(f"1,000 requests: {start_s:.2f} s (median of {RUNS}): nearly all of it is the start")
        for n in sizes:
            path = scenario(Path(folder), n)
            found = [run(path, Path(folder)) for _ in range(RUNS if n <= FEW_RUNS_ABOVE else 1)]
            seconds[n] = statistics.median(wall_s for wall_s, _, _ in found)
            print(
                f"{n:,} requests: {seconds[n]:.2f} s (median of {len(found)}, {min(found)[0]:.2f} to "
                f"{max(found)[0]:.2f}), {n / seconds[n]:,.0f} requests/s, {once(n, seconds[n] - start_s)}; "
                f"{statistics.median(cpu_s for _, cpu_s, _ in found):.2f} processor seconds, at most "
                f"{max(gb for _, _, gb in found):.2f} GB",
                flush=True,
            )
    if len(sizes) > 1:
        low, high = min(sizes), max(sizes)
        print(
            f"log-log slope from {low:,} to {high:,} requests: {slope(seconds, low, high, 0.0)}; without the start: "
            f"{slope(seconds, low, high, start_s)}"
        )


def slope(seconds: Mapping[int, float], low: int, high: int, start_s: float) -> str:
    if seconds[low] <= start_s:
        return f"not told, {low:,} requests take no longer than it"
    return f"{log((seconds[high] - start_s) / (seconds[low] - start_s)) / log(high / low):.2f}"


def once(n: int, seconds: float) -> str:
    return f"{n / seconds:,.0f} once started" if seconds > 0 else "no longer than the start"


def available_gb() -> float:
    """Return the memory that programs may still take; 0 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable")), 0.0)


if __name__ == "__main__":
    main()
