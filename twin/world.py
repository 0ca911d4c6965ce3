"""The world: users send requests over the network to servers, and everything that happens is recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.profile import did_you_mean
from twin import simpy_engine
from twin.expert import Expert
from twin.load import Legs, Requests
from twin.network import Network
from twin.outcomes import LegOutcomes, Play, Played, play_of

__all__ = ["ENGINES", "Engine", "Run", "engine_of", "simulate"]

Engine = Literal["compiled", "simpy"]
ENGINES: tuple[Engine, ...] = ("compiled", "simpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution: what went in and what came out.

    `finished_s` (n requests) is when the answer was at its user, NaN where a leg was not served. `busy_*`
    (n experts) are the sums over a server's iterations. `horizon_s` is the later of the run's duration and the
    end of the last iteration anywhere: the time over which every device is accounted for.
    """

    experts: tuple[Expert, ...]
    requests: Requests
    legs: Legs
    outcomes: LegOutcomes
    finished_s: NDArray[np.float64]
    busy_s: NDArray[np.float64]
    busy_energy_j: NDArray[np.float64]
    horizon_s: float


def simulate(
    *,
    experts: Sequence[Expert],
    requests: Requests,
    legs: Legs,
    network: Network,
    duration_s: float,
    drain_cap_s: float,
    seed: int,
    engine: Engine = "compiled",
) -> Run:
    """Return what happens when the requests meet the experts; the same arguments give the same run.

    What is in the system at `duration_s` is drained for up to `drain_cap_s`. The engines agree; `simpy` makes every
    iteration an event. Raises ValueError for a request without a leg, two experts on one device, or a duration
    that is no positive number of seconds.
    """
    _check_experts(experts)
    _check_durations(requests, legs, duration_s, drain_cap_s)
    given = play_of(experts, requests, legs, network, stop_s=duration_s + drain_cap_s, seed=seed)
    played = _play_of(engine)(given)
    return Run(
        experts=tuple(experts),
        requests=requests,
        legs=legs,
        outcomes=played.outcomes,
        finished_s=played.finished_s,
        busy_s=played.busy_s,
        busy_energy_j=played.busy_energy_j,
        horizon_s=max(duration_s, float(played.last_s.max())),
    )


def engine_of(name: str) -> Engine:
    """Return the engine of that name; ValueError with a near match when there is none."""
    for engine in ENGINES:
        if name == engine:
            return engine
    raise ValueError(f"engine {name!r}: must be one of {', '.join(ENGINES)}{did_you_mean(name, ENGINES)}")


def _play_of(engine: Engine) -> Callable[[Play], Played]:
    if engine_of(engine) == "simpy":
        return simpy_engine.play
    from twin.compiled_engine import play  # noqa: PLC0415 - numba takes half a second to load

    return play


def _check_experts(experts: Sequence[Expert]) -> None:
    for key in ("name", "device"):
        found = [str(getattr(expert, key)) for expert in experts]
        if twice := sorted({name for name in found if found.count(name) > 1}):
            raise ValueError(
                f"experts: {key} {twice[0]!r} is used {found.count(twice[0])} times, must be once; "
                "a device carries one expert"
            )


def _check_durations(requests: Requests, legs: Legs, duration_s: float, drain_cap_s: float) -> None:
    if not (isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s is {duration_s}, must be a finite number of seconds above 0")
    if not (isfinite(drain_cap_s) and drain_cap_s >= 0):
        raise ValueError(f"drain_cap_s is {drain_cap_s}, must be a finite number of seconds, at least 0")
    if requests.arrived_s[-1] >= duration_s:
        raise ValueError(
            f"a request arrives at {requests.arrived_s[-1]} s, not before duration_s = {duration_s}; raise it"
        )
    if missing := len(requests) - len(np.unique(legs.request)):
        raise ValueError(f"{missing} of {len(requests)} requests have no leg; route every one to an expert")
