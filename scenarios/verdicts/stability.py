"""Which experts cannot keep up: their backlog grows for as long as load comes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = ["growing_backlogs", "unstable_share"]

LEAST = 0.03  # share of the load by which a backlog must grow to count
FEWEST = 20  # legs that must arrive meanwhile for the share to mean anything
SURE = 0.99  # one-sided, over replications


def growing_backlogs(legs: pd.DataFrame, duration_s: float) -> dict[str, float]:
    """Return the experts whose backlog grows, with the share of their load that it grows by.

    The backlog is the mean number of legs at the server in the second third of the arrivals' time and in the last;
    its growth between them is divided by the legs that arrive meanwhile. An expert is unstable when the lower bound
    of that share over the replications (Student's t, 99 %) is above 3 %; with one replication, the share itself.
    """
    stayed = legs.loc[legs["status"] != "rejected", ["replication", "expert", "arrived_s", "finished_s"]]
    growth = {name: _shares(group, duration_s) for name, group in stayed.groupby("expert", sort=False)}
    return {str(name): float(np.mean(s)) for name, s in growth.items() if len(s) and _lower_bound(s) > LEAST}


def unstable_share(requests: pd.DataFrame, legs: pd.DataFrame, unstable: Sequence[str]) -> float:
    """Return the share of these requests that have a leg on an unstable expert."""
    if not unstable or not len(requests):
        return 0.0
    key = ["replication", "request_id"]
    hit = legs.loc[legs["expert"].isin(unstable), key].drop_duplicates()
    return len(requests[key].merge(hit, on=key)) / len(requests)


def _shares(legs: pd.DataFrame, duration_s: float) -> list[float]:
    """Return the growth of the backlog of each replication as a share of the legs that came and stayed."""
    third_s = duration_s / 3
    shares = []
    for _, run in legs.groupby("replication"):
        arrived_s = run["arrived_s"].to_numpy(float)
        left_s = run["finished_s"].fillna(math.inf).to_numpy(float)
        n_between = np.count_nonzero((arrived_s >= 1.5 * third_s) & (arrived_s < 2.5 * third_s))
        if n_between >= FEWEST:
            before = _mean_present(arrived_s, left_s, third_s, 2 * third_s)
            after = _mean_present(arrived_s, left_s, 2 * third_s, 3 * third_s)
            shares.append((after - before) / n_between)
    return shares


def _mean_present(arrived_s: NDArray[np.float64], left_s: NDArray[np.float64], start_s: float, end_s: float) -> float:
    stay_s = np.minimum(left_s, end_s) - np.maximum(arrived_s, start_s)
    return float(np.maximum(stay_s, 0.0).sum()) / (end_s - start_s)


def _lower_bound(shares: Sequence[float]) -> float:
    x = np.asarray(shares)
    if len(x) == 1:
        return float(x[0])
    return float(x.mean() - stdtrit(len(x) - 1, SURE) * x.std(ddof=1) / math.sqrt(len(x)))
