"""Processor seconds that a second start pays: for its compiled code, and in all, `moe2 run` of a handful of requests.

Run it with `python -m benchmarks.start`. What is compiled is kept from the first start; beside it what numba takes to
load and to make ready, which the kept code spares.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.end_to_end import RUNS, scenario, with_bytecode

NUMPY = "import numpy"
KEPT = """
import numpy as np
from twin.engines.machine import settings_of, slots_of, state_of
from benchmarks.simpy_engine import plant
from twin.engines.kernel.server import advance
from twin.engines.queues import queue_of
settings = settings_of(plant()[0], 1.0)
row, whole, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), np.ones(1)
advance(settings, state_of(settings), slots_of(settings, 1), queue_of(row, one, whole, whole, one, one), 2.0, 2.0)
"""
WITHOUT = "\n".join(KEPT.splitlines()[:4])
NUMBA = """
import numba
numba.njit(lambda x: x + 1)(1)
"""


def processor_s(*command: str) -> float:
    """Return the median processor seconds of a command, after one run that is not counted."""
    found = []
    for _ in range(RUNS + 1):
        done = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=with_bytecode())  # noqa: S603
        _, status, used = os.wait4(done.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 1, 3):
            raise SystemExit(f"{command} failed")
        found.append(used.ru_utime + used.ru_stime)
    return statistics.median(found[1:])


def main() -> None:
    numpy_s, numba_s, kept_s, without_s = (
        processor_s(sys.executable, "-c", code) for code in (NUMPY, NUMBA, KEPT, WITHOUT)
    )
    print(f"the engine's machine code, loaded and run: {kept_s - without_s:.3f} processor seconds (medians of {RUNS})")
    print(f"numba loaded and made ready for a function of one line: {numba_s - numpy_s:.2f}")
    with tempfile.TemporaryDirectory() as name:
        path, out = scenario(Path(name), 100), Path(name) / "out"
        moe2 = str(Path(sys.executable).with_name("moe2"))
        run_s = processor_s(moe2, "run", str(path), "--out", str(out), "--no-report", "--quiet")
        shutil.rmtree(out)
    print(f"moe2 run of about 100 requests with the radio, the whole process: {run_s:.2f}")


if __name__ == "__main__":
    main()
