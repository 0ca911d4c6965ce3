"""Which experts cannot keep up: their backlog grows for as long as load comes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.records.metrics import replications

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
    growth: dict[str, list[float]] = {}
    for _, run in replications(legs):
        arrived_s, finished_s = (run[column].to_numpy(float) for column in ("arrived_s", "finished_s"))
        # Legs without an end that were refused or lost are not in the backlog; those that nobody waits for are.
        stayed = ~(run["status"].isin(["rejected", "failed"]).to_numpy() & np.isnan(finished_s))
        codes, names = pd.factorize(run["expert"])
        order = np.argsort(codes.astype(np.min_scalar_type(-len(names) - 1)), kind="stable")  # by their digits
        order = order if stayed.all() else order[stayed[order]]
        edges = np.searchsorted(codes[order], np.arange(len(names) + 1)).tolist()
        for name, (start, end) in zip(names, itertools.pairwise(edges), strict=True):
            mine = order[start:end]
            share = _share(arrived_s[mine], finished_s[mine], duration_s)
            growth.setdefault(str(name), []).extend([] if share is None else [share])
    return {name: float(np.mean(s)) for name, s in growth.items() if len(s) and _lower_bound(s) > LEAST}


def unstable_share(requests: pd.DataFrame, legs: pd.DataFrame, unstable: Sequence[str]) -> float:
    """Return the share of these requests that have a leg on an unstable expert."""
    if not unstable or not len(requests):
        return 0.0
    key = ["replication", "request_id"]
    hit = legs.loc[legs["expert"].isin(unstable), key].drop_duplicates()
    return len(requests[key].merge(hit, on=key)) / len(requests)


def _share(arrived_s: NDArray[np.float64], finished_s: NDArray[np.float64], duration_s: float) -> float | None:
    """Return the growth of the backlog in a run as a share of the legs that came and stayed; None of too few."""
    third_s = duration_s / 3
    n_between = np.count_nonzero((arrived_s >= 1.5 * third_s) & (arrived_s < 2.5 * third_s))
    if n_between < FEWEST:
        return None
    left_s = np.where(np.isnan(finished_s), math.inf, finished_s)
    before = _mean_present(arrived_s, left_s, third_s, 2 * third_s)
    after = _mean_present(arrived_s, left_s, 2 * third_s, 3 * third_s)
    return (after - before) / n_between


def _mean_present(arrived_s: NDArray[np.float64], left_s: NDArray[np.float64], start_s: float, end_s: float) -> float:
    stay_s = np.minimum(left_s, end_s) - np.maximum(arrived_s, start_s)
    return float(np.maximum(stay_s, 0.0).sum()) / (end_s - start_s)


def _lower_bound(shares: Sequence[float]) -> float:
    x = np.asarray(shares)
    if len(x) == 1:
        return float(x[0])
    from scipy.special import stdtrit  # noqa: PLC0415 - a third of a second to load, and one run needs none

    return float(x.mean() - stdtrit(len(x) - 1, SURE) * x.std(ddof=1) / math.sqrt(len(x)))
