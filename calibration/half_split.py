"""How well a fit to a random half of the cells predicts the other half, over many splits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.fit import Floats, decode_terms, prefill_terms
from calibration.intervals import predictor
from calibration.padding import chosen_tiling, padded_terms
from calibration.recordings import Decodes, Prefills

Terms = Callable[[NDArray[np.intp]], Floats]
"""From the rows that may be seen to the terms of all rows: the form itself may be chosen on what is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfSplit:
    """Means over splits: the median absolute relative error of the unseen half, and its interval's coverage and width.

    `coverage` and `half_width` are NaN where the interval was declined, `method` says which interval it is.
    """

    quantity: str
    model: str
    n_cells: int
    error: float
    coverage: float
    half_width: float
    method: str


def half_split(
    terms_of: Terms, measured: Floats, *, what: tuple[str, str], judged: NDArray[np.bool_], n: int = 200, seed: int = 0
) -> HalfSplit:
    """Return the result of `n` random splits by cell; rows where `judged` is false are fitted but not judged."""
    rng = np.random.default_rng(seed)
    found, method = [], ""
    for _ in range(n):
        order = rng.permutation(len(measured))
        seen, unseen = order[: len(order) // 2], order[len(order) // 2 :]
        terms = terms_of(seen)
        fitted = predictor(terms[seen], measured[seen], rng=rng)
        method = fitted.method
        unseen = unseen[judged[unseen]]
        error = float(np.median(np.abs(fitted.predict(terms[unseen]) / measured[unseen] - 1.0)))
        if fitted.half_width is None:
            found.append((error, np.nan, np.nan))
        else:
            low, high = fitted.interval(terms[unseen])
            covered = (low <= measured[unseen]) & (measured[unseen] <= high)
            found.append((error, float(covered.mean()), float(np.median((high - low) / (high + low)))))
    error, coverage, width = np.mean(found, axis=0).tolist()
    quantity, model = what
    return HalfSplit(
        quantity=quantity,
        model=model,
        n_cells=len(measured),
        error=error,
        coverage=coverage,
        half_width=width,
        method=method,
    )


def recorded_half_splits(prefills: Prefills, decodes: Decodes, *, n: int = 200) -> list[HalfSplit]:
    """Return the half-split of every model and quantity in recordings; prefill is judged above 256 tokens."""
    return [
        result
        for model in sorted(set(prefills.model.tolist()))
        for result in (_prefill(prefills, model, n), *_decodes(decodes, model, n))
    ]


def _prefill(prefills: Prefills, model: str, n: int) -> HalfSplit:
    own = prefills.model == model
    P, seconds = prefills.prompt_tokens[own], prefills.seconds[own]

    def terms_of(seen: NDArray[np.intp]) -> Floats:
        return padded_terms(P, chosen_tiling(P[seen], seconds[seen]).tile)

    return half_split(terms_of, seconds, what=("prefill s", model), judged=np.asarray(P > 256), n=n)


def _decodes(decodes: Decodes, model: str, n: int) -> list[HalfSplit]:
    own = (decodes.model == model) & (decodes.output_tokens > 1) & (decodes.seconds > 0)
    P, every = decodes.prompt_tokens[own], np.ones(int(own.sum()), dtype=np.bool_)
    seconds = decode_terms(P, decodes.output_tokens[own])
    joules = np.column_stack([seconds, prefill_terms(P)[:, :2]])  # the windows of energy also hold the prefill
    return [
        half_split(lambda _: seconds, decodes.seconds[own], what=("decode s", model), judged=every, n=n),
        half_split(lambda _: joules, decodes.energy_j[own], what=("decode J", model), judged=every, n=n),
    ]
