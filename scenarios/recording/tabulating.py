"""The tables of a recording: what the journal says happened, in the form in which the twin says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.recording.journal import Ended, Events, GivenUp, Metered, Sent, Stopped, Unanswered
from scenarios.runs.replicating import Load
from twin.gateway.rules import Rules
from twin.network import Link
from twin.records.tables import Tables
from twin.servers.expert import Expert
from twin.users.prompts import PromptPool

__all__ = ["Recorded", "busy_spans", "legs_of", "of_replication", "sends", "tables_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One replication as it was recorded, by the gateway's `rules`."""

    replication: int
    experts: Sequence[Expert]
    load: Load
    link: Link
    pool: PromptPool | None
    sent: Sequence[Sent]
    ended: Sequence[Ended]
    metered: Mapping[str, Metered]
    stopped: Stopped
    given_up: Sequence[GivenUp]
    unanswered: Sequence[Unanswered]
    rules: Rules

    @property
    def horizon_s(self) -> float:
        """The time over which every device is accounted for."""
        return self.stopped.at_s

    @property
    def came(self) -> NDArray[np.bool_]:
        """Which requests arrived before the recording ended (n requests,)."""
        return np.asarray(self.load.requests.arrived_s < self.stopped.at_s)


def of_replication(events: Events, replication: int, **known: Any) -> Recorded:
    """Return one replication of a journal. One that was killed ends with the last thing that is known of it."""
    sent = [event for event in events.sent if event.replication == replication]
    ended = [event for event in events.ended if event.replication == replication]
    given_up = [event for event in events.given_up if event.replication == replication]
    unanswered = [event for event in events.unanswered if event.replication == replication]
    known_s = (
        [e.sent_s for e in sent]
        + [e.ended_s for e in ended]
        + [e.at_s for e in given_up]
        + [e.at_s for e in unanswered]
    )
    last_s = max(known_s, default=0.0)
    stops = [event for event in events.stopped if event.replication == replication]
    return Recorded(
        replication=replication,
        sent=sent,
        ended=ended,
        given_up=given_up,
        unanswered=unanswered,
        metered={event.device: event for event in events.metered if event.replication == replication},
        stopped=stops[-1]
        if stops
        else Stopped(replication=replication, at_s=float(np.nextafter(last_s, np.inf)), whole=False),
        **known,
    )


def tables_of(recorded: Recorded) -> Tables:
    """Return requests, legs and devices; what was not told is null, and so is the energy of what has no meter."""
    legs = legs_of(recorded)
    return Tables(
        requests=_requests(recorded, legs)[recorded.came].reset_index(drop=True),
        legs=legs.drop(columns=["ended_s", "request"]),
        devices=_devices(recorded, legs),
    )


def sends(recorded: Recorded) -> pd.DataFrame:
    """Return every send: when it was planned, when it happened, how late it was, in seconds."""
    legs, requests = recorded.load.legs, recorded.load.requests
    rows = np.array([event.leg for event in recorded.sent], dtype=np.intp)
    planned_s, sent_s = (np.array([getattr(e, key) for e in recorded.sent]) for key in ("planned_s", "sent_s"))
    return pd.DataFrame(
        {
            "replication": np.full(len(rows), recorded.replication, dtype=np.int64),
            "request_id": requests.request_id[legs.request[rows]],
            "expert": np.array([e.name for e in recorded.experts], dtype=object)[legs.expert[rows]],
            "attempt": np.array([event.attempt for event in recorded.sent], dtype=np.int64),
            "planned_s": planned_s,
            "sent_s": sent_s,
            "late_s": sent_s - planned_s,
        }
    )


def busy_spans(legs: pd.DataFrame, device: str, horizon_s: float) -> list[tuple[float, float]]:
    """Return the spans in which a device had a leg, from its start (else its arrival) to its end, in order, apart.

    A leg without an end was under way to the last.
    """
    mine = legs[(legs["device"] == device) & legs["arrived_s"].notna()]
    begins_s = mine["started_s"].fillna(mine["arrived_s"]).to_numpy(dtype=np.float64)
    ends_s = np.minimum(mine["ended_s"].fillna(horizon_s).to_numpy(dtype=np.float64), horizon_s)
    spans: list[tuple[float, float]] = []
    for begin_s, end_s in sorted(zip(begins_s.tolist(), ends_s.tolist(), strict=True)):
        if spans and begin_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end_s))
        else:
            spans.append((begin_s, end_s))
    return spans


