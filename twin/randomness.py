"""Chance: one stream per source, and residual noise that is keyed rather than drawn in order."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio; splitmix64's increment


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
    choices = np.round(np.asarray(factors, dtype=np.float64) * 2.0**40) / 2.0**40
    key = _keys(request_id)
    for word in (str(seed), phase, expert):
        key = _mixed(key ^ np.uint64(_hashed(word)))
    share = (key >> np.uint64(11)) * 2.0**-53  # uniform on [0, 1)
    return choices[(share * len(choices)).astype(np.intp)]


def _keys(request_id: NDArray[np.generic]) -> NDArray[np.uint64]:
    if request_id.dtype.kind in "iu":
        return _mixed(request_id.astype(np.uint64))
    hashes = (_hashed(str(name)) for name in request_id)
    return _mixed(np.fromiter(hashes, dtype=np.uint64, count=len(request_id)))


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The output function of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); wraps modulo 2**64 on purpose.
    z = key + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
