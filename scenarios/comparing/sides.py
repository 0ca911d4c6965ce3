"""The two sides of a comparison: the tables of a folder, and the rows of both that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.records.tables import SCHEMAS, Tables
from twin.records.validity import check_table, check_tables

__all__ = ["Pairs", "pair", "read_side", "read_table"]

_OF_REQUEST = ["replication", "request_id"]
_OF_LEG = [*_OF_REQUEST, "expert"]
_ALIKE_S = 0.001  # instants of one request are no farther apart on two sides, whatever its file rounds to
_LEVELS = np.array([1, 2, 4, 8, 16])
_LEVEL_NAMES = np.array(["0", "1", "2-3", "4-7", "8-15", "16+"], dtype=object)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Requests and legs that both sides have, and what only one of them has.

    `requests` and `legs` have the columns of both tables, ending in `_real` and `_twin`, and `level`: how many other
    legs were at the same expert, measured, when it arrived (of a request: the most that one of its legs met); those
    that were rejected or failed are not counted, as no table tells when they left. They are in the order of the
    measured arrivals. `real` and `twin` are the tables of the replications that both have.
    """

    real: Tables
    twin: Tables
    requests: pd.DataFrame
    legs: pd.DataFrame
    notes: tuple[str, ...]


def read_side(folder: Path, role: str) -> Tables:
    """Return the tables in a folder; ValueError naming the role, the file and what is wrong with it."""
    tables = Tables(**{name: _read(folder, name, role) for name in SCHEMAS})
    check_tables(tables, f"{role} {folder}")
    return tables


def read_table(folder: Path, name: str, role: str) -> pd.DataFrame:
    """Return one table in a folder, as it stands in its file; ValueError as of `read_side`."""
    found = _read(folder, name, role)
    check_table(name, found, f"{role} {folder / name}.parquet")
    return found


def _read(folder: Path, name: str, role: str) -> pd.DataFrame:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise ValueError(
            f"{role} {folder}: there is no {path.name}; name a folder that `moe2 run`, `moe2 record` or "
            "`moe2 import` wrote"
        )
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{role} {path}: cannot be read as Parquet ({error})") from None


def pair(real: Tables, twin: Tables) -> Pairs:
    """Return the rows of both sides matched by replication and request id, legs also by expert.

    Of a leg that was tried more than once the last attempt counts. Raises ValueError when nothing matches, and when
    most of what has the same id came at other instants: those are other requests, whatever they are called.
    """
    notes: list[str] = []
    real, twin = _same_replications(real, twin, notes)
    real, twin = _same_kind_of_ids(real, twin)
    requests = _merged(real.requests, twin.requests, _OF_REQUEST, "requests", notes)
    if requests.empty:
        raise ValueError(
            f"no request of one side is on the other: request ids of the first begin {_first_ids(real)}, of the second "
            f"{_first_ids(twin)}; compare runs of the same requests (`moe2 run --trace` replays a recorded run)"
        )
    _check_same_requests(requests, notes)
    legs = _merged(_last_attempts(real.legs), _last_attempts(twin.legs), _OF_LEG, "legs", notes)
    legs["level"] = level_names(_others_at_expert(legs))
    met = legs.assign(met=_others_at_expert(legs)).groupby(_OF_REQUEST)["met"].max()
    of_request = met.reindex(pd.MultiIndex.from_frame(requests[_OF_REQUEST])).to_numpy(dtype=np.float64)
    requests["level"] = level_names(of_request)
    return Pairs(real=real, twin=twin, requests=requests, legs=legs, notes=tuple(notes))


def _check_same_requests(requests: pd.DataFrame, notes: list[str]) -> None:
    """Raise ValueError where most arrive at other instants on one clock for all of a replication; note a few."""
    apart_s = requests["arrived_s_real"] - requests["arrived_s_twin"]
    other = (apart_s - apart_s.groupby(requests["replication"]).transform("median")).abs() > _ALIKE_S
    if not other.any():
        return
    told = f"{int(other.sum())} of {len(other)} requests arrive at other instants on the two sides"
    if other.mean() <= 0.5:
        notes.append(told)
        return
    first = requests[other].iloc[0]
    raise ValueError(
        f"{told} (request {first['request_id']} at {first['arrived_s_real']:.4g} s and "
        f"{first['arrived_s_twin']:.4g} s): they are others by the same ids; compare runs of one scenario, seed and "
        "speed (`moe2 run --trace` replays a recorded run)"
    )


