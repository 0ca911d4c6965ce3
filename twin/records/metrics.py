"""The metrics, each defined once, as functions of the tables of a run or of several, measured or simulated.

Delay, served share and accuracy are those of the requests that they are given: take `after_warmup` first.
Energy is that of whole runs: a device's joules cannot be split at an instant.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, inf, nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PERCENTILES = (50, 95, 99)
MEASURED = ("arrived_s", "finished_s", "correct", "status")
"""Columns of a requests table that `request_metrics` reads."""
SHARES = ("served_share", "accuracy", "busiest_utilisation")
"""Metrics that are shares of one."""


def replications(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield each replication's number and rows, in order; rows that stand together are not copied."""
    number = table["replication"].to_numpy()
    steps = np.flatnonzero(np.diff(number))
    if np.any(number[steps + 1] < number[steps]):
        table = table.sort_values("replication", kind="stable")
        yield from replications(table)
        return
    edges = [0, *(steps + 1).tolist(), len(number)]
    for start, end in pairwise(edges):
        if end > start:
            yield int(number[start]), table.iloc[start:end]


def after_warmup(requests: pd.DataFrame, warmup_s: float) -> pd.DataFrame:
    """Return the requests that arrive at `warmup_s` or later."""
    late = requests["arrived_s"] >= warmup_s
    return requests if late.all() else requests[late]


def delays_s(requests: pd.DataFrame) -> NDArray[np.float64]:
    """Return the seconds from each request's arrival to its answer at the user; +inf where none came."""
    lasted_s = (requests["finished_s"] - requests["arrived_s"]).to_numpy(dtype=np.float64)
    return np.where(_served(requests), lasted_s, inf)


def percentile(values: NDArray[np.float64], percent: int) -> float:
    """Return the smallest value that at least `percent` of 100 values do not exceed; NaN of nothing.

    It is one of the values, never between two, so infinite ones do no harm (the nearest-rank definition).

    >>> percentile(np.array([3.0, 1.0, inf, 2.0]), 75), percentile(np.array([3.0, 1.0, inf, 2.0]), 76)
    (3.0, inf)
    """
    return _percentile(np.sort(values), percent)


def _percentile(in_order: NDArray[np.float64], percent: int) -> float:
    if not 0 < percent <= 100:
        raise ValueError(f"percentile {percent}: must be above 0 and at most 100")
    if len(in_order) == 0:
        return nan
    return float(in_order[ceil(percent * len(in_order) / 100) - 1])


def mean_delay_s(requests: pd.DataFrame) -> float:
    """Return the mean delay of the served requests in seconds; NaN when none was. Read `served_share` beside it."""
    served_s = delays_s(requests)[_served(requests)]
    return float(served_s.mean()) if len(served_s) else nan


def delay_percentile_s(requests: pd.DataFrame, percent: int) -> float:
    """Return a percentile of the delay of all requests, those without an answer counted as +inf."""
    return percentile(delays_s(requests), percent)


def served_share(requests: pd.DataFrame) -> float:
    """Return the share of requests that were served; NaN of none."""
    return float(_served(requests).mean()) if len(requests) else nan


def accuracy(requests: pd.DataFrame) -> float:
    """Return the share of right answers among served requests whose correctness is known; NaN of none."""
    return _mean_known(_right(requests))


def energy_per_request_j(requests: pd.DataFrame, devices: pd.DataFrame) -> float | None:
    """Return the joules of all devices, idle included, over the requests served, warm-up and drain included.

    None when a device's energy is unknown (`unmetered_devices` names them); +inf when nothing was served.
    """
    if unmetered_devices(devices):
        return None
    return _per_request(float(devices["energy_j"].sum()), requests)


def leg_energy_per_request_j(requests: pd.DataFrame) -> float | None:
    """Return the joules that all legs took, served or not, over the requests served; None when one is unknown."""
    if requests["energy_j"].isna().any():
        return None
    return _per_request(float(requests["energy_j"].sum()), requests)


def unmetered_devices(devices: pd.DataFrame) -> list[str]:
    """Return the devices with an energy that is not known, sorted."""
    return sorted(devices.loc[devices["energy_j"].isna(), "device"].unique().tolist())


