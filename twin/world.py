"""The world: users send requests over the network to servers, and everything that happens is recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.profile import did_you_mean
from twin.gateway.rules import Rules
from twin.network import Link, Network
from twin.protocols import Router
from twin.radio.record import RadioRecord
from twin.records.outcomes import LegOutcomes, Play, Played, play_of
from twin.servers.course import Course, courses_of
from twin.servers.expert import Expert
from twin.servers.faults import Fault
from twin.users.load import Legs, Requests
from twin.users.prompts import PromptPool
from twin.users.visits import Visits

__all__ = ["ENGINES", "Engine", "Run", "engine_of", "simulate", "simulate_visits"]

Engine = Literal["compiled", "simpy"]
ENGINES: tuple[Engine, ...] = ("compiled", "simpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution: what went in and what came out.

    Every attempt at a leg is a row of the legs; `attempt` is its number, from 1. `finished_s` (n requests) is when the
    answer was at its user, NaN for a request that was not served; `status_code` (n requests) indexes `STATUSES`. The
    seconds and joules are those of `devices` (n devices), in the order of their first experts; joules are NaN when a
    cost is unknown. `horizon_s` is the later of the run's duration and the end of the last iteration anywhere: the
    time over which every device is accounted for.
    """

    experts: tuple[Expert, ...]
    requests: Requests
    legs: Legs
    attempt: NDArray[np.int64]
    outcomes: LegOutcomes
    finished_s: NDArray[np.float64]
    status_code: NDArray[np.int8]
    devices: tuple[str, ...]
    busy_s: NDArray[np.float64]
    busy_energy_j: NDArray[np.float64]
    idle_energy_j: NDArray[np.float64]
    overhead_energy_j: NDArray[np.float64]
    horizon_s: float
    radio: RadioRecord | None = None


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
    faults: Mapping[str, Sequence[Fault]] = MappingProxyType({}),
    rules: Rules | None = None,
) -> Run:
    """Return what happens when the requests meet the experts; the same arguments give the same run.

    What is in the system at `duration_s` is drained for up to `drain_cap_s`. The engines agree; `simpy` makes every
    iteration an event. `faults` are what befalls devices, by their names. With `rules` of the gateway, the legs are
    those that it may send, best first; all those that it did send are in the run. Raises ValueError for a request
    without a leg, two experts of one name, a fault of an unknown device, or a duration that is no positive number of
    seconds.
    """
    _check_experts(experts)
    _check_durations(requests, legs, duration_s, drain_cap_s)
    stop_s = duration_s + drain_cap_s
    courses = courses_of(experts, faults, stop_s)
    given = play_of(experts, requests, legs, network, courses=courses, stop_s=stop_s, seed=seed)
    if rules is None:
        played = _play_of(engine)(given)
    else:
        from twin.engines.interactive import interact, open_users  # noqa: PLC0415 - see docs/decisions/start.md

        played = interact(
            experts,
            courses,
            given.link,
            rules,
            open_users(given),
            stop_s=stop_s,
            compiled=engine_of(engine) == "compiled",
        )
    return _run_of(played, experts, courses, given.link, duration_s)


def simulate_visits(
    *,
    experts: Sequence[Expert],
    visits: Visits,
    pool: PromptPool,
    rows: NDArray[np.intp],
    router: Router,
    network: Network,
    duration_s: float,
    drain_cap_s: float,
    seed: int,
    prompt_prefix_tokens: int = 0,
    engine: Engine = "compiled",
    faults: Mapping[str, Sequence[Fault]] = MappingProxyType({}),
    rules: Rules | None = None,
) -> Run:
    """Return what happens when users wait for each answer before they ask again; see `simulate` and `Visits`.

    Prompts are drawn from `rows` of the pool, `prompt_prefix_tokens` before each; `router` offers the experts.
    """
    from twin.engines.interactive import interact  # noqa: PLC0415 - see docs/decisions/start.md
    from twin.users.visitors import Visitors  # noqa: PLC0415

    _check_experts(experts)
    _check_seconds(duration_s, drain_cap_s)
    stop_s = duration_s + drain_cap_s
    courses, link = courses_of(experts, faults, stop_s), network.begin(seed=seed, stop_s=stop_s)
    visitors = Visitors(
        visits,
        experts,
        pool=pool,
        rows=rows,
        router=router,
        prompt_prefix_tokens=prompt_prefix_tokens,
        duration_s=duration_s,
        seed=seed,
    )
    compiled = engine_of(engine) == "compiled"
    played = interact(experts, courses, link, rules or Rules(), visitors.begin, stop_s=stop_s, compiled=compiled)
    return _run_of(played, experts, courses, link, duration_s)


def _run_of(played: Played, experts: Sequence[Expert], courses: Sequence[Course], link: Link, duration_s: float) -> Run:
    accounts = played.accounts
    horizon_s = max(duration_s, *(account.last_s for account in accounts))
    sharing = [[experts[i] for i in course.experts] for course in courses]
    return Run(
        experts=tuple(experts),
        requests=played.requests,
        legs=played.legs,
        attempt=played.attempt,
        outcomes=played.outcomes,
        finished_s=played.finished_s,
        status_code=played.status_code,
        devices=tuple(course.device for course in courses),
        busy_s=np.array([account.busy_s for account in accounts]),
        busy_energy_j=np.array([account.busy_energy_j for account in accounts]),
        idle_energy_j=np.array([a.idle_j(e, horizon_s) for a, e in zip(accounts, sharing, strict=True)]),
        overhead_energy_j=np.array([account.overhead_j(horizon_s) for account in accounts]),
        horizon_s=horizon_s,
        radio=link.record(duration_s),
    )


def engine_of(name: str) -> Engine:
    """Return the engine of that name; ValueError with a near match when there is none."""
    for engine in ENGINES:
        if name == engine:
            return engine
    raise ValueError(f"engine {name!r}: must be one of {', '.join(ENGINES)}{did_you_mean(name, ENGINES)}")


def _play_of(engine: Engine) -> Callable[[Play], Played]:
    if engine_of(engine) == "simpy":
        from twin.engines import simpy_engine  # noqa: PLC0415 - see docs/decisions/start.md

        return simpy_engine.play
    from twin.engines import compiled_engine  # noqa: PLC0415 - see docs/decisions/start.md

    return compiled_engine.play


def _check_experts(experts: Sequence[Expert]) -> None:
    names = [expert.name for expert in experts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"experts: name {twice[0]!r} is used {names.count(twice[0])} times, must be once")


def _check_seconds(duration_s: float, drain_cap_s: float) -> None:
    if not (isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s is {duration_s}, must be a finite number of seconds above 0")
    if not (isfinite(drain_cap_s) and drain_cap_s >= 0):
        raise ValueError(f"drain_cap_s is {drain_cap_s}, must be a finite number of seconds, at least 0")


def _check_durations(requests: Requests, legs: Legs, duration_s: float, drain_cap_s: float) -> None:
    _check_seconds(duration_s, drain_cap_s)
    if requests.arrived_s[-1] >= duration_s:
        raise ValueError(
            f"a request arrives at {requests.arrived_s[-1]} s, not before duration_s = {duration_s}; raise it"
        )
    if missing := len(requests) - len(legs.first()):
        raise ValueError(f"{missing} of {len(requests)} requests have no leg; route every one to an expert")
