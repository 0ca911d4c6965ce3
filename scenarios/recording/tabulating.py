"""The tables of a recording: what the journal says happened, in the form in which the twin says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.recording.journal import Ended, Events, Metered, Sent, Stopped
from scenarios.runs.replicating import Load
from twin.expert import Expert
from twin.network import Link
from twin.prompts import PromptPool
from twin.tables import Tables

__all__ = ["Recorded", "busy_spans", "legs_of", "of_replication", "sends", "tables_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One replication as it was recorded; `quorum` legs make a request served, None: all of its legs."""

    replication: int
    experts: Sequence[Expert]
    load: Load
    link: Link
    pool: PromptPool | None
    sent: Sequence[Sent]
    ended: Sequence[Ended]
    metered: Mapping[str, Metered]
    stopped: Stopped
    quorum: int | None = None

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
    last_s = max([event.sent_s for event in sent] + [event.ended_s for event in ended], default=0.0)
    stops = [event for event in events.stopped if event.replication == replication]
    return Recorded(
        replication=replication,
        sent=sent,
        ended=ended,
        metered={event.device: event for event in events.metered if event.replication == replication},
        stopped=stops[-1]
        if stops
        else Stopped(replication=replication, at_s=float(np.nextafter(last_s, np.inf)), whole=False),
        **known,
    )


def tables_of(recorded: Recorded) -> Tables:
    """Return requests, legs and devices; what was not told is null, and so is the energy of what has no meter."""
    legs = legs_of(recorded)
    kept = recorded.came[recorded.load.legs.request]
    return Tables(
        requests=_requests(recorded, legs)[recorded.came].reset_index(drop=True),
        legs=legs[kept].drop(columns="ended_s").reset_index(drop=True),
        devices=_devices(recorded, legs[kept]),
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
    """Return the legs with a column `ended_s` more; of a leg that was tried again, the last attempt."""
    legs, requests, n = recorded.load.legs, recorded.load.requests, len(recorded.load.legs)
    instants = {key: np.full(n, nan) for key in ("arrived_s", "started_s", "first_token_s", "finished_s", "ended_s")}
    status, reason = np.full(n, "unfinished", dtype=object), np.full(n, None, dtype=object)
    attempt, prompt, output = np.ones(n, dtype=np.int64), legs.prompt_tokens.copy(), legs.output_tokens.copy()
    for sent in recorded.sent:
        instants["arrived_s"][sent.leg], attempt[sent.leg] = sent.sent_s, sent.attempt
    for end in recorded.ended:
        if end.attempt != attempt[end.leg]:
            continue
        status[end.leg], reason[end.leg] = end.status, end.reason
        for key, value in _instants(end, float(instants["arrived_s"][end.leg])).items():
            instants[key][end.leg] = nan if value is None else value
        prompt[end.leg] = prompt[end.leg] if end.prompt_tokens is None else end.prompt_tokens
    return pd.DataFrame(
        {
            "replication": np.full(n, recorded.replication, dtype=np.int64),
            "request_id": requests.request_id[legs.request],
            "expert": np.array([e.name for e in recorded.experts], dtype=object)[legs.expert],
            "device": np.array([e.device for e in recorded.experts], dtype=object)[legs.expert],
            "weight": legs.weight,
            **instants,
            "prompt_tokens": prompt,
            "output_tokens": output,
            "energy_j": np.full(n, nan),  # a meter knows a device, not a leg
            "status": status,
            "attempt": attempt,
            "reason": reason,
        }
    )


def _instants(end: Ended, arrived_s: float) -> dict[str, float | None]:
    """Return the instants of an attempt; it started as long before its first token as its server says.

    Only a served leg is finished: what a failed one had by then is its first token at the most.
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
            "n_legs": np.bincount(recorded.load.legs.request, minlength=n),
            "answer": np.full(n, None, dtype=object),  # what a testbed says to random tokens is no answer
            "correct": pd.arrays.BooleanArray(np.zeros(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)),
            "energy_j": np.full(n, nan),
            "status": status,
        }
    )


def _joined(recorded: Recorded, legs: pd.DataFrame) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return what became of each request and when its answer left the gateway; the join is the twin's.

    Served when enough legs are, at the last of those; else rejected when a leg was, else failed, else unfinished.
    """
    request, n = recorded.load.legs.request, len(recorded.load.requests)
    n_legs = np.bincount(request, minlength=n)
    wanted = n_legs if recorded.quorum is None else np.minimum(n_legs, recorded.quorum)
    of_leg = legs["status"].to_numpy(dtype=object)
    status, left_s = np.full(n, "unfinished", dtype=object), np.full(n, nan)
    for word in ("failed", "rejected"):
        status[request[of_leg == word]] = word
    served = of_leg == "served"
    finished_s = legs["finished_s"].to_numpy(dtype=np.float64)
    order = np.lexsort((np.where(served, finished_s, np.inf), request))
    nth = np.flatnonzero(np.diff(request, prepend=-1))[np.arange(n)] + wanted - 1  # legs are in the order of requests
    last = order[nth]
    done = served[last]
    status[done], left_s[done] = "served", finished_s[last][done]
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
