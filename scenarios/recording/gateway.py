"""The gateway on the wall's clock, by the rules of the twin's (`twin.gateway.live`): it limits, waits, tries again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite

from twin.gateway.backlog import Backlog
from twin.gateway.rules import Rules

__all__ = ["Attempt", "Gateway", "Told", "until"]

_AWAKE_S = 0.002  # a sleep may end that much late: the rest is waited for awake


@dataclass(slots=True, eq=False, kw_only=True)
class Attempt:
    """One attempt at a leg, a row of the load's legs; `given_up` says why the gateway no longer waits for it."""

    leg: int
    expert: int
    attempt: int
    prompt_tokens: int
    output_tokens: int
    planned_s: float  # of the monotonic clock
    status: str | None = None
    given_up: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Whom the gateway tells: of an attempt that it gives up, and of a request that gets no answer (its status)."""

    gave_up: Callable[[Attempt], None]
    unanswered: Callable[[int, str], None]


@dataclass(slots=True, eq=False, kw_only=True)
class _Story:
    n_needed: int
    n_open: int
    attempts: list[Attempt] = field(default_factory=list)
    decided: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, *, served: bool) -> None:
        """Count a leg that was served, or has failed for good."""
        self.n_open -= 1
        self.n_needed -= served
        if self.n_needed == 0 or self.n_open < self.n_needed:
            self.decided.set()


class Gateway:
    """Sends the legs of requests and joins what comes back. `ask` sends one attempt and returns when it has ended.

    `begin` starts a task that is part of the recording. Nothing is sent at or after `stop_s` of the monotonic clock.
    """

    def __init__(
        self,
        rules: Rules,
        backlogs: Sequence[Backlog],
        ask: Callable[[Attempt], Awaitable[None]],
        told: Told,
        *,
        begin: Callable[[Awaitable[None]], asyncio.Future[None]],
        stop_s: float,
    ) -> None:
        self.rules, self.backlogs, self.ask, self.told = rules, backlogs, ask, told
        self.begin, self.stop_s = begin, stop_s
        self.n_inside = 0
        self.at_gate: list[asyncio.Future[float]] = []
        self.deciding = False

    async def request(self, request: int, offers: Sequence[Attempt]) -> None:
        """Take a request with the legs that the router offers for it, best first, and see it through."""
        limit = self.rules.admission_limit
        if limit is not None and self.n_inside >= limit:
            self.told.unanswered(request, "rejected")
            return
        self.n_inside += 1
        offered = list(offers)
        if self.rules.gate_s > 0:
            late_s = time.monotonic() - offered[0].planned_s
            decided_s = await self._decided_by_gate()
            for offer in offered:
                offer.planned_s = decided_s - late_s
        if self.rules.load_aware:  # a stable sort: the gate's order decides between equals
            now_s = time.monotonic()
            offered.sort(key=lambda offer: self.backlogs[offer.expert].work_s(now_s))
        k = min(self.rules.k or len(offered), len(offered))
        story, spare = _Story(n_needed=min(self.rules.quorum or k, k), n_open=k), offered[k:]
        for offer in offered[:k]:
            self.begin(self._leg(story, offer, spare))
        await story.decided.wait()
        self.n_inside -= 1
        if story.n_needed > 0:
            ends = {attempt.status for attempt in story.attempts if attempt.given_up is None}
            self.told.unanswered(request, "rejected" if "rejected" in ends else "failed")

    async def _leg(self, story: _Story, offer: Attempt, spare: list[Attempt]) -> None:
        """Try a leg until it is served, or no longer needed, or has failed often enough."""
        planned_s = offer.planned_s
        for attempt in range(1, self.rules.max_attempts + 1):
            if attempt > 1:
                planned_s = time.monotonic() + self.rules.backoff_s * 2 ** (attempt - 2)
                await until(planned_s)
                offer = spare.pop(0) if spare and self.rules.retry == "next" else offer
            if story.decided.is_set() or time.monotonic() >= self.stop_s:
                return
            sent = _sent(offer, attempt, planned_s)
            story.attempts.append(sent)
            await self._wait(sent)
            served = sent.given_up is None and sent.status == "served"
            if served and story.decided.is_set() and story.n_needed == 0:
                sent.given_up = "not needed: enough others were served before"
                self.told.gave_up(sent)
            elif served:
                story.tell(served=True)
            if served or story.decided.is_set():
                return
        story.tell(served=False)

    async def _wait(self, sent: Attempt) -> None:
        """Send a leg and wait until its answer is back, or for too long; the server is not told of that."""
        backlog, begun_s = self.backlogs[sent.expert], time.monotonic()
        backlog.add(sent, begun_s)
        patience_s = self.rules.timeout_s
        waits = isfinite(patience_s) and begun_s + patience_s < self.stop_s
        asked = self.begin(self.ask(sent))
        await asyncio.wait({asked}, timeout=patience_s if waits else None)
        backlog.remove(sent, time.monotonic())
        if not asked.done():
            sent.given_up = f"no answer within {patience_s:g} s"
            self.told.gave_up(sent)

    async def _decided_by_gate(self) -> float:
        """Wait for the gate, which takes all prompts that wait as one batch; returns when it was to be done."""
        mine: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.at_gate.append(mine)
        if not self.deciding:
            self.begin(self._gate())
            self.deciding = True
        return await mine

    async def _gate(self) -> None:
        while self.at_gate:
            batch, self.at_gate = self.at_gate, []
            done_s = time.monotonic() + self.rules.gate_s * len(batch)
            await until(done_s)
            for decided in batch:
                if not decided.done():  # whose request was hung up
                    decided.set_result(done_s)
        self.deciding = False


def _sent(offer: Attempt, attempt: int, planned_s: float) -> Attempt:
    """Return a new attempt at a leg that is to be sent at an instant of the monotonic clock."""
    return Attempt(
        leg=offer.leg,
        expert=offer.expert,
        attempt=attempt,
        prompt_tokens=offer.prompt_tokens,
        output_tokens=offer.output_tokens,
        planned_s=planned_s,
    )


async def until(at_s: float) -> None:
    """Wait until an instant of the monotonic clock."""
    while (left_s := at_s - time.monotonic()) > 0:
        await asyncio.sleep(max(left_s - _AWAKE_S, 0.0))
