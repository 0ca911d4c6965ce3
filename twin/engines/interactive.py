"""The world where what becomes of a leg matters to what comes next: a gateway with rules, users who wait."""

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

import numpy as np
from simpy import Event

from twin.gateway.asking import Sent, Story, asks_of
from twin.gateway.backlog import Backlog
from twin.gateway.live import Gateway, Port
from twin.gateway.rules import Rules
from twin.network import Link
from twin.records.outcomes import STATUSES, LegOutcomes, Play, Played
from twin.servers.clock import Clock
from twin.servers.course import Account, Course
from twin.servers.device import Device
from twin.servers.expert import Expert
from twin.servers.faults import Step
from twin.users.load import Legs, Requests

Users = Callable[[Clock, Gateway], None]
"""Lets users begin to ask a gateway."""


class Site(Protocol):
    """A device of either engine."""

    @property
    def servers(self) -> Sequence[Port]:
        """The ways into its servers, in the order of its experts."""
        ...

    def befall(self, steps: Sequence[Step]) -> Generator[Event, None, None]:
        """Let things happen, each at its instant."""
        ...

    def account(self) -> Account:
        """Return what the device did."""
        ...


def interact(
    experts: Sequence[Expert],
    courses: Sequence[Course],
    link: Link,
    rules: Rules,
    users: Users,
    *,
    stop_s: float,
    compiled: bool,
) -> Played:
    """Return what happens between users, gateway and devices, of the one engine or the other."""
    clock = Clock()
    devices = _devices(clock, experts, courses, stop_s=stop_s, compiled=compiled)
    ports: dict[int, Port] = {}
    for course, device in zip(courses, devices, strict=True):
        clock.process(device.befall(course.steps))
        ports.update(zip(course.experts, device.servers, strict=True))
    gateway = Gateway(
        clock,
        [ports[i] for i in range(len(experts))],
        link=link,
        rules=rules,
        backlogs=[Backlog(e) for e in experts],
        devices=[e.device for e in experts],
        stop_s=stop_s,
    )
    users(clock, gateway)
    clock.run_out()
    accounts = tuple(device.account() for device in devices)  # first: it also notes how far unfinished legs came
    return _told(sorted(gateway.stories, key=lambda story: (story.arrived_s, story.ask.rank)), accounts)


def _devices(
    clock: Clock, experts: Sequence[Expert], courses: Sequence[Course], *, stop_s: float, compiled: bool
) -> list[Site]:
    kind: Callable[..., Site] = Device
    if compiled:
        from twin.engines.live_device import LiveDevice  # noqa: PLC0415 - numba takes half a second to load

        kind = LiveDevice
    return [
        kind(clock, course.device, [experts[i] for i in course.experts], place=place, stop_s=stop_s)
        for place, course in enumerate(courses)
    ]


def open_users(given: Play) -> Users:
    """Return users who send the requests of an open load, whatever becomes of them."""

    def send(clock: Clock, gateway: Gateway) -> Generator[Event, None, None]:
        for sent_s, ask in zip(given.requests.arrived_s.tolist(), asks_of(given), strict=True):
            yield clock.at(sent_s)
            clock.process(gateway.request(ask))

    def begin(clock: Clock, gateway: Gateway) -> None:
        clock.process(send(clock, gateway))

    return begin


def _told(stories: Sequence[Story], accounts: tuple[Account, ...]) -> Played:
    sent = [(row, attempt) for row, story in enumerate(stories) for attempt in story.sent]
    codes = {status: code for code, status in enumerate(STATUSES)}
    return Played(
        requests=_requests(stories),
        legs=_legs(stories, sent),
        attempt=np.array([s.attempt for _, s in sent], dtype=np.int64),
        outcomes=_outcomes([s for _, s in sent], codes),
        finished_s=np.array([story.finished_s for story in stories]),
        status_code=np.array([codes[story.status] for story in stories], dtype=np.int8),
        accounts=accounts,
    )


def _requests(stories: Sequence[Story]) -> Requests:
    asks = [story.ask for story in stories]
    whole = all(isinstance(ask.request_id, int) for ask in asks)
    return Requests(
        request_id=np.array([ask.request_id for ask in asks], dtype=np.int64 if whole else object),
        user_id=np.array([ask.user for ask in asks], dtype=np.int64),
        prompt=np.array([ask.prompt for ask in asks], dtype=np.intp),
        category=np.array([ask.category for ask in asks], dtype=object),
        arrived_s=np.array([story.arrived_s for story in stories], dtype=np.float64),
        prompt_tokens=np.array([ask.prompt_tokens for ask in asks], dtype=np.int64),
        output_tokens=np.array([ask.output_tokens for ask in asks], dtype=np.int64),
    )


def _legs(stories: Sequence[Story], sent: Sequence[tuple[int, Sent]]) -> Legs:
    """Weights are those of the offers over the sum of the experts that were asked at first."""
    first = [sum(s.offer.weight for s in story.sent if s.attempt == 1) or 1.0 for story in stories]
    return Legs(
        request=np.array([row for row, _ in sent], dtype=np.intp),
        expert=np.array([s.offer.expert for _, s in sent], dtype=np.intp),
        weight=np.array([s.offer.weight / first[row] for row, s in sent], dtype=np.float64),
        prompt_tokens=np.array([s.offer.prompt_tokens for _, s in sent], dtype=np.int64),
        output_tokens=np.array([s.offer.output_tokens for _, s in sent], dtype=np.int64),
    )


def _outcomes(sent: Sequence[Sent], codes: dict[str, int]) -> LegOutcomes:
    n, up = len(sent), [s.given_up is not None for s in sent]
    reasons = [s.given_up or s.leg.reason for s in sent]
    status = np.fromiter((codes[s.leg.status] for s in sent), np.int8, n)
    return LegOutcomes(
        arrived_s=np.fromiter((s.leg.arrived_s for s in sent), np.float64, n),
        started_s=np.fromiter((s.leg.started_s for s in sent), np.float64, n),
        first_token_s=np.fromiter((s.leg.first_token_s for s in sent), np.float64, n),
        finished_s=np.fromiter((s.leg.finished_s for s in sent), np.float64, n),
        energy_j=np.fromiter((s.leg.energy_j for s in sent), np.float64, n),
        status_code=np.where(up, codes["failed"], status).astype(np.int8),
        reasons={row: why for row, why in enumerate(reasons) if why is not None},
    )
