"""What a device may be set to, and what it would then take to serve its share of the load, as a queue predicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import expm1, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from calibration.costs import Costs
from twin.servers.expert import Expert

__all__ = ["Legs", "Predicted", "alternatives", "predict"]

FACTORS = (0.5, 2.0, 4.0)  # of the scenario's own max_batch, where no values are named


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Legs:
    """The legs that one expert is asked for: arrivals per second, and the tokens of each kind of leg, shape (n,)."""

    per_s: float
    prompt_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a queue predicts of one expert.

    Attributes:
        busy: share of the time that the server works when all its slots are taken; at 1 and above it cannot keep up.
        slower: how many times longer a leg is served than alone, since it shares iterations.
        wait_s: seconds that a leg waits for a slot.
        thrift: joules of a leg over those of a lone leg; 1 where they are not known.
        idle: share of the time that no iteration runs.
    """

    busy: float
    slower: float
    wait_s: float
    thrift: float
    idle: float


def alternatives(expert: Expert, max_batches: Sequence[int] | None) -> tuple[Expert, ...]:
    """Return an expert as the scenario has it, and as it may be set where its profile has batch terms.

    The largest batches to choose from are those named, else half, twice and four times its own.
    """
    profiles = (expert.profile, *expert.power_modes.values())  # of every mode that it may be switched to
    if any(profile.seconds.per_sequence is None for profile in profiles):
        return (expert,)
    wanted = [max(1, round(f * expert.max_batch)) for f in FACTORS] if max_batches is None else max_batches
    fitting = sorted({b for b in wanted if b != expert.max_batch and b <= expert.kv_capacity_tokens})
    return (expert, *(replace(expert, max_batch=b) for b in fitting))


def predict(expert: Expert, legs: Legs) -> Predicted:
    """Return what serving these legs takes, on average and in the long run.

    The server works off b requests in b prefills and, side by side, their decode iterations; so it is busy
    λ (p + o D(b) / b), with p the mean prefill, o the mean number of iterations and D(b) the length of one. The
    number B in service while there are any follows from Little's law, N = λ s(B), and, as if every leg had a server of
    its own, from B = N / (1 - e^-N). The wait is Sakasegawa's approximation for b servers,
    s / b · ρ^(√(2(b + 1)) - 1) / (1 - ρ) (Annals of the Institute of Statistical Mathematics 29, 1977), exact for
    b = 1 and exponential service. It proposes what to try; the twin has the last word.
    """
    if legs.per_s == 0 or not len(legs.prompt_tokens):
        return Predicted(busy=0.0, slower=1.0, wait_s=0.0, thrift=1.0, idle=1.0)
    size = float((legs.prompt_tokens + legs.output_tokens).mean())
    b = max(1, min(expert.max_batch, int(expert.kv_capacity_tokens / size)))
    seconds, joules = _Means.of(expert.profile.seconds, legs), _Means.of(expert.profile.joules, legs)
    busy = legs.per_s * seconds.shared(b)
    if busy >= 1:
        return Predicted(busy=busy, slower=inf, wait_s=inf, thrift=joules.shared(b) / joules.shared(1), idle=0.0)
    running = _running(seconds, legs.per_s, b)
    served_s = _served_s(seconds, legs.per_s, running)
    return Predicted(
        busy=busy,
        slower=served_s / seconds.shared(1),
        wait_s=served_s / b * busy ** (sqrt(2 * (b + 1)) - 1) / (1 - busy),
        thrift=joules.shared(running) / joules.shared(1),
        idle=max(0.0, 1 - legs.per_s * seconds.shared(running)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """Mean costs of a leg: its prefill, and its decode iterations, fixed and for each running sequence."""

    prefill: float
    fixed: float
    per_running: float

    @classmethod
    def of(cls, costs: Costs | None, legs: Legs) -> _Means:
        if costs is None:
            return cls(prefill=1.0, fixed=0.0, per_running=0.0)  # not known: the same, however it is shared
        iterations, context = legs.output_tokens - 1, legs.prompt_tokens + legs.output_tokens / 2
        per_running = (costs.per_sequence or 0.0) + costs.per_context_token * context
        return cls(
            prefill=float(np.mean(costs.prefill_of(legs.prompt_tokens))),
            fixed=float(costs.base * iterations.mean()),
            per_running=float((iterations * per_running).mean()),
        )

    def whole(self, n_running: float) -> float:
        """Return the cost of a leg's iterations with so many running, its prefill included."""
        return self.prefill + self.fixed + n_running * self.per_running

    def shared(self, n_running: float) -> float:
        """Return a leg's part of that, decode iterations shared among the running."""
        return self.prefill + self.fixed / n_running + self.per_running


def _served_s(seconds: _Means, per_s: float, n_running: float) -> float:
    """Return how long a leg is served beside others, whose prefills it waits for."""
    others = (n_running - 1) / n_running
    return seconds.whole(n_running) / (1 - per_s * seconds.prefill * others)


def _running(seconds: _Means, per_s: float, b: int) -> float:
    """Return the mean number of legs in service while there are any, between 1 and b."""
    low, high = 1.0, float(b)
    for _ in range(30 if b > 1 else 0):
        middle = (low + high) / 2
        present = per_s * _served_s(seconds, per_s, middle)
        low, high = (middle, high) if present > -middle * expm1(-present) else (low, middle)
    return (low + high) / 2