def by_category(requests: pd.DataFrame) -> pd.DataFrame:
    """Return one row per category, sorted, with its number of requests, delays, served share and accuracy."""
    groups = requests[["category", *MEASURED]].groupby("category", observed=True)
    rows = [{"category": name, **request_metrics(group)} for name, group in groups]
    return pd.DataFrame(rows, columns=["category", *_request_columns()])


def request_metrics(requests: pd.DataFrame) -> dict[str, float]:
    """Return what is measured of a set of requests: number, delays, served share, accuracy."""
    return _metrics(delays_s(requests), _right(requests))


def category_metrics(requests: pd.DataFrame) -> dict[str, dict[int, dict[str, float]]]:
    """Return `request_metrics` of each category, sorted, in each of the replications in which it has requests."""
    kind = requests["category"].astype("category").cat
    codes, numbers = kind.codes.to_numpy(), requests["replication"].to_numpy()
    order = np.lexsort((numbers, codes))
    columns = delays_s(requests)[order], _right(requests)[order]
    codes, numbers = codes[order], numbers[order]
    starts = np.flatnonzero((np.diff(codes, prepend=-2) != 0) | (np.diff(numbers, prepend=-1) != 0))
    found: dict[str, dict[int, dict[str, float]]] = {}
    for start, end in pairwise([*starts.tolist(), len(order)]):
        if codes[start] >= 0:  # it has a category
            metrics = _metrics(*(column[start:end] for column in columns))
            found.setdefault(str(kind.categories[codes[start]]), {})[int(numbers[start])] = metrics
    return found


def _metrics(delay_s: NDArray[np.float64], right: NDArray[np.float64]) -> dict[str, float]:
    sorted_s = np.sort(delay_s)
    served_s = sorted_s[: np.searchsorted(sorted_s, inf)]
    delays = {f"delay_p{p}_s": _percentile(sorted_s, p) for p in PERCENTILES}
    return {
        "n_requests": len(delay_s),
        "served_share": len(served_s) / len(delay_s) if len(delay_s) else nan,
        "delay_mean_s": float(served_s.mean()) if len(served_s) else nan,
        **delays,
        "accuracy": _mean_known(right),
    }


def busiest(devices: pd.DataFrame) -> dict[str, float]:
    """Return the utilisation of each device over all runs together, the busiest first."""
    sums = devices.groupby("device", sort=False)[["busy_s", "idle_s"]].sum()
    shares = sums["busy_s"] / (sums["busy_s"] + sums["idle_s"])
    return {str(name): float(share) for name, share in shares.sort_values(ascending=False, kind="stable").items()}


def by_device(devices: pd.DataFrame, legs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per device, in their order: legs served, seconds, joules and utilisation over all runs.

    `energy_j_per_leg` is the device's whole energy over its served legs, NaN without any; unknown joules stay NaN.
    """
    columns = ["busy_s", "idle_s", "busy_energy_j", "idle_energy_j", "overhead_energy_j", "energy_j"]
    groups = devices.groupby("device", sort=False)
    table = pd.DataFrame({name: groups[name].apply(lambda x: x.sum(skipna=False)) for name in columns})
    table["utilisation"] = table["busy_s"] / (table["busy_s"] + table["idle_s"])
    served = legs["device"][legs["status"] == "served"].value_counts().to_dict()
    table.insert(0, "n_legs", [int(served.get(device, 0)) for device in table.index])
    table["energy_j_per_leg"] = table["energy_j"] / table["n_legs"].where(table["n_legs"] > 0)
    return table.reset_index()


def _served(requests: pd.DataFrame) -> NDArray[np.bool_]:
    return (requests["status"] == "served").to_numpy(dtype=np.bool_)


def _right(requests: pd.DataFrame) -> NDArray[np.float64]:
    """Return 1 for a right answer, 0 for a wrong one, NaN where it is not known (n,)."""
    return requests["correct"].to_numpy(dtype=np.float64, na_value=nan)


def _mean_known(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else nan


def _per_request(energy_j: float, requests: pd.DataFrame) -> float:
    n_served = int(_served(requests).sum())
    return energy_j / n_served if n_served else inf


def _request_columns() -> list[str]:
    return ["n_requests", "served_share", "delay_mean_s", *(f"delay_p{p}_s" for p in PERCENTILES), "accuracy"]
