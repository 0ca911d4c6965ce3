"""A run as a trace for Perfetto and chrome://tracing, from its tables.

Every server is a process with an asynchronous span for each leg and, inside it, its phases: queue, prefill, decode; and
with two counters: legs that wait and sequences that run. Requests are spans of a process of their own, handovers
instants of another. Format: the Trace Event Format of the Chromium project, JSON object form; time in microseconds.
Ids are of their process (`id2.local`): Perfetto shows spans with global ids apart from all processes. Spans of a kind
bear one name, because it gives every name a row of its own; whose they are is in `args`.
"""

import json
from collections.abc import Iterator
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.records.tables import Tables

Event = dict[str, Any]

REQUESTS, HANDOVERS, FIRST_SERVER = 1, 2, 10
"""Process numbers; servers count from the last."""


def write_timeline(
    tables: Tables, path: Path, *, replication: int = 0, from_s: float = 0.0, until_s: float = inf
) -> int:
    """Write the trace of what overlaps [from_s, until_s) and return the number of its events.

    It is written event by event. Raises ValueError for a window or a replication in which there is nothing.
    """
    if not 0 <= from_s < until_s:
        raise ValueError(
            f"timeline: from {from_s:g} s until {until_s:g} s; must be a window that begins at 0 s or later"
        )
    n = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for n, event in enumerate(trace_events(tables, replication, from_s, until_s), start=1):
            file.write(("" if n == 1 else ",\n") + json.dumps(event, allow_nan=False))
        file.write("\n]}\n")
    return n


def trace_events(tables: Tables, replication: int, from_s: float, until_s: float) -> Iterator[Event]:
    """Yield the trace's events; a span that reaches out of the window is shown whole."""
    requests, legs = (_of(frame, replication) for frame in (tables.requests, tables.legs))
    if requests.empty:
        known = sorted(tables.requests["replication"].unique().tolist())
        raise ValueError(f"timeline: there is no replication {replication}; there are {known}")
    handovers = None if tables.handovers is None else _of(tables.handovers, replication)
    columns = [requests["arrived_s"], requests["finished_s"], legs["finished_s"]]
    last_s = float(np.nanmax([c.max() for c in (*columns, *([] if handovers is None else [handovers["at_s"]]))]))
    until_s = min(until_s, np.nextafter(last_s, inf))
    if from_s >= until_s:
        raise ValueError(f"timeline: the run's last instant is {last_s:g} s, before {from_s:g} s; begin earlier")
    yield from _request_events(requests, from_s, until_s)
    for pid, row in enumerate(_rows(legs[["expert", "device"]].drop_duplicates()), start=FIRST_SERVER):
        yield _name(pid, f"{row.expert} on {row.device}")
        mine = legs[legs["expert"] == row.expert]
        yield from _leg_events(mine, pid, from_s, until_s)
        yield from _counts(mine, pid, from_s, until_s)
    if handovers is not None:
        yield from _handover_events(handovers, from_s, until_s)


def _request_events(requests: pd.DataFrame, from_s: float, until_s: float) -> Iterator[Event]:
    yield _name(REQUESTS, "requests")
    for row in _rows(_overlapping(requests, from_s, until_s)):
        about = {"request": str(row.request_id), "category": row.category, "status": row.status}
        if not pd.isna(row.user_id):
            about["user"] = int(row.user_id)
        span = {
            "cat": "request",
            "id2": {"local": str(row.request_id)},
            "pid": REQUESTS,
            "tid": 0,
            "name": "request",
        }
        yield {**span, "ph": "b", "ts": _us(row.arrived_s), "args": about}
        yield {**span, "ph": "e", "ts": _us(_end_s(row, row.arrived_s, until_s))}


