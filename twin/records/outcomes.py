"""What an engine is given and what it returns, as columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.network import Link, Network
from twin.randomness import noise_of_legs
from twin.servers.course import Account, Course
from twin.servers.expert import Expert
from twin.users.load import Legs, Requests, ranks

STATUSES = np.array(["unfinished", "served", "rejected", "failed"], dtype=object)
UNFINISHED, SERVED, REJECTED, FAILED = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegOutcomes:
    """What became of each leg, in the order of the legs; columns (n,). Instants are NaN where not reached.

    `status_code` indexes `STATUSES`; `reason` holds why a leg was rejected or failed, by its row.
    """

    arrived_s: NDArray[np.float64]
    started_s: NDArray[np.float64]
    first_token_s: NDArray[np.float64]
    finished_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    status_code: NDArray[np.int8]
    reasons: dict[int, str]

    @property
    def status(self) -> NDArray[np.object_]:
        """What became of each leg, in words (n,)."""
        return np.asarray(STATUSES[self.status_code])

    @property
    def reason(self) -> NDArray[np.object_]:
        """Why each leg was rejected or failed (n,); None for the others."""
        reason = np.full(len(self.status_code), None, dtype=object)
        for row, why in self.reasons.items():
            reason[row] = why
        return reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What became of requests, in the order of (arrival, id), of their legs, and of each device.

    Every attempt at a leg is a row of the legs; `attempt` is its number, from 1. `finished_s` (n requests) is when the
    answer was at its user, `status_code` (n requests) indexes `STATUSES`.
    """

    requests: Requests
    legs: Legs
    attempt: NDArray[np.int64]
    outcomes: LegOutcomes
    finished_s: NDArray[np.float64]
    status_code: NDArray[np.int8]
    accounts: tuple[Account, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What an engine is given; `rank` orders legs that arrive together, the factors are their noise; (n legs,).

    `answer_tokens` (n requests) is what goes back to the user: the gateway fuses the legs into one answer, as long as
    the longest of theirs.
    """

    experts: Sequence[Expert]
    courses: Sequence[Course]
    requests: Requests
    legs: Legs
    link: Link
    answer_tokens: NDArray[np.int64]
    stop_s: float
    rank: NDArray[np.intp]
    prefill_factor: NDArray[np.float64]
    decode_factor: NDArray[np.float64]


def played(
    given: Play, outcomes: LegOutcomes, finished_s: NDArray[np.float64], accounts: tuple[Account, ...]
) -> Played:
    """Return what became of an open load of which every leg is tried once.

    A request is served when its answer is at its user, else rejected, failed or unfinished as one of its legs.
    """
    status_code = np.where(np.isnan(finished_s), UNFINISHED, SERVED).astype(np.int8)
    for code in (UNFINISHED, FAILED, REJECTED):
        status_code[given.legs.request[outcomes.status_code == code]] = code
    return Played(
        requests=given.requests,
        legs=given.legs,
        attempt=np.ones(len(given.legs), dtype=np.int64),
        outcomes=outcomes,
        finished_s=finished_s,
        status_code=status_code,
        accounts=accounts,
    )


def play_of(
    experts: Sequence[Expert],
    requests: Requests,
    legs: Legs,
    network: Network,
    *,
    courses: Sequence[Course],
    stop_s: float,
    seed: int,
) -> Play:
    """Return what the engines are given, noise drawn."""
    prefill_factor, decode_factor = (_noise(experts, requests, legs, phase, seed) for phase in ("prefill", "decode"))
    return Play(
        experts=experts,
        courses=courses,
        requests=requests,
        legs=legs,
        link=network.begin(seed=seed, stop_s=stop_s),
        answer_tokens=legs.greatest(legs.output_tokens),
        stop_s=stop_s,
        rank=ranks(requests.request_id)[legs.request],
        prefill_factor=prefill_factor,
        decode_factor=decode_factor,
    )


def _noise(experts: Sequence[Expert], requests: Requests, legs: Legs, phase: str, seed: int) -> NDArray[np.float64]:
    """Return the noise factor of a phase for each leg (n legs)."""
    if not any(expert.noise for expert in experts):
        return np.ones(len(legs))
    return noise_of_legs(
        [getattr(expert.profile, f"{phase}_factors") if expert.noise else () for expert in experts],
        seed=seed,
        phase=phase,
        request_id=requests.request_id,
        experts=[expert.name for expert in experts],
        request=legs.request,
        expert=legs.expert,
    )
