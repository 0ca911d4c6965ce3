"""Requests per wall second of `moe2 run`, end to end: gate, radio, 8 batching servers, k = 2, noise, tables written.

Run it with `python benchmarks/end_to_end.py [REQUESTS …]`; each size is run five times in a process of its own, after
one run that compiles. The seconds are those of the whole process, interpreter start and imports included.

2,000 users stand among 25 access points, and every request is served: the rate keeps the busiest server, to which the
bundled gate sends nearly half of the legs, below its capacity. Beside that, a million requests without the radio and
with users who walk.
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
from dataclasses import dataclass
from math import log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.__main__ import processor
from calibration.profile import bundled_profiles
from moe2.answers import bundled_answers

RUNS = 5
FEW_RUNS_ABOVE = 1_000_000  # requests; larger sizes are run once
ROOM_GB = 12.0  # that must be free for the ten million requests, which take about 8
REQUESTS_PER_S = 2.0
BESIDE = 1_000_000  # requests of the runs that are compared
STANDING = "count = 2000\n[network.access_points]\ngrid = [5, 5]\n"
WALKING = 'count = 20\nmobility = "random_waypoint"\n[network.access_points]\ngrid = [5, 5]\n'
NO_RADIO = "count = 2000\n"


def scenario(folder: Path, n_requests: int, users: str = STANDING) -> Path:
    """Write a scenario in which the bundled gate spreads requests over the eight models, all on one kind of card."""
    profile = json.loads(bundled_profiles()["rtx-4090/llama-3.1-8b-instruct/bf16"].read_text(encoding="utf-8"))
    parts = [
        f'name = "end to end"\nduration_s = {n_requests / REQUESTS_PER_S}\nreplications = 1\n'
        f'[load]\nprocess = "poisson"\nrequests_per_s = {REQUESTS_PER_S}\n[users]\n{users}'
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
    command = [moe2, "run", path, "--out", folder / "out", "--no-report", "--quiet"]
    done = subprocess.Popen(command, env=with_bytecode())  # noqa: S603
    _, status, used = os.wait4(done.pid, 0)
    wall_s = time.perf_counter() - began_s
    if os.waitstatus_to_exitcode(status) == 2 or not (folder / "out" / "summary.json").exists():
        raise SystemExit("moe2 run did not perform the benchmark's scenario")
    return wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20  # Linux gives kilobytes


def with_bytecode() -> dict[str, str]:
    """Return the environment in which Python keeps the bytecode of what it loads, as it does unless told not to."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Runs of one size: wall seconds, processor seconds and peak gigabytes, medians but for the last."""

    n_requests: int
    n_runs: int
    wall_s: float
    least_s: float
    most_s: float
    cpu_s: float
    gb: float

    def line(self, start_s: float) -> str:
        return (
            f"{self.wall_s:.2f} s (median of {self.n_runs}, {self.least_s:.2f} to {self.most_s:.2f}), "
            f"{self.n_requests / self.wall_s:,.0f} requests/s, {once(self.n_requests, self.wall_s - start_s)}; "
            f"{self.cpu_s:.2f} processor seconds, at most {self.gb:.2f} GB"
        )


def measured(folder: Path, n_requests: int, users: str = STANDING) -> Found:
    """Run a load as often as its size allows."""
    path = scenario(folder, n_requests, users)
    found = [run(path, folder) for _ in range(RUNS if n_requests <= FEW_RUNS_ABOVE else 1)]
    walls_s, cpus_s, gbs = zip(*found, strict=True)
    return Found(
        n_requests=n_requests,
        n_runs=len(found),
        wall_s=statistics.median(walls_s),
        least_s=min(walls_s),
        most_s=max(walls_s),
        cpu_s=statistics.median(cpus_s),
        gb=max(gbs),
    )


def main() -> None:
    sizes = [int(n) for n in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    if not sys.argv[1:] and available_gb() > ROOM_GB:
        sizes.append(10_000_000)
    print(f"{processor()}, {platform.system()}, Python {platform.python_version()}, one process, inputs nominal")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(scenario(folder, 1000), folder)  # compiles
        start = measured(folder, 1000)
        print(f"1,000 requests, nearly all of it the start: {start.line(start.wall_s)}")
        found = {}
        for n in sizes:
            found[n] = measured(folder, n)
            print(f"{n:,} requests: {found[n].line(start.wall_s)}", flush=True)
        if len(sizes) > 1:
            print_slopes(found, start)
        if BESIDE in sizes:
            for users, words in ((NO_RADIO, "without the radio"), (WALKING, "with 20 users who walk")):
                print(f"{BESIDE:,} requests {words}: {measured(folder, BESIDE, users).line(start.wall_s)}", flush=True)


def print_slopes(found: Mapping[int, Found], start: Found) -> None:
    low, high = min(found), max(found)
    for words, seconds, start_s in (
        ("wall", {n: f.wall_s for n, f in found.items()}, start.wall_s),
        ("processor", {n: f.cpu_s for n, f in found.items()}, start.cpu_s),
    ):
        print(
            f"log-log slope of {words} seconds from {low:,} to {high:,} requests: {slope(seconds, low, high, 0.0)}; "
            f"without the start: {slope(seconds, low, high, start_s)}"
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
