"""Chance: one stream per source, and residual noise that is keyed rather than drawn in order."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def streams(seed: int) -> dict[str, np.random.Generator]:
    """Return one generator per source of chance, so that drawing more from one leaves the others as they were."""
    # Append only: the order fixes the streams.
    names = ("arrivals", "users", "prompts", "modulation", "mobility", "shadowing")
    return dict(zip(names, np.random.default_rng(seed).spawn(len(names)), strict=True))


def noise_factors(
    factors: Sequence[float], *, seed: int, phase: str, request_id: NDArray[np.generic], expert: str
) -> NDArray[np.float64]:
    """Return one of `factors` for each request (n,), chosen by (seed, phase, request_id, expert) alone.

    They are rounded to multiples of 2**-40, so that sums over a batch are exact in whatever order they are made.
    """
    n = len(request_id)
    alone = {"request": np.arange(n), "expert": np.zeros(n, dtype=np.int64)}
    return noise_of_legs([factors], seed=seed, phase=phase, request_id=request_id, experts=[expert], **alone)


def noise_of_legs(
    factors: Sequence[Sequence[float]],
    *,
    seed: int,
    phase: str,
    request_id: NDArray[np.generic],
    experts: Sequence[str],
    request: NDArray[np.int64],
    expert: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return one of its expert's factors for each leg (n,), as `noise_factors` does; 1 where the expert has none.

    `request` and `expert` (n,) are rows of the ids and of the experts.
    """
    from twin.mixing import chosen  # noqa: PLC0415 - numba takes half a second to load, and noise may be off

    choices = np.array([factor for some in factors for factor in some], dtype=np.float64)
    words = np.array([[_hashed(word) for word in (str(seed), phase, name)] for name in experts], dtype=np.uint64)
    first = np.cumsum([0, *(len(some) for some in factors)])
    exact = np.round(choices * 2.0**40) / 2.0**40
    return chosen(keys=_keys(request_id), key=request, words=words, kind=expert, choices=exact, first=first)


def share_of(*words: object) -> float:
    """Return a number that is uniform on [0, 1), of the words alone: chance that no order of drawing changes."""
    return (_hashed(" ".join(str(word) for word in words)) >> 11) * 2.0**-53


def _keys(request_id: NDArray[np.generic]) -> NDArray[np.uint64]:
    if request_id.dtype.kind in "iu":
        return request_id.astype(np.uint64)
    hashes = (_hashed(str(name)) for name in request_id)
    return np.fromiter(hashes, dtype=np.uint64, count=len(request_id))


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
