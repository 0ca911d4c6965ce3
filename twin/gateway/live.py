"""The gateway where it matters what happens meanwhile: it limits, retries, and looks at the load."""

from collections.abc import Generator, Sequence
from math import inf, isinf
from typing import Protocol

from simpy import Event

from twin.gateway.asking import Ask, Offer, Sent, Story
from twin.gateway.backlog import Backlog
from twin.gateway.rules import Rules
from twin.network import Link
from twin.servers.clock import Clock
from twin.servers.leg import Leg


class Port(Protocol):
    """The way into a server, of either engine."""

    def submit(self, leg: Leg) -> None:
        """Let a leg arrive now; its `done` tells the end."""
        ...


class Gateway:
    """Takes requests, sends their legs, and answers. After the drain's end it starts nothing any more."""

    def __init__(
        self,
        clock: Clock,
        ports: Sequence[Port],
        *,
        link: Link,
        rules: Rules,
        backlogs: Sequence[Backlog],
        devices: Sequence[str],
        stop_s: float,
    ) -> None:
        """`ports`, `backlogs` and the names of `devices` are by expert; `stop_s` is the end of the drain."""
        self.clock = clock
        self.ports = ports
        self.link = link
        self.rules = rules
        self.backlogs = backlogs
        self.devices = devices
        self.stop_s = stop_s
        self.stories: list[Story] = []
        self.n_inside = 0  # requests at the gateway, from admission to the answer
        self.at_gate: list[Event] = []
        self.rung = clock.event()
        if rules.gate_s > 0:
            clock.process(self.gate())

    def request(self, ask: Ask) -> Generator[Event, None, Story]:
        """The story of one request, from its user and back."""
        story = Story(ask=ask, arrived_s=self.clock.now, decided=self.clock.event())
        self.stories.append(story)
        at_gateway_s = self.link.at_gateway_s(self.clock.now, ask.user, ask.prompt_tokens)
        if isinf(at_gateway_s):
            return story
        yield self.clock.at(at_gateway_s)
        limit = self.rules.admission_limit
        if limit is not None and self.n_inside >= limit:
            story.status = "rejected"
            return story
        self.n_inside += 1
        if self.rules.gate_s > 0:
            yield self.ring()
        self.send_all(story)
        yield story.decided
        self.n_inside -= 1
        yield from self.answer(story)
        return story

    def gate(self) -> Generator[Event, None, None]:
        """The gate takes all prompts that wait as one batch."""
        while True:
            if not self.at_gate:
                self.rung = self.clock.event()
                yield self.rung
            batch, self.at_gate = self.at_gate, []
            yield self.clock.at(self.clock.now + self.rules.gate_s * len(batch))
            for decided in batch:
                decided.succeed()

    def ring(self) -> Event:
        """Return when the gate has decided on a prompt that it is given now."""
        decided = self.clock.event()
        self.at_gate.append(decided)
        if not self.rung.triggered:
            self.rung.succeed()
        return decided

    def send_all(self, story: Story) -> None:
        """Choose the experts of a request and send its legs."""
        offers = list(story.ask.offers)
        if self.rules.load_aware:  # a stable sort: the gate's order decides between equals
            offers.sort(key=lambda offer: self.backlogs[offer.expert].work_s(self.clock.now))
        k = min(self.rules.k or len(offers), len(offers))
        spare = offers[k:]
        story.n_open, story.n_needed = k, min(self.rules.quorum or k, k)
        for offer in offers[:k]:
            self.clock.process(self.leg(story, offer, spare))

    def leg(self, story: Story, offer: Offer, spare: list[Offer]) -> Generator[Event, None, None]:
        """Try a leg until it is served, or no longer needed, or has failed often enough."""
        for attempt in range(1, self.rules.max_attempts + 1):
            if attempt > 1:
                yield self.clock.at(self.clock.now + self.rules.backoff_s * 2 ** (attempt - 2))
                offer = spare.pop(0) if spare and self.rules.retry == "next" else offer
            if story.is_decided():
                return
            if self.clock.now >= self.stop_s:  # it stays unfinished
                return
            sent = self.sent(story, offer, attempt)
            yield from self.wait(sent)
            served = sent.given_up is None and sent.leg.status == "served"
            if served and story.is_decided() and story.n_needed == 0:
                sent.given_up = "not needed: enough others were served before"
            elif served:
                story.tell(served=True)
            if served or story.is_decided():
                return
        story.tell(served=False)

    def wait(self, sent: Sent) -> Generator[Event, None, None]:
        """Send a leg and wait until its answer is back, or for too long."""
        leg, backlog, sent_s = sent.leg, self.backlogs[sent.offer.expert], self.clock.now
        backlog.add(leg, sent_s)
        self.clock.process(self.carry(sent))
        gives_up_s = sent_s + self.rules.timeout_s
        if gives_up_s >= self.stop_s:
            gives_up_s = inf
            yield leg.done
        else:
            yield leg.done | self.clock.at(gives_up_s)
        back_s = self.over_lan_s(sent) if leg.done.triggered else inf
        yield self.clock.at(max(min(back_s, gives_up_s), self.clock.now))
        backlog.remove(leg, self.clock.now)
        if back_s >= gives_up_s:
            sent.given_up = f"no answer within {self.rules.timeout_s:g} s"

    def carry(self, sent: Sent) -> Generator[Event, None, None]:
        """Bring a leg to its server, which may take longer than the gateway waits for the answer."""
        yield self.clock.at(self.over_lan_s(sent))
        self.ports[sent.offer.expert].submit(sent.leg)

    def over_lan_s(self, sent: Sent) -> float:
        """Return when what leaves now is over the LAN, from the gateway to the leg's device or back."""
        return self.link.over_lan_s(self.clock.now, self.devices[sent.offer.expert])

    def sent(self, story: Story, offer: Offer, attempt: int) -> Sent:
        """Return a new attempt, noted in the request's story."""
        leg = Leg(
            rank=story.ask.rank * self.rules.max_attempts + attempt - 1,
            prompt_tokens=offer.prompt_tokens,
            output_tokens=offer.output_tokens,
            prefill_factor=offer.prefill_factor,
            decode_factor=offer.decode_factor,
            done=self.clock.event(),
        )
        sent = Sent(leg=leg, offer=offer, attempt=attempt)
        story.sent.append(sent)
        return sent

    def answer(self, story: Story) -> Generator[Event, None, None]:
        """Send the answer to the user, or say why there is none."""
        if story.n_needed > 0:
            ends = {sent.leg.status for sent in story.sent if sent.given_up is None}
            story.status = "rejected" if "rejected" in ends else "failed"
            return
        at_user_s = self.link.at_user_s(self.clock.now, story.ask.user, story.answer_tokens())
        if not isinf(at_user_s):
            yield self.clock.at(at_user_s)
            story.finished_s, story.status = self.clock.now, "served"
