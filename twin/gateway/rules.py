"""The gateway's rules: what it asks of the experts at once, how long it waits, and what it does when that fails."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal, get_args

from calibration.profile import did_you_mean

Retry = Literal["next", "same"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of the gateway; without any it asks all experts of a request at once and waits for every leg.

    `k` experts are asked of those that the router offers (None: all), `quorum` of their answers suffice (None: all k).
    With `load_aware` they are those with the shortest predicted work, else the first. A leg without an answer at the
    gateway after `timeout_s` fails; a leg that failed is tried again, in all `max_attempts` times, after `backoff_s`,
    twice that and so on: on the `next` expert that was offered and not asked, or on the `same`. While
    `admission_limit` requests are at the gateway (None: no limit) others are rejected. `gate_s` is the gate's time
    per prompt; it decides on all prompts that wait as one batch.
    """

    k: int | None = None
    quorum: int | None = None
    load_aware: bool = False
    timeout_s: float = inf
    max_attempts: int = 1
    backoff_s: float = 0.0
    retry: Retry = "next"
    admission_limit: int | None = None
    gate_s: float = 0.0

    def __post_init__(self) -> None:
        for key in ("k", "quorum", "max_attempts", "admission_limit"):
            found = getattr(self, key)
            if found is not None and found < 1:
                raise ValueError(f"gateway: {key} is {found}, must be at least 1")
        if self.k is not None and self.quorum is not None and self.quorum > self.k:
            raise ValueError(f"gateway: quorum is {self.quorum}, but only k = {self.k} experts are asked")
        if not self.timeout_s > 0:
            raise ValueError(f"gateway: timeout_s is {self.timeout_s}, must be above 0")
        for key in ("backoff_s", "gate_s"):
            found = getattr(self, key)
            if not (isfinite(found) and found >= 0):
                raise ValueError(f"gateway: {key} is {found}, must be a finite number of seconds, at least 0")
        if self.retry not in get_args(Retry):
            raise ValueError(
                f"gateway: retry is {self.retry!r}, must be 'next' or 'same'{did_you_mean(self.retry, get_args(Retry))}"
            )
