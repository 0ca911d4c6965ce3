"""A recorded run played again: its arrivals, lengths and routing, so that only the servers are simulated.

Every leg arrives at its server when the record says that it did: the network up to there, retries and lateness
included, is the record's own, and so is the way of the answer back to the user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.files.complaints import near
from twin.records.tables import SCHEMAS, Tables, read_tables
from twin.records.validity import check_tables
from twin.users.load import Legs, Requests, ranks

__all__ = ["Replay", "Replayed", "read_replay"]

_EPOCH_S = 1e8  # no run lasts three years: such instants count from 1970
_NOT_SIMULATED = "not simulated: the record has no arrival or no lengths of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One recorded replication: its tables, and its legs as a load in which every leg is a request of its own.

    `rows` (n simulated legs) are the places of these in the recorded legs.
    """

    replication: int
    recorded: Tables
    rows: NDArray[np.intp]
    requests: Requests
    legs: Legs

    def tables(self, simulated: Tables) -> Tables:
        """Return the run as tables like the record's: simulated legs and devices, requests joined from their legs."""
        legs = self.recorded.legs.copy()
        legs[["started_s", "first_token_s", "finished_s", "energy_j"]] = np.nan
        legs["reason"] = legs["reason"].astype(object).where(legs["reason"].notna(), _NOT_SIMULATED)
        for column in ("started_s", "first_token_s", "finished_s", "energy_j", "status", "reason"):
            values = legs[column].to_numpy(copy=True)
            values[self.rows] = simulated.legs[column].to_numpy()
            legs[column] = values
        devices = simulated.devices.assign(replication=self.replication)
        return Tables(requests=self._requests(legs), legs=legs, devices=devices)

    def _requests(self, legs: pd.DataFrame) -> pd.DataFrame:
        requests = self.recorded.requests.copy()
        ids = requests["request_id"]
        was_served = requests["status"] == "served"
        back_s = requests["finished_s"] - _ready_s(self.recorded.legs, ids)
        ready_s = _ready_s(legs, ids)
        status = _joined_status(legs, ids)
        # what was not answered has no recorded way back: the median of those that were
        known_s = back_s.where(was_served).fillna(back_s[was_served].median() if was_served.any() else 0.0)
        finished_s = np.where(status == "served", ready_s + known_s, np.nan)
        answered = was_served.to_numpy() & (status == "served")
        return requests.assign(
            finished_s=finished_s,
            status=status,
            energy_j=_by_request(legs, ids, "energy_j", "sum"),
            answer=requests["answer"].astype(object).mask(~answered),
            correct=requests["correct"].astype("boolean").mask(~answered),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A recorded run, ready to be simulated: its replications, and the experts that it had, by their indices."""

    path: Path
    sha256: dict[str, str]
    kept: tuple[int, ...]
    replications: tuple[Replayed, ...]


def read_replay(path: Path, *, experts: Sequence[str], devices: Sequence[str], duration_s: float) -> Replay:
    """Return the run recorded in a folder, for the scenario's experts; those on devices not in the record are off.

    Raises one ValueError for a folder without tables, an expert that the scenario does not have or has on another
    device, and a request that arrives after `duration_s`.
    """
    tables = _read(path)
    used = set(tables.devices["device"])
    kept = tuple(i for i, device in enumerate(devices) if device in used)
    _check_experts(path, tables.legs, dict(zip(experts, devices, strict=True)))
    last_s = float(tables.requests["arrived_s"].max())
    if not last_s < duration_s:
        raise ValueError(
            f"{path}: its last request arrives at {last_s:g} s, not before duration_s = {duration_s:g}; "
            f"{'its instants must count from its start' if last_s > _EPOCH_S else 'raise it with --set duration_s=…'}"
        )
    places = {experts[i]: n for n, i in enumerate(kept)}
    numbers = np.unique(tables.requests["replication"]).tolist()
    return Replay(
        path=path,
        sha256={f"{name}.parquet": _sha256(path / f"{name}.parquet") for name in SCHEMAS},
        kept=kept,
        replications=tuple(_replayed(path, tables, number, places) for number in numbers),
    )


def _read(path: Path) -> Tables:
    if path.is_file():
        raise ValueError(
            f"{path}: is a file, and a recorded run is a folder, of `moe2 record`, `moe2 run` or `moe2 import` (which "
            "makes one of a result of vLLM's `bench serve`)"
        )
    try:
        tables = read_tables(path)
    except (OSError, ValueError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ValueError(
            f"{path}: cannot be read as a recorded run ({why}); it needs {', '.join(f'{n}.parquet' for n in SCHEMAS)}"
        ) from None
    if tables.legs.empty or tables.requests.empty:
        raise ValueError(f"{path}: nothing is recorded there: no request has a leg")
    check_tables(tables, str(path))
    return tables


def _check_experts(path: Path, legs: pd.DataFrame, devices: dict[str, str]) -> None:
    for expert, device in legs[["expert", "device"]].drop_duplicates().itertuples(index=False):
        if expert not in devices:
            known = ", ".join(devices)
            raise ValueError(
                f"{path}: it has legs on the expert {expert!r}, the scenario has none of that name"
                f"{near(expert, devices)}; its experts: {known}"
            )
        if devices[expert] != device:
            raise ValueError(
                f"{path}: expert {expert!r} ran on the device {device!r}, the scenario has it on {devices[expert]!r}"
            )


def _replayed(path: Path, tables: Tables, replication: int, places: dict[str, int]) -> Replayed:
    frames = {name: getattr(tables, name) for name in SCHEMAS}
    own = Tables(**{n: f[f["replication"] == replication].reset_index(drop=True) for n, f in frames.items()})
    legs = own.legs
    if legs.duplicated(["request_id", "expert", "attempt"]).any():
        raise ValueError(f"{path}: replication {replication} has a leg twice")
    able = legs["arrived_s"].notna() & (legs["prompt_tokens"].fillna(0) >= 1) & (legs["output_tokens"].fillna(0) >= 1)
    rows = np.flatnonzero(able.to_numpy(dtype=np.bool_))
    if not len(rows):
        raise ValueError(f"{path}: no leg of replication {replication} has an arrival and lengths; nothing to replay")
    arrived_s = legs["arrived_s"].to_numpy(dtype=np.float64)[rows]
    names = legs["expert"].to_numpy(dtype=object)[rows]
    rank = ranks(legs["request_id"].to_numpy())[rows]
    order = np.lexsort((np.array([places[name] for name in names]), rank, arrived_s))
    rows = rows[order]
    one = legs.iloc[rows]
    return Replayed(
        replication=replication,
        recorded=own,
        rows=rows,
        requests=_requests_of(one),
        legs=_legs_of(one, places),
    )


def _requests_of(legs: pd.DataFrame) -> Requests:
    n = len(legs)
    return Requests(
        request_id=legs["request_id"].to_numpy(),
        user_id=np.full(n, -1, dtype=np.int64),
        prompt=np.full(n, -1, dtype=np.intp),
        category=np.full(n, "", dtype=object),
        arrived_s=legs["arrived_s"].to_numpy(dtype=np.float64),
        prompt_tokens=legs["prompt_tokens"].to_numpy(dtype=np.int64),
        output_tokens=legs["output_tokens"].to_numpy(dtype=np.int64),
    )


def _legs_of(legs: pd.DataFrame, places: dict[str, int]) -> Legs:
    return Legs(
        request=np.arange(len(legs), dtype=np.intp),
        expert=np.array([places[name] for name in legs["expert"]], dtype=np.intp),
        weight=legs["weight"].to_numpy(dtype=np.float64),
        prompt_tokens=legs["prompt_tokens"].to_numpy(dtype=np.int64),
        output_tokens=legs["output_tokens"].to_numpy(dtype=np.int64),
    )


def _last_attempts(legs: pd.DataFrame) -> pd.DataFrame:
    return legs.sort_values("attempt", kind="stable").drop_duplicates(["request_id", "expert"], keep="last")


def _ready_s(legs: pd.DataFrame, ids: pd.Series) -> pd.Series:
    """Return when the last leg of each request was finished (n,); NaN when one never was."""
    return _by_request(legs, ids, "finished_s", "max")


def _by_request(legs: pd.DataFrame, ids: pd.Series, column: str, how: str) -> pd.Series:
    """Return the maximum or sum over a request's legs in the order of `ids` (n,); NaN when one of them is."""
    last = legs if how == "sum" else _last_attempts(legs)
    groups = last.groupby("request_id")[column]
    found = groups.agg(how).where(groups.count() == groups.size())
    return found.reindex(ids).reset_index(drop=True)


def _joined_status(legs: pd.DataFrame, ids: pd.Series) -> NDArray[np.object_]:
    """Return what became of each request (n,): served when all its legs are, else rejected, failed or unfinished."""
    found = pd.Series("served", index=pd.Index(ids), dtype=object)
    last = _last_attempts(legs)
    for status in ("unfinished", "failed", "rejected"):
        found.loc[last.loc[last["status"] == status, "request_id"].unique()] = status
    return found.to_numpy(dtype=object)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
