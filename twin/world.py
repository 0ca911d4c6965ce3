"""The world: users send requests over the network to servers, and everything that happens is recorded."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from twin.clock import Clock
from twin.expert import Expert
from twin.load import Legs, Requests, ranks
from twin.network import Network
from twin.randomness import noise_factors
from twin.server import Leg, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class LegOutcomes:
    """What became of each leg, in the order of the legs; columns (n,). Instants are NaN where not reached."""

    arrived_s: NDArray[np.float64]
    started_s: NDArray[np.float64]
    first_token_s: NDArray[np.float64]
    finished_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    status: NDArray[np.object_]
    reason: NDArray[np.object_]


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
) -> Run:
    """Return what happens when the requests meet the experts; the same arguments give the same run.

    What is in the system at `duration_s` is drained for up to `drain_cap_s`. Raises ValueError for a request
    without a leg, two experts on one device, or a duration that is no positive number of seconds.
    """
    _check_experts(experts)
    _check_durations(requests, legs, duration_s, drain_cap_s)
    clock = Clock()
    servers = [Server(clock, expert, stop_s=duration_s + drain_cap_s) for expert in experts]
    for server in servers:
        clock.process(server.serve())
    seen = _legs_as_seen(clock, experts, requests, legs, seed)
    finished_s = np.full(len(requests), nan)
    sends = _sends(requests, legs, [servers[i] for i in legs.expert.tolist()], seen)
    clock.process(_users(clock, network, requests.arrived_s.tolist(), sends, finished_s))
    clock.run()
    return Run(
        experts=tuple(experts),
        requests=requests,
        legs=legs,
        outcomes=_outcomes(seen),
        finished_s=finished_s,
        busy_s=np.array([server.busy_s for server in servers]),
        busy_energy_j=np.array([server.busy_energy_j for server in servers]),
        horizon_s=max(duration_s, *(server.last_s for server in servers)),
    )


Sends = list[tuple[Server, Leg]]
"""The legs of one request, each with the server it goes to."""


def _users(
    clock: Clock,
    network: Network,
    arrived_s: list[float],
    sends: list[Sends],
    finished_s: NDArray[np.float64],
) -> Generator[Event, None, None]:
    """All users together: one request after another, at its time."""
    for row, (sent_s, legs) in enumerate(zip(arrived_s, sends, strict=True)):
        yield clock.at(sent_s)
        clock.process(_request(clock, network, legs, row, finished_s))


def _request(
    clock: Clock, network: Network, legs: Sends, row: int, finished_s: NDArray[np.float64]
) -> Generator[Event, None, None]:
    """The story of one request: over the network to its servers, until the last leg is done, and back."""
    yield clock.at(network.at_server_s(clock.now))
    for server, leg in legs:
        server.submit(leg)
    for _, leg in legs:  # waiting for each in turn is waiting for all
        yield leg.done
    if all(leg.status == "served" for _, leg in legs):
        finished_s[row] = network.at_user_s(clock.now)


def _legs_as_seen(clock: Clock, experts: Sequence[Expert], requests: Requests, legs: Legs, seed: int) -> list[Leg]:
    """Return the legs as their servers will see them, costs of the prompt and noise included."""
    prefill_s, prefill_j, decode_factor = (np.full(len(legs), nan) for _ in range(3))
    for i, expert in enumerate(experts):
        mine = legs.expert == i
        P, ids = legs.prompt_tokens[mine], requests.request_id[legs.request[mine]]
        prefill_noise, decode_factor[mine] = _noise(expert, ids, seed)
        prefill_s[mine] = expert.profile.seconds.prefill_of(P) * prefill_noise
        if (joules := expert.profile.joules) is not None:
            prefill_j[mine] = joules.prefill_of(P) * prefill_noise
    columns = (
        ranks(requests.request_id)[legs.request],
        legs.prompt_tokens,
        legs.output_tokens,
        prefill_s,
        prefill_j,
        decode_factor,
    )
    return [
        Leg(
            rank=rank,
            prompt_tokens=prompt,
            output_tokens=output,
            prefill_s=s,
            prefill_j=j,
            decode_factor=factor,
            done=clock.event(),
        )
        for rank, prompt, output, s, j, factor in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _noise(
    expert: Expert, request_id: NDArray[np.generic], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the prefill and decode factors of an expert's legs (n,); 1 with noise off."""
    if not expert.noise:
        return np.ones(len(request_id)), np.ones(len(request_id))
    profile = expert.profile
    phases = (("prefill", profile.prefill_factors), ("decode", profile.decode_factors))
    prefill, decode = (
        noise_factors(factors, seed=seed, phase=phase, request_id=request_id, expert=expert.name)
        for phase, factors in phases
    )
    return prefill, decode


def _sends(requests: Requests, legs: Legs, servers: Sequence[Server], seen: Sequence[Leg]) -> list[Sends]:
    pairs = list(zip(servers, seen, strict=True))
    ends = np.searchsorted(legs.request, np.arange(len(requests)), side="right").tolist()
    return [pairs[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _outcomes(seen: Sequence[Leg]) -> LegOutcomes:
    n = len(seen)
    return LegOutcomes(
        arrived_s=np.fromiter((leg.arrived_s for leg in seen), np.float64, n),
        started_s=np.fromiter((leg.started_s for leg in seen), np.float64, n),
        first_token_s=np.fromiter((leg.first_token_s for leg in seen), np.float64, n),
        finished_s=np.fromiter((leg.finished_s for leg in seen), np.float64, n),
        energy_j=np.fromiter((leg.energy_j for leg in seen), np.float64, n),
        status=np.array([leg.status for leg in seen], dtype=object),
        reason=np.array([leg.reason for leg in seen], dtype=object),
    )


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
