"""How far two runs are apart: one row per scope, quantity and statistic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance

from scenarios.comparing.resampling import interval, relative_error, spreads_of
from scenarios.comparing.sides import Pairs
from twin.records.metrics import PERCENTILES, energy_per_request_j, unmetered_devices
from twin.records.tables import Tables

__all__ = ["COUNTS", "OF_LEGS", "OF_REQUESTS", "OF_RUNS", "STATISTICS", "differences"]

Floats = NDArray[np.float64]

STATISTICS = ("mean", *(f"p{p}" for p in PERCENTILES), "ks", "wasserstein", "per_request")
OF_LEGS = ("ttft", "tpot", "leg")
OF_REQUESTS = ("e2e", "energy")
OF_RUNS = {"throughput": ("requests_per_s", "output_tokens_per_s"), "energy_total": ("per_request", "per_device")}
COUNTS = ("counts", "leg_counts")
UNITS = {"ttft": "s", "tpot": "s", "leg": "s", "e2e": "s", "energy": "J", "energy_total": "J", "throughput": "1/s"}
_COLUMNS = ("scope", "group", "quantity", "statistic", "n", "real", "twin", "difference", "low", "high", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """One quantity of the matched rows, in the order of arrival: measured, simulated, replication; (n,)."""

    quantity: str
    real: Floats
    twin: Floats
    runs: NDArray[np.generic]
    missing: str  # why nothing is known, '' when something is


def differences(pairs: Pairs) -> pd.DataFrame:
    """Return the differences overall, by expert and by load level.

    `difference` is relative, twin / real - 1, for means, percentiles, throughput and energy; the Kolmogorov–Smirnov
    distance for `ks`; the Wasserstein distance over the measured mean for `wasserstein`; the median of the requests'
    absolute relative errors for `per_request`; twin - real for counts. `low` and `high` are its 90 % interval. All
    are of requests that both sides have; where one side does not know a figure, it is NaN and `note` says so.
    """
    rows: list[dict[str, object]] = []
    for scope, group, requests, legs in _scopes(pairs):
        for values in _quantities(requests, legs):
            rows += _compared(values, scope, group)
    rows += [*_counts(pairs), *_runs(pairs)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _scopes(pairs: Pairs) -> Iterator[tuple[str, str, pd.DataFrame | None, pd.DataFrame]]:
    yield "overall", "", pairs.requests, pairs.legs
    for expert, legs in pairs.legs.groupby("expert"):
        yield "by_expert", str(expert), None, legs
    by_level = {str(level): legs for level, legs in pairs.legs.groupby("level")}
    for level in sorted(by_level, key=lambda name: int(name.rstrip("+").split("-")[0])):
        yield "by_load", level, pairs.requests[pairs.requests["level"] == level], by_level[level]


def _quantities(requests: pd.DataFrame | None, legs: pd.DataFrame) -> Iterator[_Values]:
    arrived, first, finished = "arrived_s", "first_token_s", "finished_s"
    yield _of(legs, "ttft", lambda side: _column(legs, first, side) - _column(legs, arrived, side))
    yield _of(legs, "tpot", lambda side: _tpot_s(legs, side))
    yield _of(legs, "leg", lambda side: _column(legs, finished, side) - _column(legs, arrived, side))
    if requests is None:
        return
    yield _of(
        requests, "e2e", lambda side: _column(requests, finished, side) - _column(requests, arrived, side), unserved=inf
    )
    yield _of(requests, "energy", lambda side: _column(requests, "energy_j", side))


def _of(frame: pd.DataFrame, quantity: str, values: Callable[[str], Floats], *, unserved: float = nan) -> _Values:
    """Return a quantity of both sides; what was not served is `unserved`, and unknown for the whole pair if NaN."""
    sides = {s: np.where(frame[f"status_{s}"] == "served", values(s), unserved) for s in ("real", "twin")}
    unknown = [s.upper() for s, found in sides.items() if len(found) and np.isnan(found).all()]
    known = ~(np.isnan(sides["real"]) | np.isnan(sides["twin"]))
    missing = f"not known on {' and '.join(unknown)}" if unknown else "" if known.any() else "no pair knows it"
    return _Values(
        quantity=quantity,
        real=sides["real"][known],
        twin=sides["twin"][known],
        runs=frame["replication"].to_numpy()[known],
        missing=missing,
    )


def _tpot_s(legs: pd.DataFrame, side: str) -> Floats:
    """Return seconds per output token after the first; NaN with one token."""
    after = _column(legs, "output_tokens", side) - 1
    spent_s = _column(legs, "finished_s", side) - _column(legs, "first_token_s", side)
    return np.asarray(spent_s / np.where(after > 0, after, nan))


def _column(frame: pd.DataFrame, name: str, side: str) -> Floats:
    return np.asarray(frame[f"{name}_{side}"].to_numpy(dtype=np.float64, na_value=np.nan))


def _compared(values: _Values, scope: str, group: str) -> list[dict[str, object]]:

    def row(statistic: str, **found: Any) -> dict[str, object]:
        return _row(
            scope=scope, group=group, quantity=values.quantity, n=len(values.real), statistic=statistic, **found
        )

    if values.missing:
        return [row(name, note=values.missing) for name in STATISTICS]
    real, twin = values.real, values.twin
    found, (measured, simulated) = interval(real, twin, values.runs), spreads_of(real, twin)
    rows = [
        row(name, real=measured[name], twin=simulated[name], low=found.low[name], high=found.high[name])
        for name in measured
    ]
    rows[0]["note"] = found.method
    finite = np.isfinite(real) & np.isfinite(twin)
    # the distance is the same by every method; the asymptotic one warns of a single value, the exact one of many
    ks = float(ks_2samp(real, twin, method="exact" if len(real) == 1 else "asymp").statistic)
    rows.append(row("ks", difference=ks))
    if not finite.any():
        return [*rows, *(row(s, note="none was served on both sides") for s in STATISTICS[-2:])]
    mean = float(real[finite].mean())
    moved = wasserstein_distance(real[finite], twin[finite])
    rows.append(row("wasserstein", difference=float(moved) / mean if mean else nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(twin[finite] / real[finite] - 1.0)
    rows.append(row("per_request", difference=float(np.median(errors))))
    return rows


def _counts(pairs: Pairs) -> Iterator[dict[str, object]]:
    """Yield the number of requests and of legs in every status, by replication so that none makes up for another."""
    tables = (("counts", pairs.real.requests, pairs.twin.requests), ("leg_counts", pairs.real.legs, pairs.twin.legs))
    for quantity, real, twin in tables:
        sides = [frame.groupby(["status", "replication"]).size() for frame in (real, twin)]
        counted = pd.concat(sides, axis=1, keys=["real", "twin"]).fillna(0).astype(int)  # no such row: there are 0
        for status, group in counted.groupby(level="status"):
            apart = int((group["twin"] - group["real"]).abs().sum())
            r, t = int(group["real"].sum()), int(group["twin"].sum())
            note = f"{apart} apart when counted by replication" if apart != abs(t - r) else ""
            difference = float(apart if note else t - r)
            yield _row(
                scope="overall",
                quantity=quantity,
                statistic=str(status),
                n=r,
                real=r,
                twin=t,
                difference=difference,
                note=note,
            )


def _runs(pairs: Pairs) -> Iterator[dict[str, object]]:
    for name, of_run in (("requests_per_s", _requests_per_s), ("output_tokens_per_s", _tokens_per_s)):
        real, twin = of_run(pairs.real), of_run(pairs.twin)
        yield _row(scope="overall", quantity="throughput", statistic=name, real=real, twin=twin)
    real_j, twin_j = (energy_per_request_j(t.requests, t.devices) for t in (pairs.real, pairs.twin))
    unknown = [
        f"{side} does not know the energy of {', '.join(unmetered_devices(t.devices))}"
        for side, t, found in (("REAL", pairs.real, real_j), ("TWIN", pairs.twin, twin_j))
        if found is None
    ]
    known = nan if real_j is None else real_j, nan if twin_j is None else twin_j

    def row(statistic: str, **found: Any) -> dict[str, object]:
        return _row(scope="overall", quantity="energy_total", statistic=statistic, **found)

    yield row("per_request", real=known[0], twin=known[1], note="; ".join(unknown))
    sums = [t.devices.groupby("device")["energy_j"].apply(_whole_sum) for t in (pairs.real, pairs.twin)]
    for device, (r, t) in pd.concat(sums, axis=1, keys=["real", "twin"]).iterrows():
        sides = " and ".join(s for s, j in (("REAL", r), ("TWIN", t)) if np.isnan(j))
        note = f"not known on {sides}" if sides else ""
        yield row("per_device", group=str(device), real=float(r), twin=float(t), note=note)


def _whole_sum(values: pd.Series[float]) -> float:
    return float(values.sum(skipna=False))


def _requests_per_s(tables: Tables) -> float:
    return _per_s(tables, tables.requests.assign(n=1))


def _tokens_per_s(tables: Tables) -> float:
    return _per_s(tables, tables.legs.assign(n=tables.legs["output_tokens"].astype(float)))


def _per_s(tables: Tables, counted: pd.DataFrame) -> float:
    """Return what was served per second, from the first arrival to the last answer, over all replications."""
    by_run = tables.requests.groupby("replication")
    seconds = float((by_run["finished_s"].max() - by_run["arrived_s"].min()).sum())
    served = float(counted.loc[counted["status"] == "served", "n"].sum())
    return served / seconds if seconds > 0 else nan


def _row(
    *,
    scope: str,
    quantity: str,
    statistic: str,
    group: str = "",
    n: int = 0,
    real: float = nan,
    twin: float = nan,
    difference: float | None = None,
    low: float = nan,
    high: float = nan,
    note: str = "",
) -> dict[str, object]:
    """Return one row; without a `difference` it is the relative error."""
    found = relative_error(real, twin) if difference is None else difference
    values = (scope, group, quantity, statistic, n, real, twin, found, low, high, note)
    return dict(zip(_COLUMNS, values, strict=True))
