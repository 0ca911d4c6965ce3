"""Users who wait for an answer before they ask again, at work: the story of each, in the world of events."""

from collections.abc import Generator, Sequence
from itertools import count
from math import log

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from twin.gateway.asking import Ask, Offer
from twin.gateway.live import Gateway
from twin.protocols import Router
from twin.randomness import noise_factors, share_of
from twin.servers.clock import Clock
from twin.servers.expert import Expert
from twin.users.prompts import PromptPool
from twin.users.visits import Visits


class Visitors:
    """Lets visits happen. What a user asks as its i-th, and how long it thinks then, depends on (seed, user, i) alone.

    So neither the order of events nor a policy of the gateway changes it. Prompts are drawn from `rows` of the pool.
    """

    def __init__(
        self,
        visits: Visits,
        experts: Sequence[Expert],
        *,
        pool: PromptPool,
        rows: NDArray[np.intp],
        router: Router,
        prompt_prefix_tokens: int,
        duration_s: float,
        seed: int,
    ) -> None:
        """`router` offers the experts; no turn begins at or after `duration_s`."""
        self.visits = visits
        self.experts = experts
        self.pool = pool
        self.rows = rows
        self.offered, self.weights = router.route(rows)  # (n rows, offers) both
        self.prefix_tokens = prompt_prefix_tokens
        self.duration_s = duration_s
        self.seed = seed

    def begin(self, clock: Clock, gateway: Gateway) -> None:
        """Let all visits begin, each at its instant."""
        for visit in range(len(self.visits.starts_s)):
            clock.process(self.visit(visit, clock, gateway))

    def visit(self, visit: int, clock: Clock, gateway: Gateway) -> Generator[Event, None, None]:
        """The story of one user, or of one session."""
        yield clock.at(float(self.visits.starts_s[visit]))
        n_turns, context_tokens = self.visits.n_turns, self.prefix_tokens
        for turn in count() if n_turns is None else range(n_turns):
            if clock.now >= self.duration_s:
                return
            ask = self.ask(visit, turn, context_tokens)
            story = yield from gateway.request(ask)
            if story.status == "unfinished" or (n_turns is not None and story.status != "served"):
                return
            if n_turns is not None:
                context_tokens = ask.prompt_tokens + story.answer_tokens()
            yield clock.at(clock.now + self.think_s(ask.rank))

    def think_s(self, request_id: int) -> float:
        """Return how long a user thinks after an answer."""
        if self.visits.think == "constant":
            return self.visits.think_s
        return -self.visits.think_s * log(1 - share_of(self.seed, "think", request_id))

    def ask(self, visit: int, turn: int, context_tokens: int) -> Ask:
        """Return what is asked as the `turn`-th of a visit, from 0, with so many tokens before it."""
        request_id = visit + turn * len(self.visits.starts_s)
        row = int(share_of(self.seed, "prompt", request_id) * len(self.rows))
        prompt = int(self.rows[row])
        tokens = int(self.pool.prompt_tokens[prompt]) + context_tokens
        return Ask(
            request_id=request_id,
            rank=request_id,
            user=int(self.visits.user[visit]),
            prompt=prompt,
            category=str(self.pool.category[prompt]),
            prompt_tokens=tokens,
            output_tokens=-1,
            offers=[
                self._offer(request_id, int(expert), float(weight), tokens, prompt)
                for expert, weight in zip(self.offered[row], self.weights[row], strict=True)
                if expert >= 0
            ],
        )

    def _offer(self, request_id: int, expert: int, weight: float, prompt_tokens: int, prompt: int) -> Offer:
        factors = [1.0, 1.0]
        asked = self.experts[expert]
        if asked.noise:
            profile, ids = asked.profile, np.array([request_id])
            factors = [
                float(noise_factors(choices, seed=self.seed, phase=phase, request_id=ids, expert=asked.name)[0])
                for phase, choices in (("prefill", profile.prefill_factors), ("decode", profile.decode_factors))
            ]
        return Offer(
            expert=expert,
            weight=weight,
            prompt_tokens=prompt_tokens,
            output_tokens=int(self.pool.output_tokens[prompt, expert]),
            prefill_factor=factors[0],
            decode_factor=factors[1],
        )
