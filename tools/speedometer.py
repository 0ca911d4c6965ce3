"""How fast a core is from moment to moment, by a small fixed piece of work done on it again and again.

A core of a virtual machine is not its own: what its neighbours do to caches, to the other thread of the core and to the
host's scheduler makes the same work take longer, for seconds, and no counter tells. The work is half a product of two
matrices that stay in the nearest cache, as a prompt is computed, and half a pass over a matrix that does not, as a
token is: about a millisecond every `PERIOD_S` on the core that is watched, a fiftieth of it.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["read_speeds", "slowdown", "slowdowns", "speedometer"]

PERIOD_S = 0.05
INNER, REPEATS = 64, 20  # 64 x 64 float32 twice: 32 KiB
OUTER = (1024, 1024)  # float32: 4 MiB, more than a core's own caches
COLUMNS = ["unix_s", "near_s", "far_s", "stolen_s"]


@contextmanager
def speedometer(path: Path, core: int | None) -> Iterator[None]:
    """Watch a core until the block ends, appending to `path`; nothing is watched where there is none to choose."""
    if core is None:
        yield
        return
    command = [sys.executable, "-m", "tools.speedometer", str(path), f"--core={core}"]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[1])  # noqa: S603
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()
        if watcher.stdin is not None:
            watcher.stdin.close()


def read_speeds(path: Path) -> pd.DataFrame:
    """Return the readings: instant, seconds of processor time for each half of the work, seconds stolen since boot."""
    found = pd.read_csv(path, names=COLUMNS, on_bad_lines="skip")  # the last line may be cut off
    return found.dropna().astype(float).reset_index(drop=True)


def slowdowns(
    speeds: pd.DataFrame,
    usual: Sequence[tuple[float, float]],
    *,
    began_unix_s: float,
    lasts_s: float,
    window_s: float = 1.0,
) -> list[tuple[float, float, float]]:
    """Return (from, to, factor) for each window of a run's clock: how many times as long work took as in `usual` spans.

    The two halves of the work count alike. Time that the host gave to others is on top: of a second with a tenth
    stolen, 0.9 s are left. A window in which nothing was read is left out.

    >>> reading = {"near_s": [1.0, 1.0, 1.0, 2.0, 2.0], "far_s": [4.0, 4.0, 4.0, 8.0, 8.0], "stolen_s": [0.0] * 5}
    >>> speeds = pd.DataFrame({"unix_s": [10.0, 10.5, 10.9, 11.1, 11.9], **reading})
    >>> slowdowns(speeds, [(10.0, 11.0)], began_unix_s=10.0, lasts_s=2.0)
    [(0.0, 1.0, 1.0), (1.0, 2.0, 2.0)]
    """
    found = []
    for at_s in np.arange(0.0, lasts_s, window_s).tolist():
        factor = slowdown(speeds, (began_unix_s + at_s, began_unix_s + at_s + window_s), usual)
        if np.isfinite(factor):
            found.append((at_s, at_s + window_s, factor))
    return found


def slowdown(speeds: pd.DataFrame, span: tuple[float, float], usual: Sequence[tuple[float, float]]) -> float:
    """Return how many times as long work took in a span as in the `usual` ones; NaN without readings."""
    base = np.mean([_seconds(speeds, *other) for other in usual], axis=0)
    return float(np.mean(_seconds(speeds, *span) / base))


def _seconds(speeds: pd.DataFrame, begin_unix_s: float, end_unix_s: float) -> NDArray[np.float64]:
    """Return the mean seconds of each half of the work in a span, what was stolen included; NaN without two readings.

    One reading that was interrupted does not count for ten: three times the median is the most.
    """
    within = speeds[(speeds["unix_s"] >= begin_unix_s) & (speeds["unix_s"] < end_unix_s)]
    if len(within) < 2:
        return np.full(2, np.nan)
    halves = within[["near_s", "far_s"]]
    stolen = np.ptp(within["stolen_s"]) / np.ptp(within["unix_s"])
    return np.asarray(halves.clip(upper=3 * halves.median(), axis=1).mean()) / (1 - min(stolen, 0.9))


def main(arguments: Sequence[str] | None = None) -> None:
    """Append a line of readings every PERIOD_S until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--core", type=int, required=True)
    asked = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {asked.core})
    chance = np.random.default_rng(0)
    near = chance.random((INNER, INNER), dtype=np.float32)
    far = chance.random(OUTER, dtype=np.float32)
    with asked.path.open("a", encoding="utf-8") as file:
        while os.getppid() != 1:
            row = (time.time(), _near(near), _far(far), _stolen_s(asked.core))
            file.write(",".join(f"{value:.9f}" for value in row) + "\n")
            file.flush()
            time.sleep(PERIOD_S)


def _near(square: NDArray[np.float32]) -> float:
    product = square @ square  # untimed: brings it into the cache
    begun_ns = time.thread_time_ns()
    for _ in range(REPEATS):
        np.matmul(square, square, out=product)
    return (time.thread_time_ns() - begun_ns) / 1e9


def _far(table: NDArray[np.float32]) -> float:
    begun_ns = time.thread_time_ns()
    table.sum()
    return (time.thread_time_ns() - begun_ns) / 1e9


def _stolen_s(core: int) -> float:
    """Return the seconds that the host has given to others while the core had something to do, since boot."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith(f"cpu{core} "):
            return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")
    return 0.0


if __name__ == "__main__":
    main()
