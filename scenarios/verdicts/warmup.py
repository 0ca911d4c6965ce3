"""How long a run warms up, found from its data by MSER-5."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.records.metrics import replications

__all__ = ["mser", "warmup_s"]

BATCH = 5


def warmup_s(requests: pd.DataFrame) -> float | None:
    """Return the warm-up in seconds of runs that share a scenario: their delays, request by request, averaged.

    None when MSER-5 would cut half of the run: then no steady part is in sight.
    """
    instants = requests[["replication", "arrived_s", "finished_s"]]
    runs = [group.sort_values("arrived_s") for _, group in replications(instants)]
    n = min(len(run) for run in runs)
    delays_s = np.stack([(run["finished_s"] - run["arrived_s"]).to_numpy(float)[:n] for run in runs])
    arrived_s = np.stack([run["arrived_s"].to_numpy(float)[:n] for run in runs]).mean(axis=0)
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(delays_s).all(axis=0)
    cut = mser(np.nanmean(delays_s[:, known], axis=0))
    return None if cut is None else 0.0 if cut == 0 else float(arrived_s[known][cut])


def mser(values: NDArray[np.float64]) -> int | None:
    """Return how many values to cut from the start so that the mean of the rest has the least standard error.

    Batches of five; source: White, "An effective truncation heuristic for bias reduction in simulation output",
    Simulation 69 (1997), and White and Spratt's MSER-5. At most half is cut; None when all of that would be, or for
    less than ten values.

    >>> mser(np.array([9.0, 8.0, 7.0, 8.0, 9.0] + [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 4.0, 3.0, 2.0, 1.0] * 20))
    5
    """
    n = len(values) // BATCH
    if n < 2:
        return None
    means = values[: n * BATCH].reshape(n, BATCH).mean(axis=1)
    left = np.arange(n, 0, -1)  # batches left when the first 0, 1, … are cut
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    error = (squares - sums**2 / left) / left**2
    cut = int(np.argmin(error[: n // 2 + 1]))
    return None if cut == n // 2 else cut * BATCH