def legs_of(recorded: Recorded) -> pd.DataFrame:
    """Return a row for every attempt, in the order of requests and then of sends, with `request` and `ended_s` more.

    Legs that all have to be asked stand there too when their requests came and they were not sent.
    """
    legs, known = recorded.load.legs, recorded.load
    ended = {(event.leg, event.attempt): event for event in recorded.ended}
    up = {(event.leg, event.attempt): event for event in recorded.given_up}
    rows = [_attempt(event, ended, up) for event in recorded.sent] + [_unsent(leg) for leg in _not_sent(recorded)]
    frame = pd.DataFrame(rows, columns=["leg", *_ATTEMPT])
    frame["request"] = legs.request[frame["leg"].to_numpy(dtype=np.intp)]
    frame = frame.sort_values("request", kind="stable", ignore_index=True)
    leg = frame.pop("leg").to_numpy(dtype=np.intp)
    first = frame["attempt"].to_numpy() == 1
    asked = np.bincount(
        legs.request[leg], weights=np.where(first, legs.weight[leg], 0.0), minlength=len(known.requests)
    )
    prompt = frame["prompt_tokens"].to_numpy(dtype=np.float64, na_value=nan)
    columns = {
        "replication": np.full(len(leg), recorded.replication, dtype=np.int64),
        "request_id": known.requests.request_id[legs.request[leg]],
        "expert": np.array([e.name for e in recorded.experts], dtype=object)[legs.expert[leg]],
        "device": np.array([e.device for e in recorded.experts], dtype=object)[legs.expert[leg]],
        "weight": legs.weight[leg] if recorded.rules == Rules() else legs.weight[leg] / asked[legs.request[leg]],
        **{key: frame[key].astype(np.float64) for key in _INSTANTS},
        "prompt_tokens": np.where(np.isnan(prompt), legs.prompt_tokens[leg], prompt).astype(np.int64),
        "output_tokens": legs.output_tokens[leg],
        "energy_j": np.full(len(leg), nan),  # a meter knows a device, not a leg
        **{key: frame[key] for key in ("status", "attempt", "reason", "request")},
    }
    return pd.DataFrame(columns)


_INSTANTS = ("arrived_s", "started_s", "first_token_s", "finished_s", "ended_s")
_ATTEMPT = ("attempt", *_INSTANTS, "prompt_tokens", "status", "reason")


def _not_sent(recorded: Recorded) -> list[int]:
    """Return the legs that were to be sent, whatever happens, and were not when the recording ended."""
    if recorded.rules != Rules():
        return []
    sent = {event.leg for event in recorded.sent}
    return [leg for leg in np.flatnonzero(recorded.came[recorded.load.legs.request]).tolist() if leg not in sent]


def _unsent(leg: int) -> dict[str, Any]:
    return {"leg": leg, "attempt": 1, "status": "unfinished", "reason": None}


def _attempt(
    sent: Sent, ended: Mapping[tuple[int, int], Ended], given_up: Mapping[tuple[int, int], GivenUp]
) -> dict[str, Any]:
    """Return an attempt's row. One that was given up has failed, whatever its server did in the end."""
    end, up = ended.get((sent.leg, sent.attempt)), given_up.get((sent.leg, sent.attempt))
    row = {"leg": sent.leg, "attempt": sent.attempt, "arrived_s": sent.sent_s, "status": "unfinished", "reason": None}
    if end is not None:
        row |= {"status": end.status, "reason": end.reason, "prompt_tokens": end.prompt_tokens}
        row |= _instants(end, sent.sent_s)
    return row if up is None else row | {"status": "failed", "reason": up.reason}


def _instants(end: Ended, arrived_s: float) -> dict[str, float | None]:
    """Return the instants of an attempt; it started as long before its first token as its server says.

    Only what was served is finished: what failed had its first token at the most.
    """
    started_s = None
    if end.first_token_s is not None and end.server_prefill_s is not None:
        started_s = max(end.first_token_s - end.server_prefill_s, arrived_s)
    return {
        "started_s": started_s,
        "first_token_s": end.first_token_s,
        "finished_s": end.finished_s if end.status == "served" else None,
        "ended_s": end.ended_s,
    }