def _leg_events(legs: pd.DataFrame, pid: int, from_s: float, until_s: float) -> Iterator[Event]:
    for row in _rows(_overlapping(legs, from_s, until_s)):
        span = {"cat": "leg", "id2": {"local": f"{row.request_id}/{row.attempt}"}, "pid": pid, "tid": 0}
        instants = [row.arrived_s, row.started_s, row.first_token_s, row.finished_s]
        reached = [at_s for at_s in instants if not isnan(at_s)]
        end_s = _end_s(row, reached[-1], until_s)
        about = {"request": str(row.request_id), "attempt": int(row.attempt), "status": row.status}
        about |= {"prompt_tokens": int(row.prompt_tokens), "output_tokens": int(row.output_tokens)}
        if isinstance(row.reason, str):
            about["reason"] = row.reason
        yield {**span, "name": "leg", "ph": "b", "ts": _us(reached[0]), "args": about}
        for phase, start_s, stop_s in zip(PHASES, reached, [*reached[1:], end_s], strict=False):
            yield {**span, "name": phase, "ph": "b", "ts": _us(start_s)}
            yield {**span, "name": phase, "ph": "e", "ts": _us(stop_s)}
        yield {**span, "name": "leg", "ph": "e", "ts": _us(end_s)}


PHASES = ("queue", "prefill", "decode")


def _counts(legs: pd.DataFrame, pid: int, from_s: float, until_s: float) -> Iterator[Event]:
    """Yield how many legs wait and how many run at a server, whenever one of the numbers changes.

    When a leg failed is not in the tables: it counts up to the last instant that is.
    """
    arrived_s, started_s, first_token_s, finished_s = (legs[name].to_numpy(dtype=np.float64) for name in _INSTANTS)
    stays = (legs["status"] == "unfinished").to_numpy()
    last_s = np.fmax(np.fmax(np.fmax(arrived_s, started_s), first_token_s), finished_s)
    gone_s = np.where(stays & np.isnan(finished_s), inf, last_s)
    waits = (arrived_s, np.where(np.isnan(started_s), gone_s, started_s))
    for name, (begins_s, ends_s) in (("waiting", waits), ("running", (started_s, gone_s))):
        for at_s, n in zip(*_occupancy(begins_s, ends_s, from_s, until_s), strict=True):
            yield {"name": name, "ph": "C", "pid": pid, "tid": 0, "ts": _us(at_s), "args": {"legs": int(n)}}


_INSTANTS = ("arrived_s", "started_s", "first_token_s", "finished_s")


def _occupancy(
    begins_s: NDArray[np.float64], ends_s: NDArray[np.float64], from_s: float, until_s: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return when the number of open intervals changes within the window, its start included, and the number then."""
    known = ~np.isnan(begins_s)
    begins_s, ends_s = np.sort(begins_s[known]), np.sort(ends_s[known])
    instants = np.concatenate([begins_s, ends_s])
    instants = np.unique(np.append(instants[(instants > from_s) & (instants < until_s)], from_s))
    n = np.searchsorted(begins_s, instants, side="right") - np.searchsorted(ends_s, instants, side="right")
    changed = np.diff(n, prepend=-1) != 0
    return instants[changed], n[changed]


def _handover_events(handovers: pd.DataFrame, from_s: float, until_s: float) -> Iterator[Event]:
    yield _name(HANDOVERS, "handovers")
    inside = handovers[(handovers["at_s"] >= from_s) & (handovers["at_s"] < until_s)]
    for row in _rows(inside):
        name, about = f"{row.from_site} to {row.to_site}", {"user": int(row.user_id)}
        yield {"name": name, "ph": "i", "s": "p", "pid": HANDOVERS, "tid": 0, "ts": _us(row.at_s), "args": about}


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    return iter(frame.itertuples(index=False))


def _name(pid: int, name: str) -> Event:
    return {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "ts": 0, "args": {"name": name}}


def _of(frame: pd.DataFrame, replication: int) -> pd.DataFrame:
    return frame[frame["replication"] == replication]


def _overlapping(frame: pd.DataFrame, from_s: float, until_s: float) -> pd.DataFrame:
    """Return the rows that are there in the window; one without an end is there from its arrival on."""
    ends_s = frame["finished_s"].where(frame["status"] != "rejected", frame["arrived_s"]).fillna(inf)
    return frame[(frame["arrived_s"] < until_s) & (ends_s >= from_s)]


def _end_s(row: Any, last_s: float, until_s: float) -> float:
    """Return the end of a span: where it is not known, the window's end for what goes on, else the last instant."""
    if not isnan(row.finished_s):
        return float(row.finished_s)
    return max(last_s, until_s) if row.status == "unfinished" else last_s


def _us(at_s: float) -> float:
    return round(at_s * 1e6, 3)
