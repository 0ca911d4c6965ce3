"""Prefill in tiles: a prompt costs as much as the next multiple of a tile, where cross-validation says so."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.costs import padded
from calibration.fit import left_out, prefill_terms

TILES = (1, 64, 128, 256)
"""Tile sizes tried, in tokens; 1 is the smooth form."""
LEAST_GAIN = 0.1
"""A tile must lower the cross-validated error by this share to be preferred to the smooth form."""
LEAST_LENGTHS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The tile that cross-validation prefers, and each tile's error, the median of |measured / predicted - 1|."""

    tile: int
    errors: dict[int, float]


def padded_terms(prompt_tokens: ArrayLike, tile: int) -> NDArray[np.float64]:
    """Return the terms of prompts padded to whole tiles, shape (n, 3).

    >>> padded_terms([200], 128).tolist()
    [[1.0, 256.0, 65536.0]]
    """
    return prefill_terms(padded(prompt_tokens, tile))


def chosen_tiling(prompt_tokens: ArrayLike, measured: ArrayLike) -> Tiling:
    """Return the tile with the least error by leave-one-length-out; the smooth form unless a tile is clearly better."""
    P = np.asarray(prompt_tokens)
    if len(np.unique(P)) < LEAST_LENGTHS:
        return Tiling(tile=1, errors={})
    errors = {}
    for tile in TILES:
        try:
            found, _ = left_out(padded_terms(P, tile), measured, P)
        except ValueError:
            continue
        if np.isfinite(found).any():
            errors[tile] = float(np.nanmedian(np.abs(found)))
    best = min(errors, key=errors.__getitem__, default=1)
    clear = best in errors and 1 in errors and errors[best] < (1 - LEAST_GAIN) * errors[1]
    return Tiling(tile=best if clear else 1, errors=errors)