def _requests(recorded: Recorded, legs: pd.DataFrame) -> pd.DataFrame:
    requests, pool, n = recorded.load.requests, recorded.pool, len(recorded.load.requests)
    status, left_s = _joined(recorded, legs)
    finished_s = _at_user_s(recorded, left_s)
    status[(status == "served") & np.isnan(finished_s)] = "unfinished"  # the network never carried it
    no_question = requests.prompt < 0
    question_id = np.zeros(n, dtype=np.int64) if pool is None else pool.question_id[requests.prompt].astype(np.int64)
    return pd.DataFrame(
        {
            "replication": np.full(n, recorded.replication, dtype=np.int64),
            "request_id": requests.request_id,
            "user_id": pd.arrays.IntegerArray(requests.user_id.astype(np.int64), requests.user_id < 0),
            "question_id": pd.arrays.IntegerArray(
                question_id, no_question if pool is not None else np.full(n, fill_value=True)
            ),
            "category": requests.category,
            "arrived_s": requests.arrived_s,
            "finished_s": finished_s,
            "n_legs": np.bincount(legs["request"], minlength=n),
            "answer": np.full(n, None, dtype=object),  # what a testbed says to random tokens is no answer
            "correct": pd.arrays.BooleanArray(np.zeros(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)),
            "energy_j": np.full(n, nan),
            "status": status,
        }
    )


def _joined(recorded: Recorded, legs: pd.DataFrame) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return what became of each request, and when its answer left the gateway: at the last of the legs it needed.

    Served when enough legs are; else what the gateway said of it (rejected, failed); else unfinished.
    """
    known, rules = recorded.load, recorded.rules
    n = len(known.requests)
    asked = np.bincount(known.legs.request, minlength=n)
    asked = asked if rules.k is None else np.minimum(asked, rules.k)
    needed = asked if rules.quorum is None else np.minimum(asked, rules.quorum)
    served = legs[(legs["status"] == "served")].sort_values(["request", "finished_s"], kind="stable")
    request, finished_s = (served[key].to_numpy() for key in ("request", "finished_s"))
    status, left_s = np.full(n, "unfinished", dtype=object), np.full(n, nan)
    for event in recorded.unanswered:
        status[event.request] = event.status
    place = np.arange(len(request)) - np.searchsorted(request, request)  # within its request
    last = place == needed[request] - 1
    status[request[last]], left_s[request[last]] = "served", finished_s[last]
    return status, left_s


def _at_user_s(recorded: Recorded, left_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when the answers are at their users: over the network that the scenario states, in the order of time."""
    requests, legs = recorded.load.requests, recorded.load.legs
    recorded.link.at_gateway_s(
        requests.arrived_s, requests.user_id, requests.prompt_tokens
    )  # the way there comes first
    tokens = np.maximum.reduceat(legs.output_tokens, np.flatnonzero(np.diff(legs.request, prepend=-1)))
    order = np.argsort(left_s, kind="stable")[: int(np.isfinite(left_s).sum())]  # NaN comes last
    found = np.full(len(left_s), nan)
    at_user_s = np.asarray(recorded.link.at_user_s(left_s[order], requests.user_id[order], tokens[order]))
    found[order] = np.where(np.isfinite(at_user_s), at_user_s, nan)
    return found


def _devices(recorded: Recorded, legs: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for device in dict.fromkeys(expert.device for expert in recorded.experts):
        spans = busy_spans(legs, device, recorded.horizon_s)
        busy_s = min(sum(end_s - begin_s for begin_s, end_s in spans), recorded.horizon_s)
        found = recorded.metered.get(device)
        whole_j, busy_j = (None, None) if found is None else (found.energy_j, found.busy_j)
        rows.append(
            {
                "replication": recorded.replication,
                "device": device,
                "busy_s": busy_s,
                "idle_s": recorded.horizon_s - busy_s,
                "busy_energy_j": busy_j,
                "idle_energy_j": None if whole_j is None or busy_j is None else whole_j - busy_j,
                "overhead_energy_j": None,  # a meter does not tell it apart
                "energy_j": whole_j,
                "utilisation": busy_s / recorded.horizon_s,
            }
        )
    numbers = [key for key in rows[0] if key not in {"replication", "device"}]
    return pd.DataFrame(rows).astype({"replication": np.int64, **dict.fromkeys(numbers, np.float64)})
