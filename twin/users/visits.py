"""Users who wait for an answer before they ask again: a closed loop, and sessions of several turns."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite, log
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from calibration.profile import did_you_mean
from twin.gateway.asking import Ask, Offer
from twin.gateway.live import Gateway
from twin.protocols import Router
from twin.randomness import noise_factors, share_of, streams
from twin.servers.clock import Clock
from twin.servers.expert import Expert
from twin.users.arrivals import poisson_arrivals_s
from twin.users.prompts import PromptPool

Think = Literal["exponential", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """When users begin, `starts_s` in seconds and `user`, both (n,), and how each goes on.

    A user asks, waits for the answer, thinks for `think_s` (its mean, or always) and asks again, `n_turns` times, or
    without end when None. In a session (`n_turns` given) each turn has all before it as its context, and a turn
    without an answer ends it.
    """

    starts_s: NDArray[np.float64]
    user: NDArray[np.int64]
    think_s: float
    think: Think = "exponential"
    n_turns: int | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.think_s) and self.think_s > 0):
            raise ValueError(f"load: think_s is {self.think_s}, must be a finite number of seconds above 0")
        if self.think not in get_args(Think):
            raise ValueError(
                f"load: think is {self.think!r}, must be one of {', '.join(get_args(Think))}"
                f"{did_you_mean(self.think, get_args(Think))}"
            )
        if self.n_turns is not None and self.n_turns < 1:
            raise ValueError(f"load: a session has {self.n_turns} turns, must be at least 1")
        if len(self.starts_s) == 0:
            raise ValueError("the load is empty: no user begins; raise the number of users, the rate or duration_s")


def closed_loop(*, n_users: int, think_s: float, think: Think = "exponential", seed: int) -> Visits:
    """Return users who each think first and then ask, for ever. Of a constant think time the first is a random part."""
    if n_users < 1:
        raise ValueError(f"load: there are {n_users} users, must be at least 1")
    share = np.array([share_of(seed, "first think", user) for user in range(n_users)])
    starts_s = -think_s * np.log1p(-share) if think == "exponential" else think_s * share
    return Visits(starts_s=starts_s, user=np.arange(n_users), think_s=think_s, think=think)


def sessions(
    *,
    sessions_per_s: float,
    n_turns: int,
    think_s: float,
    think: Think = "exponential",
    n_users: int,
    duration_s: float,
    seed: int,
) -> Visits:
    """Return sessions of `n_turns` that begin as a Poisson process, each of a user drawn at random."""
    chance = streams(seed)
    starts_s = poisson_arrivals_s(chance["arrivals"], requests_per_s=sessions_per_s, duration_s=duration_s)
    user = chance["users"].integers(n_users, size=len(starts_s))
    return Visits(starts_s=starts_s, user=user, think_s=think_s, think=think, n_turns=n_turns)


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
