"""Cost models: what a prompt and a decode iteration cost, in seconds or in joules."""

from collections.abc import Sequence
from dataclasses import dataclass
from sys import float_info
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Prefill = tuple[float, float, float]
"""a, b and c of a + b·P + c·P², P in prompt tokens."""

Decode = tuple[float, float | None, float]
"""base, per_sequence and per_context_token of one decode iteration; per_sequence None: not identified."""

DECODE_KEYS = ("base", "per_sequence", "per_context_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one expert needs of one quantity: all seconds or all joules.

    `per_sequence` is None when the batch terms were not identified; only a lone sequence has a cost then, and
    `base` covers it whole. A prompt costs as much as one of whole tiles of `tile_tokens`: 1 is the smooth form, more
    is a staircase. Where an iteration carries prompt tokens beside decoding sequences (`chunked`), each token of the
    sequences' context costs `mixed_per_context_token` more than without them; 0 is the form without it.

    >>> costs = Costs(prefill=(0.5, 0.25, 0.0), base=0.5, per_sequence=None, per_context_token=0.125)
    >>> float(costs.prefill_of(10)), float(costs.decode_of(1, 10))
    (3.0, 1.75)
    """

    prefill: Prefill
    base: float
    per_sequence: float | None
    per_context_token: float
    tile_tokens: int = 1
    mixed_per_context_token: float = 0.0

    def __post_init__(self) -> None:
        check_prefill("prefill", self.prefill)
        check_decode("decode", (self.base, self.per_sequence, self.per_context_token))
        check_tile("tile_tokens", self.tile_tokens)
        check_coefficient("mixed_per_context_token", self.mixed_per_context_token)

    @classmethod
    def of(
        cls, prefill: Sequence[float], decode: Decode, *, tile_tokens: int = 1, mixed_per_context_token: float = 0.0
    ) -> "Costs":
        """Return the costs of the three coefficients of a prefill and the three of a decode iteration."""
        base, per_sequence, per_context_token = decode
        return cls(
            prefill=cast("Prefill", tuple(prefill)),
            base=base,
            per_sequence=per_sequence,
            per_context_token=per_context_token,
            tile_tokens=tile_tokens,
            mixed_per_context_token=mixed_per_context_token,
        )

    @property
    def decode(self) -> Decode:
        """The three decode coefficients together."""
        return (self.base, self.per_sequence, self.per_context_token)

    def prefill_of(self, prompt_tokens: ArrayLike) -> NDArray[np.float64] | np.float64:
        """Return the cost of the prefill of prompts; shape as given.

        >>> costs = Costs(prefill=(0.0, 1.0, 0.0), base=0.0, per_sequence=0.0, per_context_token=0.0, tile_tokens=64)
        >>> costs.prefill_of([1, 64, 65]).tolist()
        [64.0, 64.0, 128.0]
        """
        a, b, c = self.prefill
        P = padded(prompt_tokens, self.tile_tokens)
        return a + b * P + c * P**2

    def decode_of(self, n_sequences: ArrayLike, context_tokens: ArrayLike) -> NDArray[np.float64] | np.float64:
        """Return the cost of one decode iteration of B sequences whose contexts sum to C tokens; broadcasts.

        Raises ValueError when more than one sequence is asked for and the batch terms are unknown.
        """
        B = np.asarray(n_sequences, dtype=np.float64)
        C = np.asarray(context_tokens, dtype=np.float64)
        if self.per_sequence is None:
            if np.any(B > 1):
                raise ValueError(
                    f"decode cost of {int(B.max())} sequences: per_sequence is unknown (null), so only 1 is "
                    "allowed; use max_batch = 1 or a profile that identifies its batch terms"
                )
            return self.base + self.per_context_token * C + 0.0 * B
        return self.base + self.per_sequence * B + self.per_context_token * C

    def leg_of(self, prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> NDArray[np.float64]:
        """Return the cost of whole legs that each run alone; broadcasts, float64.

        The prefill emits the first of O output tokens and O - 1 decode iterations follow:
        prefill(P) + sum over j = 1 … O - 1 of decode(1, P + j), in closed form.

        >>> costs = Costs(prefill=(1.0, 0.0, 0.0), base=0.0, per_sequence=2.0, per_context_token=1.0)
        >>> costs.leg_of(10, 3).item()
        28.0
        """
        P = np.asarray(prompt_tokens, dtype=np.float64)
        n = np.asarray(output_tokens, dtype=np.float64) - 1.0
        alone = self.base + (self.per_sequence or 0.0)
        context = n * P + n * (n + 1.0) / 2.0  # tokens of context, summed over the iterations
        return np.asarray(self.prefill_of(P) + alone * n + self.per_context_token * context, dtype=np.float64)


def padded(prompt_tokens: ArrayLike, tile_tokens: int) -> NDArray[np.float64]:
    """Return prompt lengths up to the next whole tile; a tile of 1 leaves them as they are."""
    P = np.asarray(prompt_tokens, dtype=np.float64)
    return P if tile_tokens == 1 else np.asarray(np.ceil(P / tile_tokens) * tile_tokens)


def check_tile(key: str, tile_tokens: object) -> None:
    """Raise ValueError unless a tile is an integer of at least 1."""
    if isinstance(tile_tokens, bool) or not isinstance(tile_tokens, int) or tile_tokens < 1:
        raise ValueError(
            f"{key}: found {tile_tokens!r}, must be an integer of at least 1; leave it out where prefill has no steps"
        )


def check_prefill(key: str, prefill: Prefill) -> None:
    """Raise ValueError unless `prefill` is three finite coefficients of at least 0."""
    if len(prefill) != 3:
        raise ValueError(f"{key}: found {len(prefill)} coefficients, needs three: a, b and c of a + b·P + c·P²")
    for name, value in zip("abc", prefill, strict=True):
        check_coefficient(f"{key} {name}", value)


def check_decode(key: str, decode: Decode) -> None:
    """Raise ValueError unless each decode coefficient is finite and at least 0; per_sequence may be None."""
    for name, value in zip(DECODE_KEYS, decode, strict=True):
        if value is not None or name != "per_sequence":
            check_coefficient(f"{key}.{name}", value)


def check_coefficient(key: str, value: object) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0 (a bool is no number)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and 0 <= cast("float", value) <= float_info.max):  # written so that NaN fails too
        raise ValueError(f"{key}: found {value!r}, must be a finite number of at least 0")
