"""Playing one replication on real endpoints: every request is sent at its instant, whatever became of those before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np
from numpy.typing import NDArray

from calibration.runtimes.async_endpoint import AsyncEndpoint
from calibration.runtimes.generation import Generation
from calibration.session.watching import share
from scenarios.recording.gateway import Attempt, Gateway, Told, until
from scenarios.recording.journal import Began, Ended, GivenUp, Journal, Sent, Stopped, Unanswered
from scenarios.recording.prompts import Prompts
from twin.gateway.backlog import Backlog
from twin.gateway.rules import Rules

__all__ = ["LATE_S", "Counts", "Play"]

LATE_S = 0.01
"""A send later than this is late: the arrivals slipped, and delays are no longer those of the load."""
_LEAD_S = 0.1  # from the call to the start of the run's clock
_READY_S = 0.02  # before its instant, a request's servers get an open connection


@dataclass(slots=True, kw_only=True)
class Counts:
    """Attempts at legs so far, for whoever watches; `total` legs are asked at first."""

    total: int = 0
    sent: int = 0
    late: int = 0
    ended: dict[str, int] = field(default_factory=lambda: {"served": 0, "rejected": 0, "failed": 0})


@dataclass(slots=True, kw_only=True)
class Play:
    """One replication: its prompts, when each request is at the gateway (n requests,), the servers, and its journal.

    Nothing is waited for beyond `stop_s`. `watch` is told of every send and every end. `ticks` returns what
    `calibration.session.watching.stolen_of` does.
    """

    replication: int
    prompts: Prompts
    comes_s: NDArray[np.float64]
    endpoints: Sequence[AsyncEndpoint]  # of each expert
    backlogs: Sequence[Backlog]  # likewise
    rules: Rules
    journal: Journal
    duration_s: float
    stop_s: float
    watch: Callable[[Counts], None]
    ticks: Callable[[], tuple[int, int] | None]
    began_s: float = nan  # of the monotonic clock: 0 of the run's
    counts: Counts = field(default_factory=Counts)
    bodies: dict[int, tuple[bytes, int | None]] = field(default_factory=dict)
    under_way: set[asyncio.Future[None]] = field(default_factory=set)

    async def perform(self) -> float:
        """Play; returns the instant of the monotonic clock at which the run's clock stood at 0.

        When it is cancelled, what is under way is hung up, and the journal says when.
        """
        await asyncio.gather(*(endpoint.connect() for endpoint in self.endpoints))
        self.began_s = time.monotonic() + _LEAD_S
        self.journal.add(Began(replication=self.replication, unix_s=time.time() + _LEAD_S))
        before, whole = self.ticks(), False
        try:
            await self._send()
            await self._drain()
            whole = True
        finally:
            at_s = self._now_s()
            for task in self.under_way:
                task.cancel()
            await asyncio.gather(*self.under_way, return_exceptions=True)
            stolen = share(before, self.ticks())
            end = Stopped(replication=self.replication, at_s=max(at_s, 0.0), whole=whole, steal_share=stolen)
            self.journal.add(end)
        return self.began_s

    def begin(self, work: Awaitable[None]) -> asyncio.Future[None]:
        """Start a task that the recording waits for, and hangs up when it ends."""
        task = asyncio.ensure_future(work)
        self.under_way.add(task)
        return task

    async def _send(self) -> None:
        told = Told(gave_up=self._gave_up, unanswered=self._unanswered)
        stop_s = self.began_s + self.stop_s
        gateway = Gateway(self.rules, self.backlogs, self._ask, told, begin=self.begin, stop_s=stop_s)
        for request, at_s, offers in self._arrivals():
            if not self.rules.load_aware:
                for offer in offers[: self.rules.k]:  # before their instant: it takes a while
                    self.bodies[offer.leg] = self.prompts.body(offer.leg)
                await self._make_ready(at_s, [offer.expert for offer in offers[: self.rules.k]])
            await until(self.began_s + at_s)
            self.begin(gateway.request(request, offers))
            await asyncio.sleep(0)  # it is handed over here, in order
            self._without_done()

    async def _make_ready(self, at_s: float, experts: Sequence[int]) -> None:
        """Open a connection to each server shortly before the instant, as long as there is time for it.

        A gateway keeps connections open; servers close those that are idle for seconds.
        """
        ready_s = self.began_s + at_s - _READY_S
        if time.monotonic() < ready_s:
            await until(ready_s)
            for expert in experts:
                self.begin(self.endpoints[expert].connect(_READY_S))

    async def _drain(self) -> None:
        """Wait for what is under way, then for the end of the run, which is part of what is metered."""
        while self.under_way and (left_s := self.stop_s - self._now_s()) > 0:
            await asyncio.wait(self.under_way, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            self._without_done()
        await until(self.began_s + self.duration_s)

    def _arrivals(self) -> Iterator[tuple[int, float, list[Attempt]]]:
        """Yield requests in the order in which they come to the gateway: row, instant, and the legs offered."""
        legs = self.prompts.load.legs
        first = np.searchsorted(legs.request, np.arange(len(self.comes_s) + 1)).tolist()
        for request in np.argsort(self.comes_s, kind="stable").tolist():
            at_s = float(self.comes_s[request])
            if at_s < self.stop_s:
                yield request, at_s, [self._offer(leg, at_s) for leg in range(first[request], first[request + 1])]

    def _offer(self, leg: int, at_s: float) -> Attempt:
        legs = self.prompts.load.legs
        return Attempt(
            leg=leg,
            expert=int(legs.expert[leg]),
            attempt=1,
            prompt_tokens=int(legs.prompt_tokens[leg]),
            output_tokens=int(legs.output_tokens[leg]),
            planned_s=self.began_s + at_s,
        )

    async def _ask(self, sent: Attempt) -> None:
        """Send one attempt, and write down what became of it."""
        where = {"replication": self.replication, "leg": sent.leg, "attempt": sent.attempt}
        planned_s, sent_s = sent.planned_s - self.began_s, self._now_s()
        self.journal.add(Sent(**where, planned_s=planned_s, sent_s=sent_s))
        self.counts.sent += 1
        self.counts.late += sent_s - planned_s > LATE_S
        self.watch(self.counts)
        body = self.bodies.pop(sent.leg, None) or self.prompts.body(sent.leg)
        found = await self.endpoints[sent.expert].generate(*body, sent.output_tokens)
        ended = self._ended(found, where)
        self.journal.add(ended)
        sent.status = ended.status
        self.counts.ended[ended.status] += 1
        self.watch(self.counts)

    def _ended(self, found: Generation, where: dict[str, int]) -> Ended:
        return Ended(
            **where,
            status=_status(found.fault),
            reason=found.fault or None,
            ended_s=self._now_s(),
            first_token_s=None if found.first_token_s is None else found.first_token_s - self.began_s,
            finished_s=None if found.finished_s is None else found.finished_s - self.began_s,
            prompt_tokens=found.prompt_tokens,
            output_tokens=found.output_tokens,
            cached_tokens=found.cached_tokens,
            server_prefill_s=found.server_prefill_s,
            server_decode_s=found.server_decode_s,
        )

    def _gave_up(self, sent: Attempt) -> None:
        where = {"replication": self.replication, "leg": sent.leg, "attempt": sent.attempt}
        self.journal.add(GivenUp(**where, at_s=self._now_s(), reason=sent.given_up or ""))

    def _unanswered(self, request: int, status: str) -> None:
        event = Unanswered(replication=self.replication, request=request, at_s=self._now_s(), status=status)
        self.journal.add(event)

    def _now_s(self) -> float:
        return time.monotonic() - self.began_s

    def _without_done(self) -> None:
        """Forget what is done; an error in it (a full disk) ends the recording."""
        for task in [task for task in self.under_way if task.done()]:
            self.under_way.discard(task)
            task.result()


def _status(fault: str) -> str:
    """Return what became of an attempt: a server that answers 4xx declines the request, all else is a failure.

    >>> _status(""), _status("http 400: too long"), _status("http 503: loading"), _status("cut: ")
    ('served', 'rejected', 'failed', 'failed')
    """
    if not fault:
        return "served"
    return "rejected" if fault.startswith("http 4") else "failed"
