"""What a session measures: cells of prompt length, output length and concurrency, in shuffled blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from calibration.fit import Fit, Floats, fit_relative, prefill_terms

MOST_LENGTHS = 8
FIRST_LENGTHS = 4
LEAST_LENGTHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point of the plan in one block; its `key` names its part of the recording."""

    block: int
    prompt_tokens: int
    output_tokens: int
    concurrency: int

    @property
    def key(self) -> str:
        """A name that sorts by block.

        >>> Cell(block=2, prompt_tokens=64, output_tokens=1, concurrency=4).key
        'b002-p000064-o00001-c004'
        """
        return f"b{self.block:03}-p{self.prompt_tokens:06}-o{self.output_tokens:05}-c{self.concurrency:03}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a session is asked to do; lengths in tokens, precision as a relative half-width of a 90 % interval.

    At most `most_lengths` prompt lengths are measured; with FIRST_LENGTHS none is added to the first ones.
    """

    least_prompt: int = 32
    most_prompt: int = 2048
    output_tokens: tuple[int, ...] = (16, 64)
    concurrency: tuple[int, ...] = (1,)
    blocks: int = 3
    repeats: int = 5
    most_repeats: int = 15
    precision: float = 0.05
    most_lengths: int = MOST_LENGTHS
    budget_s: float = 600.0
    window_s: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (
            ("least_prompt", 1),
            ("blocks", 1),
            ("repeats", 1),
            ("most_repeats", self.repeats),
            ("seed", 0),
        ):
            if getattr(self, key) < least:
                raise ValueError(f"{key}: found {getattr(self, key)}, must be at least {least}")
        if not FIRST_LENGTHS <= self.most_lengths <= MOST_LENGTHS:
            raise ValueError(f"most_lengths: found {self.most_lengths}, must be {FIRST_LENGTHS} to {MOST_LENGTHS}")
        if self.most_prompt <= self.least_prompt:
            raise ValueError(f"most_prompt: found {self.most_prompt}, must be above least_prompt {self.least_prompt}")
        if len(first_lengths(self)) < LEAST_LENGTHS:
            raise ValueError(
                f"least_prompt {self.least_prompt} to most_prompt {self.most_prompt}: too near each other for the "
                f"{LEAST_LENGTHS} lengths that tell the terms of a prefill apart"
            )
        if min(self.output_tokens, default=0) < 2 or min(self.concurrency, default=0) < 1:
            raise ValueError("output_tokens must be at least 2 each (1 is always measured) and concurrency at least 1")
        for key in ("output_tokens", "concurrency"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                joined = ",".join(map(str, getattr(self, key)))
                raise ValueError(f"{key}: found {joined}, each must stand there once: a cell is measured once")
        if not 0 < self.precision < 1:
            raise ValueError(f"precision: found {self.precision}, must be between 0 and 1 (0.05: within 5 %)")
        for key in ("budget_s", "window_s"):
            if not 0 < getattr(self, key) < inf:
                raise ValueError(f"{key}: found {getattr(self, key)}, must be above 0 seconds and finite")


def first_lengths(plan: Plan) -> tuple[int, ...]:
    """Return the prompt lengths a session begins with, spaced evenly in the logarithm.

    >>> first_lengths(Plan(least_prompt=32, most_prompt=2048))
    (32, 128, 512, 2048)
    """
    return tuple(
        np.unique(np.round(np.geomspace(plan.least_prompt, plan.most_prompt, FIRST_LENGTHS)).astype(int)).tolist()
    )


def cells_of(plan: Plan, lengths: Sequence[int], block: int) -> list[Cell]:
    """Return the cells of one block in its own random order, which the plan's seed fixes."""
    cells = [
        Cell(block=block, prompt_tokens=P, output_tokens=out, concurrency=n)
        for P in lengths
        for out, n in [(1, 1), *((out, n) for out in plan.output_tokens for n in plan.concurrency)]
    ]
    order = np.random.default_rng([plan.seed, block, len(lengths)]).permutation(len(cells))
    return [cells[i] for i in order.tolist()]


def added_lengths(
    prompt_tokens: Sequence[int], seconds: Sequence[float], precision: float, most: int = MOST_LENGTHS
) -> tuple[int, ...]:
    """Return the lengths to measure beside those measured, `most` in all; none when the fit is certain enough.

    The length whose predicted prefill is least certain comes first. It is then taken as measured, as often and with
    the same scatter as the others, and the next is sought, until every prediction would be within `precision`.
    """
    lengths = np.unique(prompt_tokens).tolist()
    fit = fit_relative(prefill_terms(prompt_tokens), seconds)
    repeats = len(prompt_tokens) / len(lengths)
    covariance = np.nan_to_num(fit.covariance)  # a coefficient held at 0 has no spread
    added: list[int] = []
    while len(lengths) < most:
        between = _between(lengths)
        widths = _widths(between, fit, covariance, repeats)
        if not len(between) or widths.max() <= precision:
            break
        added.append(int(between[np.argmax(widths)]))
        lengths = sorted([*lengths, added[-1]])
        covariance = _measured_too(covariance, fit, added[-1], repeats)
    return tuple(added)


def widest_interval(prompt_tokens: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the relative half-width of the least certain prediction at and between the lengths measured."""
    lengths = np.unique(prompt_tokens)
    fit = fit_relative(prefill_terms(prompt_tokens), seconds)
    at = np.concatenate([lengths, _between(lengths.tolist())])
    return float(_widths(at, fit, np.nan_to_num(fit.covariance), len(prompt_tokens) / len(lengths)).max())


def _between(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Return the lengths half way, in the logarithm, between neighbours."""
    known = np.array(lengths, dtype=np.float64)
    middles = np.unique(np.round(np.sqrt(known[1:] * known[:-1])).astype(np.int64))
    return middles[~np.isin(middles, known)]


def _widths(prompt_tokens: NDArray[np.int64], fit: Fit, covariance: Floats, repeats: float) -> Floats:
    """Return half-widths of 90 % intervals relative to the predictions: of the fit, and of a median of `repeats`."""
    terms = prefill_terms(prompt_tokens)
    spread = np.sqrt(np.einsum("np,pq,nq->n", terms, covariance, terms)) / (terms @ fit.coefficients)
    return np.asarray(1.645 * np.hypot(spread, fit.scale / np.sqrt(repeats)))


def _measured_too(covariance: Floats, fit: Fit, prompt_tokens: int, repeats: float) -> Floats:
    """Return the covariance with `repeats` more rows at a length (Sherman and Morrison, 1950)."""
    row = prefill_terms([prompt_tokens])[0]
    variance = (fit.scale * float(row @ fit.coefficients)) ** 2 / repeats
    gain = covariance @ row
    return np.asarray(covariance - np.outer(gain, gain) / (variance + float(row @ gain)))
