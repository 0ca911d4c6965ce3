"""What a session measures: cells of prompt length, output length and concurrency, in shuffled blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.fit import fit_relative, prefill_terms

MOST_LENGTHS = 8
FIRST_LENGTHS = 4


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
    """What a session is asked to do; lengths in tokens, precision as a relative half-width of a 90 % interval."""

    least_prompt: int = 32
    most_prompt: int = 2048
    output_tokens: tuple[int, ...] = (16, 64)
    concurrency: tuple[int, ...] = (1,)
    blocks: int = 3
    repeats: int = 5
    most_repeats: int = 15
    precision: float = 0.05
    budget_s: float = 600.0
    window_s: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("least_prompt", "blocks", "repeats"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: found {getattr(self, key)}, must be at least 1")
        if self.most_prompt <= self.least_prompt:
            raise ValueError(f"most_prompt: found {self.most_prompt}, must be above least_prompt {self.least_prompt}")
        if min(self.output_tokens) < 2 or min(self.concurrency) < 1:
            raise ValueError("output_tokens must be at least 2 each (1 is always measured) and concurrency at least 1")
        if not (0 < self.precision < 1 and self.budget_s > 0):
            raise ValueError(f"precision {self.precision} must be between 0 and 1, budget_s {self.budget_s} above 0")


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


def next_length(prompt_tokens: Sequence[int], seconds: Sequence[float], precision: float) -> int | None:
    """Return the length whose predicted prefill time is least certain, or None when all are within `precision`.

    Candidates lie half way (in the logarithm) between lengths measured; the interval is the fit's own, 1.645 times
    the standard error of the prediction, relative to it. At most MOST_LENGTHS lengths are ever measured.
    """
    lengths = np.unique(prompt_tokens)
    if len(lengths) >= MOST_LENGTHS:
        return None
    fit = fit_relative(prefill_terms(prompt_tokens), seconds)
    candidates = np.unique(np.round(np.sqrt(lengths[1:] * lengths[:-1].astype(np.float64))).astype(int))
    candidates = candidates[~np.isin(candidates, lengths)]
    terms = prefill_terms(candidates)
    covariance = np.nan_to_num(fit.covariance)  # a coefficient held at 0 has no spread
    spread = np.sqrt(np.einsum("np,pq,nq->n", terms, covariance, terms)) / (terms @ fit.coefficients)
    widths = 1.645 * np.hypot(spread, fit.scale / np.sqrt(len(prompt_tokens) / len(lengths)))
    if not len(candidates) or widths.max() <= precision:
        return None
    return int(candidates[np.argmax(widths)])
