"""The keyed choice of noise factors, compiled: millions of legs pass here."""

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled, inlined


def chosen(keys: NDArray[np.uint64], words: NDArray[np.uint64], choices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one of the choices for each key (n,), by a hash of the key and the words alone."""
    found = np.empty(len(keys))
    _choose(keys, words, choices, found)
    return found


@compiled
def _choose(
    keys: NDArray[np.uint64], words: NDArray[np.uint64], choices: NDArray[np.float64], found: NDArray[np.float64]
) -> None:
    for i in range(len(keys)):
        mixed = _mixed(keys[i])
        for word in words:
            mixed = _mixed(mixed ^ word)
        share = float(mixed >> np.uint64(11)) * 2.0**-53  # uniform on [0, 1)
        found[i] = choices[int(share * len(choices))]


@inlined
def _mixed(key: np.uint64) -> np.uint64:
    # The output function of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); wraps modulo 2**64 on purpose.
    z = key + np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
