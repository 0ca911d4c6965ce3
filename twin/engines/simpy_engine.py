"""The `simpy` engine: users, requests and servers as processes, every iteration an event."""

from collections.abc import Generator, Sequence
from math import isinf, nan

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from twin.network import Link
from twin.records.outcomes import STATUSES, LegOutcomes, Play, Played, played
from twin.servers.clock import Clock
from twin.servers.device import Device
from twin.servers.leg import Leg
from twin.servers.server import Server

Sends = list[tuple[Server, Leg]]
"""The legs of one request, each with the server it goes to."""


def play(given: Play) -> Played:
    """Return what happens when the requests meet the experts."""
    clock = Clock()
    devices = [_device(clock, given, place) for place in range(len(given.courses))]
    seen = _legs_as_seen(clock, given)
    finished_s = np.full(len(given.requests), np.nan)
    servers = _servers(given, devices)
    sends = _sends(given, [servers[i] for i in given.legs.expert.tolist()], seen)
    clock.process(_users(clock, given, sends, finished_s))
    clock.run_out()
    return played(given, _outcomes(seen), finished_s, tuple(device.account() for device in devices))


def _device(clock: Clock, given: Play, place: int) -> Device:
    course = given.courses[place]
    device = Device(clock, course.device, [given.experts[i] for i in course.experts], place=place, stop_s=given.stop_s)
    clock.process(device.befall(course.steps))
    return device


def _servers(given: Play, devices: Sequence[Device]) -> list[Server]:
    """Return the server of each expert, in the scenario's order."""
    pairs = (
        pair for c, d in zip(given.courses, devices, strict=True) for pair in zip(c.experts, d.servers, strict=True)
    )
    return [server for _, server in sorted(pairs, key=lambda pair: pair[0])]


def _users(
    clock: Clock, given: Play, sends: list[Sends], finished_s: NDArray[np.float64]
) -> Generator[Event, None, None]:
    """All users together: one request after another, at its time."""
    for row, (sent_s, legs) in enumerate(zip(given.requests.arrived_s.tolist(), sends, strict=True)):
        yield clock.at(sent_s)
        clock.process(_request(clock, given, row, legs, finished_s))


def _request(
    clock: Clock, given: Play, row: int, legs: Sends, finished_s: NDArray[np.float64]
) -> Generator[Event, None, None]:
    """The story of one request: over the network to its servers, until the last leg is done, and back."""
    user, link = int(given.requests.user_id[row]), given.link
    at_gateway_s = link.at_gateway_s(clock.now, user, int(given.requests.prompt_tokens[row]))
    if isinf(at_gateway_s):
        return
    yield clock.at(link.over_lan_s(at_gateway_s))
    for server, leg in legs:
        if server.device.name in link.device_outages:
            clock.process(_leg(clock, link, at_gateway_s, server, leg))
        else:
            server.submit(leg)
    for _, leg in legs:  # waiting for each in turn is waiting for all
        yield leg.done
    if all(leg.status == "served" for _, leg in legs):
        back_s = link.over_lan_s(clock.now)
        if link.device_outages:  # the last one done may not be the last one back
            back_s = max(link.over_lan_s(leg.finished_s, server.device.name) for server, leg in legs)
            yield clock.at(back_s)
        at_user_s = link.at_user_s(back_s, user, int(given.answer_tokens[row]))
        finished_s[row] = nan if isinf(at_user_s) else at_user_s


def _leg(clock: Clock, link: Link, left_s: float, server: Server, leg: Leg) -> Generator[Event, None, None]:
    """The way of a leg to a device whose own link to the LAN is down at times."""
    yield clock.at(link.over_lan_s(left_s, server.device.name))
    server.submit(leg)


def _legs_as_seen(clock: Clock, given: Play) -> list[Leg]:
    legs = given.legs
    columns = (given.rank, legs.prompt_tokens, legs.output_tokens, given.prefill_factor, given.decode_factor)
    return [
        Leg(
            rank=rank,
            prompt_tokens=prompt,
            output_tokens=output,
            prefill_factor=prefill_factor,
            decode_factor=decode_factor,
            done=Event(clock),
        )
        for rank, prompt, output, prefill_factor, decode_factor in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _sends(given: Play, servers: Sequence[Server], seen: Sequence[Leg]) -> list[Sends]:
    pairs = list(zip(servers, seen, strict=True))
    ends = np.searchsorted(given.legs.request, np.arange(len(given.requests)), side="right").tolist()
    return [pairs[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _outcomes(seen: Sequence[Leg]) -> LegOutcomes:
    n = len(seen)
    codes = {status: code for code, status in enumerate(STATUSES)}
    return LegOutcomes(
        arrived_s=np.fromiter((leg.arrived_s for leg in seen), np.float64, n),
        started_s=np.fromiter((leg.started_s for leg in seen), np.float64, n),
        first_token_s=np.fromiter((leg.first_token_s for leg in seen), np.float64, n),
        finished_s=np.fromiter((leg.finished_s for leg in seen), np.float64, n),
        energy_j=np.fromiter((leg.energy_j for leg in seen), np.float64, n),
        status_code=np.fromiter((codes[leg.status] for leg in seen), np.int8, n),
        reasons={row: leg.reason for row, leg in enumerate(seen) if leg.reason is not None},
    )
