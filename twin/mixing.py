"""The keyed choice of noise factors, compiled: millions of legs pass here.

Whatever else is drawn by a key in compiled code is `scrambled` too.
"""

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled, inlined


def chosen(
    *,
    keys: NDArray[np.uint64],
    key: NDArray[np.int64],
    words: NDArray[np.uint64],
    kind: NDArray[np.int64],
    choices: NDArray[np.float64],
    first: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return a choice for each place (n,), by a hash of its key and of the words of its kind alone.

    `key` and `kind` (n,) are rows of the keys and of the words (kinds, m); the choices of a kind are those from
    `first` of it up to the next kind's, of which there is one more. A kind without choices has 1.
    """
    found = np.empty(len(key))
    _choose(keys, key, words, kind, choices, first, found)
    return found


@compiled
def _choose(  # noqa: PLR0917 - compiled code takes columns one by one
    keys: NDArray[np.uint64], key: NDArray[np.int64], words: NDArray[np.uint64], kind: NDArray[np.int64],
    choices: NDArray[np.float64], first: NDArray[np.int64], found: NDArray[np.float64],
) -> None:  # fmt: skip
    for i in range(len(key)):
        k = kind[i]
        n = first[k + 1] - first[k]
        mixed = _mixed(keys[key[i]])
        for word in words[k]:
            mixed = _mixed(mixed ^ word)
        share = float(mixed >> np.uint64(11)) * 2.0**-53  # uniform on [0, 1)
        found[i] = choices[first[k] + int(share * n)] if n > 0 else 1.0


@inlined
def _mixed(key: np.uint64) -> np.uint64:
    return scrambled(key + np.uint64(0x9E3779B97F4A7C15))  # 2**64 / golden ratio


@inlined
def scrambled(z: np.uint64) -> np.uint64:
    """Return splitmix64's output function (Steele, Lea and Flood, OOPSLA 2014); wraps modulo 2**64 on purpose."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
