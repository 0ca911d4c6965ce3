"""The tables that a run with a radio leaves beside the others: its handovers, and what each access point carried."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from twin.radio.record import RadioRecord, Transfers
from twin.records.metrics import mean_delay_s

_TEXT, _INTEGER, _NUMBER = pa.string(), pa.int64(), pa.float64()

RADIO_SCHEMAS = {
    "handovers": {
        "replication": _INTEGER,
        "user_id": _INTEGER,
        "at_s": _NUMBER,
        "from_site": _TEXT,
        "to_site": _TEXT,
    },
    "cells": {
        "replication": _INTEGER,
        "site": _TEXT,
        "x_m": _NUMBER,
        "y_m": _NUMBER,
        "n_prompts": _INTEGER,
        "uplink_mean_s": _NUMBER,
        "n_answers": _INTEGER,
        "downlink_mean_s": _NUMBER,
        "n_waited": _INTEGER,
        "n_never_carried": _INTEGER,
        "n_handovers_in": _INTEGER,
    },
}
"""Columns of each table. Prompts and answers are those carried, with their waits; the mean of none is null.

`n_waited` counts prompts and answers that found no coverage at first, `n_never_carried` those that never found any.
"""


_COUNTS = ("n_prompts", "n_answers", "n_waited", "n_never_carried", "n_handovers_in")


def radio_columns(record: RadioRecord) -> dict[str, dict[str, Any]]:
    """Return the columns of the two tables of one run."""
    return {"handovers": _handovers(record), "cells": _cells(record)}


def radio_metrics(
    cells: pd.DataFrame, handovers: pd.DataFrame, requests: pd.DataFrame, *, n_users: int, duration_s: float
) -> dict[str, float]:
    """Return what the radio cost over whole runs: means over prompts and over answers, and their share of the delay.

    Handovers are per user and hour of the runs' duration. The share is that of both ways in the mean delay of served
    requests; NaN when nothing was carried or served.
    """
    up_s, down_s = (_mean(cells, way) for way in ("uplink", "downlink"))
    hours = n_users * duration_s / 3600 * cells["replication"].nunique()
    return {
        "handovers": len(handovers),
        "handovers_per_user_hour": len(handovers) / hours,
        "uplink_mean_s": up_s,
        "downlink_mean_s": down_s,
        "share_of_mean_delay": (up_s + down_s) / mean_delay_s(requests),
        "waited_for_coverage": int(cells["n_waited"].sum()),
        "never_carried": int(cells["n_never_carried"].sum()),
    }


def by_site(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per access point over all runs, in their order, with the columns of the table of cells."""
    rows = []
    for (site, x_m, y_m), group in cells.groupby(["site", "x_m", "y_m"], sort=False):
        counts = {name: int(group[name].sum()) for name in _COUNTS}
        means = {f"{way}_mean_s": _mean(group, way) for way in ("uplink", "downlink")}
        rows.append({"site": site, "x_m": x_m, "y_m": y_m, **counts, **means})
    return pd.DataFrame(rows)


def _mean(cells: pd.DataFrame, way: str) -> float:
    n = cells[{"uplink": "n_prompts", "downlink": "n_answers"}[way]].to_numpy(dtype=np.float64)
    means = cells[f"{way}_mean_s"].to_numpy(dtype=np.float64)
    return float(np.sum(n[n > 0] * means[n > 0]) / n.sum()) if n.sum() else float("nan")


def _handovers(record: RadioRecord) -> dict[str, Any]:
    names, found = pd.Index(record.sites.names), record.handovers
    from_codes: Any = pd.Categorical.from_codes  # takes arrays of codes, whatever its types say
    return {
        "user_id": found.user,
        "at_s": found.at_s,
        "from_site": from_codes(found.from_site, categories=names),
        "to_site": from_codes(found.to_site, categories=names),
    }


def _cells(record: RadioRecord) -> dict[str, Any]:
    n = len(record.sites)
    up, down = record.up, record.down
    n_prompts, uplink_mean_s = _carried(up, n)
    n_answers, downlink_mean_s = _carried(down, n)
    return {
        "site": np.array(record.sites.names, dtype=object),
        "x_m": record.sites.x_m,
        "y_m": record.sites.y_m,
        "n_prompts": n_prompts,
        "uplink_mean_s": uplink_mean_s,
        "n_answers": n_answers,
        "downlink_mean_s": downlink_mean_s,
        "n_waited": sum(np.bincount(way.site[way.waited], minlength=n) for way in (up, down)),
        "n_never_carried": sum(np.bincount(way.site[~way.carried], minlength=n) for way in (up, down)),
        "n_handovers_in": np.bincount(record.handovers.to_site, minlength=n),
    }


def _carried(way: Transfers, n_sites: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many transfers each site carried, and their mean seconds, NaN of none."""
    carried = way.carried
    count = np.bincount(way.site[carried], minlength=n_sites)
    seconds = np.bincount(way.site[carried], weights=way.lasted_s[carried], minlength=n_sites)
    return count, np.divide(seconds, count, out=np.full(n_sites, np.nan), where=count > 0)
