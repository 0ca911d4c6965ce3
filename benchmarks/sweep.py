"""A sweep of 60 points, five replications of a 10-minute `testbed` each, on two processes; then again from the cache.

Every replication is run a second time with drawn profiles, and none is added where a budget stays undecided.

Run it with `python benchmarks/sweep.py`; it prints the machine, both wall times and the share that the cache saved.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = "from scenarios.start import main; main()"
WORDS = [
    "sweep", "testbed", "--vary", "k=1,2,3,4", "--vary", "load.requests_per_s=0.02..0.3:0.02",
    "--set", "duration_s=600.0", "--set", "warmup_s=60.0", "--set", "replications=5",
    "--set", "verdicts.max_replications=5", "--jobs", "2",
]  # fmt: skip


def wall_s(out: Path) -> float:
    began_s = time.perf_counter()
    command = [sys.executable, "-c", PROGRAM, *WORDS, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this program's own command
    return time.perf_counter() - began_s


def main() -> None:
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, two processes")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sweep"
        first_s = wall_s(out)
        n_points = json.loads((out / "sweep.json").read_text())["points"]
        again_s = wall_s(out)
        (out / "sweep.json").unlink()
        redrawn_s = wall_s(out)
    print(f"{n_points} points x 5 replications of a 10-minute testbed: {first_s:.1f} s")
    print(f"again, nothing changed: {again_s:.1f} s; tables and figures written anew from the cache: {redrawn_s:.1f} s")


if __name__ == "__main__":
    main()
