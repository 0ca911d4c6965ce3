"""The `compiled` engine: each server's legs as columns, advanced by compiled code."""

from math import inf

import numpy as np
from numpy.typing import NDArray

from twin.expert import Expert
from twin.kernel import advance
from twin.machine import queue_of, settings_of, slots_of, state_of
from twin.outcomes import REJECTED, SERVED, UNFINISHED, LegOutcomes, Play, Played


def play(given: Play) -> Played:
    """Return what happens when the requests meet the experts.

    The load is open and servers share nothing, so each is advanced to its end at once.
    """
    outcomes = _blank(_at_servers_s(given)[given.legs.request])
    sums = [_serve(given, i, outcomes) for i in range(len(given.experts))]
    busy_s, busy_energy_j, last_s = (np.array(column) for column in zip(*sums, strict=True))
    return Played(
        outcomes=outcomes,
        finished_s=_answered_s(given, outcomes),
        busy_s=busy_s,
        busy_energy_j=busy_energy_j,
        last_s=last_s,
    )


def _serve(given: Play, i: int, outcomes: LegOutcomes) -> tuple[float, float, float]:
    """Serve the legs of expert `i` and note what became of them; return its busy seconds and joules, and its end."""
    expert, legs = given.experts[i], given.legs
    rows = np.flatnonzero((legs.expert == i) & ~np.isnan(outcomes.arrived_s))
    refused = _refused(expert, legs.prompt_tokens[rows], legs.output_tokens[rows])
    for row in rows[refused].tolist():
        outcomes.status_code[row] = REJECTED
        outcomes.reasons[row] = str(expert.why_never(int(legs.prompt_tokens[row]), int(legs.output_tokens[row])))
    rows = _in_order(rows[~refused], outcomes.arrived_s, given.rank)
    queue = queue_of(
        outcomes.arrived_s[rows],
        legs.prompt_tokens[rows],
        legs.output_tokens[rows],
        given.prefill_factor[rows],
        given.decode_factor[rows],
    )
    settings = settings_of(expert, given.stop_s)
    state = state_of(settings)
    advance(settings, state, slots_of(settings, len(rows)), queue, inf)
    outcomes.started_s[rows] = queue["started_s"]
    outcomes.first_token_s[rows] = queue["first_token_s"]
    outcomes.finished_s[rows] = queue["finished_s"]
    outcomes.energy_j[rows] = queue["energy_j"]
    outcomes.status_code[rows] = np.where(np.isnan(queue["finished_s"]), UNFINISHED, SERVED)
    return float(state["busy_s"][0]), float(state["busy_j"][0]), float(state["last_s"][0])


def _blank(arrived_s: NDArray[np.float64]) -> LegOutcomes:
    n = len(arrived_s)
    return LegOutcomes(
        arrived_s=arrived_s,
        started_s=np.full(n, np.nan),
        first_token_s=np.full(n, np.nan),
        finished_s=np.full(n, np.nan),
        energy_j=np.zeros(n),
        status_code=np.full(n, UNFINISHED, dtype=np.int8),
        reasons={},
    )


def _refused(expert: Expert, prompt_tokens: NDArray[np.int64], output_tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which legs can never be served (n,); the same rule as `Expert.why_never`."""
    if expert.kv == "reserve":
        return prompt_tokens + output_tokens > expert.kv_capacity_tokens
    return -(-(prompt_tokens + output_tokens - 1) // expert.block_tokens) > expert.n_blocks


def _in_order(rows: NDArray[np.intp], arrived_s: NDArray[np.float64], rank: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the rows in the order of (arrival, rank); requests mostly stand in it already."""
    at_s, place = arrived_s[rows], rank[rows]
    later = np.diff(at_s) > 0
    if np.all(later | ((np.diff(at_s) == 0) & (np.diff(place) > 0))):
        return rows
    order: NDArray[np.intp] = np.lexsort((place, at_s))
    return rows[order]


def _at_servers_s(given: Play) -> NDArray[np.float64]:
    """Return when each request was at the servers (n requests), NaN when it never was."""
    requests, link = given.requests, given.link
    return _reached(link.over_lan_s(link.at_gateway_s(requests.arrived_s, requests.user_id, requests.prompt_tokens)))


def _answered_s(given: Play, outcomes: LegOutcomes) -> NDArray[np.float64]:
    """Return when each request's answer was at its user (n requests), NaN unless all its legs were served."""
    first = np.flatnonzero(np.diff(given.legs.request, prepend=-1))
    last_s = np.maximum.reduceat(outcomes.finished_s, first)  # NaN wins
    return _reached(given.link.at_user_s(given.link.over_lan_s(last_s), given.requests.user_id, given.answer_tokens))


def _reached(at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isinf(at_s), np.nan, at_s)