def level_names(others: NDArray[np.float64]) -> NDArray[np.object_]:
    """Return the name of each load level; None where it is not known.

    >>> level_names(np.array([0, 3, 40, np.nan])).tolist()
    ['0', '2-3', '16+', None]
    """
    known = np.isfinite(others)
    names: NDArray[np.object_] = _LEVEL_NAMES[np.searchsorted(_LEVELS, np.where(known, others, 0), side="right")]
    names[~known] = None
    return names


def _same_replications(real: Tables, twin: Tables, notes: list[str]) -> tuple[Tables, Tables]:
    both = np.intersect1d(real.requests["replication"], twin.requests["replication"])
    for side, tables in (("REAL", real), ("TWIN", twin)):
        alone = np.setdiff1d(tables.requests["replication"], both)
        if len(alone):
            notes.append(f"replications that only {side} has are left out: {', '.join(map(str, alone.tolist()))}")
    return _only(real, both), _only(twin, both)


def _only(tables: Tables, replications: NDArray[np.generic]) -> Tables:
    frames = {name: getattr(tables, name) for name in SCHEMAS}
    return Tables(**{name: f[f["replication"].isin(replications)].reset_index(drop=True) for name, f in frames.items()})


def _same_kind_of_ids(real: Tables, twin: Tables) -> tuple[Tables, Tables]:
    """Ids that are integers on one side and text on the other are compared as text."""
    if real.requests["request_id"].dtype == twin.requests["request_id"].dtype:
        return real, twin
    return _texts(real), _texts(twin)


def _texts(tables: Tables) -> Tables:
    frames = {name: getattr(tables, name) for name in SCHEMAS}
    as_text = {
        n: f.astype({"request_id": str}).astype({"request_id": object}) for n, f in frames.items() if n != "devices"
    }
    return Tables(**{**frames, **as_text})


def _merged(real: pd.DataFrame, twin: pd.DataFrame, keys: list[str], what: str, notes: list[str]) -> pd.DataFrame:
    for side, frame in (("REAL", real), ("TWIN", twin)):
        if frame.duplicated(keys).any():
            first = frame[frame.duplicated(keys)].iloc[0]
            raise ValueError(f"{side}: {what} table has {', '.join(f'{k} {first[k]}' for k in keys)} more than once")
    both = real.merge(twin, on=keys, how="outer", suffixes=("_real", "_twin"), indicator="side")
    for side, name in (("left_only", "REAL"), ("right_only", "TWIN")):
        if alone := int((both["side"] == side).sum()):
            notes.append(f"{alone} {what} are only in {name} and are not compared one by one")
    matched = both[both["side"] == "both"].drop(columns="side")
    return matched.sort_values(["replication", "arrived_s_real"], kind="stable").reset_index(drop=True)


def _last_attempts(legs: pd.DataFrame) -> pd.DataFrame:
    if (legs["attempt"] == 1).all():
        return legs
    return legs.sort_values("attempt", kind="stable").drop_duplicates(_OF_LEG, keep="last").sort_index()


def _others_at_expert(legs: pd.DataFrame) -> NDArray[np.float64]:
    """Return how many other legs each met at its expert (n,): arrived before it and not finished; NaN if unknown."""
    found = np.full(len(legs), np.nan)
    stayed = legs["status_real"].isin(["served", "unfinished"]).to_numpy()
    for rows in legs.groupby(["replication", "expert"]).indices.values():
        arrived_s = legs["arrived_s_real"].to_numpy(dtype=np.float64)[rows]
        there = rows[stayed[rows]]
        left_s = np.sort(legs["finished_s_real"].to_numpy(dtype=np.float64)[there])  # NaN last: never leaves
        before = np.searchsorted(np.sort(arrived_s[stayed[rows]]), arrived_s, side="left")
        found[rows] = np.where(np.isnan(arrived_s), np.nan, before - np.searchsorted(left_s, arrived_s, side="right"))
    return np.asarray(np.maximum(found, 0.0))


def _first_ids(tables: Tables) -> str:
    return ", ".join(map(str, tables.requests["request_id"].head(3).tolist())) or "(none)"
