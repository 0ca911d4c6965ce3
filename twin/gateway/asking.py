"""What users ask of the gateway, one request at a time, and the experts that the router offers for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np
from simpy import Event

from twin.records.outcomes import Play
from twin.servers.leg import Leg


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A leg that the gateway may send: to which expert, with which weight, how long, and its noise."""

    expert: int
    weight: float
    prompt_tokens: int
    output_tokens: int
    prefill_factor: float
    decode_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of a user; `offers` are best first. `rank` orders those of an instant, as their ids do."""

    request_id: int | str
    rank: int
    user: int
    prompt: int
    category: str
    prompt_tokens: int
    output_tokens: int
    offers: Sequence[Offer]


@dataclass(slots=True, eq=False, kw_only=True)
class Sent:
    """One attempt at a leg, as the gateway remembers it; `given_up` says why it no longer waits for it."""

    leg: Leg
    offer: Offer
    attempt: int
    given_up: str | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Story:
    """What became of a request. `decided` comes when enough legs were served, or can no longer be."""

    ask: Ask
    arrived_s: float
    decided: Event
    finished_s: float = nan
    status: str = "unfinished"
    n_needed: int = 0
    n_open: int = 0  # legs that may still be served
    sent: list[Sent] = field(default_factory=list)

    def is_decided(self) -> bool:
        """Tell whether enough legs were served, or can no longer be."""
        return self.decided.triggered

    def tell(self, *, served: bool) -> None:
        """Count a leg that was served, or has failed for good."""
        self.n_open -= 1
        self.n_needed -= served
        if not self.is_decided() and (self.n_needed == 0 or self.n_open < self.n_needed):
            self.decided.succeed()

    def answer_tokens(self) -> int:
        """Return the length of the fused answer: that of the longest leg that was served."""
        return max(s.leg.output_tokens for s in self.sent if s.given_up is None and s.leg.status == "served")


def asks_of(given: Play) -> Iterator[Ask]:
    """Yield the requests of an open load in their order; each leg given is an offer."""
    requests, legs = given.requests, given.legs
    columns = (legs.expert, legs.weight, legs.prompt_tokens, legs.output_tokens)
    rows = zip(*(c.tolist() for c in (*columns, given.prefill_factor, given.decode_factor)), strict=True)
    offers = [
        Offer(expert=e, weight=w, prompt_tokens=p, output_tokens=o, prefill_factor=fp, decode_factor=fd)
        for e, w, p, o, fp, fd in rows
    ]
    starts = np.searchsorted(legs.request, np.arange(len(requests) + 1)).tolist()
    for row in range(len(requests)):
        yield Ask(
            request_id=requests.request_id[row].item()
            if requests.request_id.dtype.kind in "iu"
            else str(requests.request_id[row]),
            rank=int(given.rank[starts[row]]),
            user=int(requests.user_id[row]),
            prompt=int(requests.prompt[row]),
            category=str(requests.category[row]),
            prompt_tokens=int(requests.prompt_tokens[row]),
            output_tokens=int(requests.output_tokens[row]),
            offers=offers[starts[row] : starts[row + 1]],
        )
