"""Playing one replication on real endpoints: every request is sent at its instant, whatever became of those before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from calibration.runtimes.async_endpoint import AsyncEndpoint
from calibration.runtimes.generation import Generation
from scenarios.recording.journal import Ended, Journal, Sent, Stopped
from scenarios.recording.prompts import Prompts

__all__ = ["LATE_S", "Counts", "Patience", "Play"]

LATE_S = 0.01
"""A send later than this is late: the arrivals slipped, and delays are no longer those of the load."""
_LEAD_S = 0.1  # from the call to the start of the run's clock
_AWAKE_S = 0.002  # a sleep may end that much late: the rest is waited for awake


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What the gateway does about a leg: how long it waits for the whole answer, and how often it asks."""

    timeout_s: float = inf
    attempts: int = 1


@dataclass(slots=True, kw_only=True)
class Counts:
    """Legs so far, for whoever watches."""

    n_legs: int
    sent: int = 0
    late: int = 0
    ended: dict[str, int] = field(default_factory=lambda: {"served": 0, "rejected": 0, "failed": 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One replication: its prompts, when each request leaves the gateway (n requests,), where to, and its journal.

    No leg is waited for beyond `stop_s`. `watch` is told of every send and every end.
    """

    replication: int
    prompts: Prompts
    leaves_s: NDArray[np.float64]
    endpoints: Sequence[AsyncEndpoint]  # of each expert
    journal: Journal
    patience: Patience
    duration_s: float
    stop_s: float
    watch: Callable[[Counts], None]

    async def perform(self) -> float:
        """Play; returns the instant of the monotonic clock at which the run's clock stood at 0.

        When it is cancelled, what is under way is hung up, and the journal says when.
        """
        await asyncio.gather(*(endpoint.connect() for endpoint in self.endpoints))
        began_s = time.monotonic() + _LEAD_S
        counts = Counts(n_legs=len(self.prompts.load.legs))
        under_way: set[asyncio.Task[None]] = set()
        whole = False
        try:
            await self._send(began_s, counts, under_way)
            await self._drain(began_s, under_way)
            whole = True
        finally:
            at_s = time.monotonic() - began_s
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            self.journal.add(Stopped(replication=self.replication, at_s=max(at_s, 0.0), whole=whole))
        return began_s

    async def _send(self, began_s: float, counts: Counts, under_way: set[asyncio.Task[None]]) -> None:
        for at_s, legs in self._departures():
            bodies = [self.prompts.body(leg) for leg in legs]  # before their instant: it takes a while
            await _until(began_s + at_s)
            for leg, body in zip(legs, bodies, strict=True):
                under_way.add(asyncio.create_task(self._leg(began_s, leg, at_s, body, counts)))
            await asyncio.sleep(0)  # they are handed over here, in order
            _without_done(under_way)

    async def _drain(self, began_s: float, under_way: set[asyncio.Task[None]]) -> None:
        """Wait for what is under way, then for the end of the run, which is part of what is metered."""
        while under_way and (left_s := began_s + self.stop_s - time.monotonic()) > 0:
            await asyncio.wait(under_way, timeout=left_s, return_when=asyncio.FIRST_EXCEPTION)
            _without_done(under_way)
        await _until(began_s + self.duration_s)

    def _departures(self) -> Iterator[tuple[float, list[int]]]:
        """Yield requests in the order in which they leave the gateway: the instant, and their legs."""
        legs = self.prompts.load.legs
        first = np.searchsorted(legs.request, np.arange(len(self.leaves_s) + 1))
        for request in np.argsort(self.leaves_s, kind="stable").tolist():
            if self.leaves_s[request] < self.stop_s:
                yield float(self.leaves_s[request]), list(range(first[request], first[request + 1]))

    async def _leg(
        self, began_s: float, leg: int, planned_s: float, body: tuple[bytes, int | None], counts: Counts
    ) -> None:
        """Ask until the leg is served, or refused, or has failed as often as the gateway is patient."""
        for attempt in range(1, self.patience.attempts + 1):
            sent_s = time.monotonic() - began_s
            where = {"replication": self.replication, "leg": leg, "attempt": attempt}
            self.journal.add(Sent(**where, planned_s=planned_s, sent_s=sent_s))
            counts.sent += attempt == 1
            counts.late += sent_s - planned_s > LATE_S
            self.watch(counts)
            found = await self._asked(leg, body)
            planned_s = time.monotonic() - began_s
            ended = _ended(found, began_s, planned_s, where)
            self.journal.add(ended)
            if ended.status != "failed" or attempt == self.patience.attempts:
                counts.ended[ended.status] += 1
                self.watch(counts)
                return

    async def _asked(self, leg: int, body: tuple[bytes, int | None]) -> Generation | str:
        """Return the generation, or why there is none."""
        legs = self.prompts.load.legs
        endpoint, output_tokens = self.endpoints[int(legs.expert[leg])], int(legs.output_tokens[leg])
        patience_s = self.patience.timeout_s if isfinite(self.patience.timeout_s) else None
        try:
            return await asyncio.wait_for(endpoint.generate(*body, output_tokens), patience_s)
        except asyncio.TimeoutError:
            return f"timeout: no whole answer within {self.patience.timeout_s:g} s"


def _ended(found: Generation | str, began_s: float, ended_s: float, where: dict[str, int]) -> Ended:
    if isinstance(found, str):
        return Ended(**where, status="failed", reason=found, ended_s=ended_s)
    return Ended(
        **where,
        status=_status(found.fault),
        reason=found.fault or None,
        ended_s=ended_s,
        first_token_s=None if found.first_token_s is None else found.first_token_s - began_s,
        finished_s=None if found.finished_s is None else found.finished_s - began_s,
        prompt_tokens=found.prompt_tokens,
        output_tokens=found.output_tokens,
        cached_tokens=found.cached_tokens,
        server_prefill_s=found.server_prefill_s,
        server_decode_s=found.server_decode_s,
    )


def _status(fault: str) -> str:
    """Return what became of an attempt: a server that answers 4xx declines the request, all else is a failure.

    >>> _status(""), _status("http 400: too long"), _status("http 503: loading"), _status("cut: ")
    ('served', 'rejected', 'failed', 'failed')
    """
    if not fault:
        return "served"
    return "rejected" if fault.startswith("http 4") else "failed"


async def _until(at_s: float) -> None:
    """Wait until an instant of the monotonic clock."""
    while (left_s := at_s - time.monotonic()) > 0:
        await asyncio.sleep(max(left_s - _AWAKE_S, 0.0))


def _without_done(under_way: set[asyncio.Task[None]]) -> None:
    """Forget what is done; an error in it (a full disk) ends the recording."""
    for task in [task for task in under_way if task.done()]:
        under_way.discard(task)
        task.result()
