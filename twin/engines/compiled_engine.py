"""The `compiled` engine: each server's legs as columns, advanced by compiled code."""

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from twin.engines.compiled_device import CompiledDevice, CompiledServer
from twin.engines.queues import give_back, queue_of
from twin.records.outcomes import FAILED, REJECTED, SERVED, UNFINISHED, LegOutcomes, Play, Played, played
from twin.servers.course import Account, Course
from twin.servers.expert import Expert
from twin.servers.faults import Crash, crash_reason, down_reason


def play(given: Play) -> Played:
    """Return what happens when the requests meet the experts.

    The load is open and devices share nothing, so each is advanced to its end at once, or to what befalls it.
    """
    outcomes = _blank(_at_servers_s(given))
    reached = _by_expert(given, outcomes)
    accounts = tuple(_run(given, course, reached, outcomes) for course in given.courses)
    return played(given, outcomes, _answered_s(given, outcomes), accounts)


def _by_expert(given: Play, outcomes: LegOutcomes) -> list[NDArray[np.intp]]:
    """Return the rows of the legs that each expert is reached by; few numbers are sorted by their digits."""
    n = len(given.experts)
    expert = given.legs.expert.astype(np.min_scalar_type(n))
    order = np.argsort(expert, kind="stable")
    never = np.isnan(outcomes.arrived_s)
    if never.any():
        order = order[~never[order]]
    return np.split(order, np.searchsorted(expert[order], np.arange(1, n)))


def _run(given: Play, course: Course, reached: Sequence[NDArray[np.intp]], outcomes: LegOutcomes) -> Account:
    """Let a device serve its legs and note what became of them; return what it did."""
    rows = [_rows(given, course, i, reached[i], outcomes) for i in course.experts]
    servers = [
        CompiledServer(given.experts[i], _queue(given, mine, outcomes), stop_s=given.stop_s)
        for i, mine in zip(course.experts, rows, strict=True)
    ]
    device = CompiledDevice(servers, [step for step in course.steps if not isinstance(step, Crash)])
    for crash in course.crashes:
        device.advance(crash.at_s)
        for mine, lost in zip(rows, device.crash(crash), strict=True):
            _fail(outcomes, mine[lost], crash_reason(course.device, crash.at_s))
    device.advance(inf)
    for mine, server in zip(rows, servers, strict=True):
        _note(outcomes, mine, server.queue)
    return device.account()


def _note(outcomes: LegOutcomes, rows: NDArray[np.intp], queue: NDArray[np.void]) -> None:
    """Note what became of the legs in a queue (n,), which are these rows."""
    o = outcomes
    give_back(rows, queue, SERVED, o.started_s, o.first_token_s, o.finished_s, o.energy_j, o.status_code)


def _rows(given: Play, course: Course, i: int, rows: NDArray[np.intp], outcomes: LegOutcomes) -> NDArray[np.intp]:
    """Return those of its legs that expert `i` takes, in their order; note why it does not take the others."""
    expert, legs = given.experts[i], given.legs
    if course.crashes:
        since_s = course.down_since_s(outcomes.arrived_s[rows])
        for at_s in np.unique(since_s[~np.isnan(since_s)]).tolist():
            _fail(outcomes, rows[since_s == at_s], down_reason(course.device, at_s))
        rows = rows[np.isnan(since_s)]
    refused = _refused(expert, legs.prompt_tokens[rows], legs.output_tokens[rows])
    for row in rows[refused].tolist():
        outcomes.status_code[row] = REJECTED
        outcomes.reasons[row] = str(expert.why_never(int(legs.prompt_tokens[row]), int(legs.output_tokens[row])))
    taken = rows[~refused] if refused.any() else rows
    return _in_order(taken, outcomes.arrived_s, given.rank)


def _queue(given: Play, rows: NDArray[np.intp], outcomes: LegOutcomes) -> NDArray[np.void]:
    legs = given.legs
    return queue_of(
        rows, outcomes.arrived_s, legs.prompt_tokens, legs.output_tokens, given.prefill_factor, given.decode_factor
    )


def _fail(outcomes: LegOutcomes, rows: NDArray[np.intp], reason: str) -> None:
    outcomes.status_code[rows] = FAILED
    for row in rows.tolist():
        outcomes.reasons[row] = reason


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
    """Return when each leg was at its server (n legs), NaN when it never was."""
    requests = given.requests
    at_gateway_s = given.link.at_gateway_s(requests.arrived_s, requests.user_id, requests.prompt_tokens)
    return _over_lan_s(given, _reached(at_gateway_s)[given.legs.request])


def _over_lan_s(given: Play, left_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when what left the gateway for the device of each leg, or that device, is over the LAN; both (n legs)."""
    at_s = given.link.over_lan_s(left_s)
    for course in given.courses:
        if course.device in given.link.device_outages:
            rows = np.flatnonzero(np.isin(given.legs.expert, course.experts))
            at_s[rows] = given.link.over_lan_s(left_s[rows], course.device)
    return at_s


def _answered_s(given: Play, outcomes: LegOutcomes) -> NDArray[np.float64]:
    """Return when each request's answer was at its user (n requests), NaN unless all its legs were served."""
    last_s = given.legs.greatest(_over_lan_s(given, outcomes.finished_s))
    return _reached(given.link.at_user_s(last_s, given.requests.user_id, given.answer_tokens))


def _reached(at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isinf(at_s), np.nan, at_s)
