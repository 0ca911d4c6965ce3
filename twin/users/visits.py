"""Users who wait for an answer before they ask again: a closed loop, and sessions of several turns."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.profile import did_you_mean
from twin.randomness import share_of, streams
from twin.users.arrivals import poisson_arrivals_s

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
