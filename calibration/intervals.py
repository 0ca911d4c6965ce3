"""Prediction intervals without assumptions on the noise: conformal over folds, and jackknife+ where cells are few."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.fit import TOLERANCE, Fit, fit_relative

Floats = NDArray[np.float64]

LEAST_CELLS = 20
"""Calibration cells below which a split-conformal interval is not given."""
LEAST_FOLDS = 9
"""Rows below which jackknife+ cannot give a 90 % interval: its quantile would be beyond the farthest row."""
COVERAGE = 0.9
_COARSE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A fit with the half-width of its 90 % interval, relative to the prediction; None: declined, with the reason.

    With jackknife+ `folds` (n, p) are the fits without each row and `scores` (n,) their errors on it: the interval
    then also holds the spread of those fits, and `half_width` is only its part that is noise.
    """

    fit: Fit
    half_width: float | None
    method: str
    folds: Floats | None = None
    scores: Floats | None = None

    def predict(self, terms: ArrayLike) -> Floats:
        """Return predictions for terms of shape (n, p)."""
        return np.asarray(np.asarray(terms, dtype=np.float64) @ self.fit.coefficients)

    def interval(self, terms: ArrayLike) -> tuple[Floats, Floats]:
        """Return the lower and upper ends for terms of shape (n, p); ValueError when the interval was declined."""
        if self.half_width is None:
            raise ValueError(f"no interval: {self.method}")
        terms = np.asarray(terms, dtype=np.float64)
        if self.folds is None or self.scores is None:
            predicted = self.predict(terms)
            return predicted * (1 - self.half_width), predicted * (1 + self.half_width)
        each = terms @ self.folds.T  # (n, rows left out)
        rank = math.ceil((len(self.scores) + 1) * COVERAGE)
        low = np.sort(each * (1 - self.scores), axis=1)[:, -rank]
        return low, np.sort(each * (1 + self.scores), axis=1)[:, rank - 1]

    def widest(self, terms: ArrayLike) -> float | None:
        """Return how far from its prediction, relative to it, the interval reaches at most; None when declined."""
        if self.half_width is None or self.folds is None:
            return self.half_width
        low, high = self.interval(terms)
        predicted = self.predict(terms)
        return float(np.max(np.maximum(high / predicted - 1.0, 1.0 - low / predicted)))

    def covers(self, terms: ArrayLike, measured: ArrayLike) -> NDArray[np.bool_]:
        """Return which measured values lie within the interval, shape (n,)."""
        low, high = self.interval(terms)
        measured = np.asarray(measured)
        return np.asarray((low <= measured) & (measured <= high))


def predictor(
    terms: ArrayLike, measured: ArrayLike, *, rng: np.random.Generator, tolerance: float = TOLERANCE
) -> Predictor:
    """Return the fit to all rows with the interval that so many cells allow; each row is one cell.

    From LEAST_CELLS cells on: cross-conformal, the rows' relative errors when their fold of ten was left out
    (Vovk, 2015, the K-fold form of split conformal). Below: jackknife+ (Barber et al., 2021), down to LEAST_FOLDS.
    """
    terms = np.asarray(terms, dtype=np.float64)
    measured = np.asarray(measured, dtype=np.float64)
    n = len(measured)
    fit = fit_relative(terms, measured, tolerance=tolerance)
    if n < LEAST_FOLDS:
        reason = f"declined: {n} cells are too few for a 90 % interval, needs {LEAST_FOLDS}"
        return Predictor(fit=fit, half_width=None, method=reason)
    few = n < LEAST_CELLS
    fold = rng.permutation(n) % (n if few else 10)
    coefficients, errors = _held_out(terms, measured, fold, tolerance)
    scores = np.abs(errors)
    return Predictor(
        fit=fit,
        half_width=conformal_quantile(scores),
        method=f"{'jackknife+' if few else 'cross-conformal, 10 folds'}, {n} cells",
        folds=coefficients if few else None,
        scores=scores if few else None,
    )


def measured_coverage(terms: ArrayLike, measured: ArrayLike, *, rng: np.random.Generator) -> float | None:
    """Return the share of rows within the interval of a predictor that did not see their fold; None when declined.

    Folds are five, or ten where rows are fewer than LEAST_CELLS. Fits are as exact as a share needs, not more.
    """
    terms = np.asarray(terms, dtype=np.float64)
    measured = np.asarray(measured, dtype=np.float64)
    n = len(measured)
    fold = rng.permutation(n) % (10 if n < LEAST_CELLS else 5)
    covered = np.zeros(n, dtype=np.bool_)
    for one in np.unique(fold):
        out = fold == one
        try:
            found = predictor(terms[~out], measured[~out], rng=rng, tolerance=_COARSE)
            covered[out] = found.covers(terms[out], measured[out])
        except ValueError:  # declined, or the rest does not tell the terms apart
            return None
    return float(covered.mean())


def conformal_quantile(scores: ArrayLike, coverage: float = COVERAGE) -> float | None:
    """Return the ⌈(n + 1) x coverage⌉-th smallest score; None when n is too small for that.

    >>> conformal_quantile(range(1, 20)), conformal_quantile([1.0, 2.0])
    (18.0, None)
    """
    scores = np.sort(np.asarray(scores, dtype=np.float64))
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(scores) else None


def bootstrap_by_cluster(
    terms: ArrayLike, measured: ArrayLike, clusters: ArrayLike, *, n: int = 200, rng: np.random.Generator
) -> Floats:
    """Return the coefficients of `n` fits to clusters (sessions) drawn with replacement, shape (n, p).

    With a single cluster its rows are drawn instead: they then stand for themselves only. Draws that do not tell
    the terms apart are left out.
    """
    terms = np.asarray(terms, dtype=np.float64)
    measured = np.asarray(measured, dtype=np.float64)
    clusters = np.asarray(clusters)
    names = np.unique(clusters)
    rows = (
        [np.flatnonzero(clusters == name) for name in names]
        if len(names) > 1
        else list(np.arange(len(measured))[:, None])
    )
    found = []
    for _ in range(n):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        try:
            found.append(fit_relative(terms[drawn], measured[drawn]).coefficients)
        except ValueError:
            continue
    return np.array(found).reshape(len(found), terms.shape[1])


def _held_out(terms: Floats, measured: Floats, fold: NDArray[np.intp], tolerance: float) -> tuple[Floats, Floats]:
    """Return each row's coefficients by the fit without its fold (n, p), and its relative error by them (n,).

    A fold without which the terms cannot be told apart is predicted by the whole fit.
    """
    coefficients = np.empty(terms.shape)
    for one in np.unique(fold):
        out = fold == one
        try:
            fit = fit_relative(terms[~out], measured[~out], tolerance=tolerance)
        except ValueError:
            fit = fit_relative(terms, measured, tolerance=tolerance)
        coefficients[out] = fit.coefficients
    return coefficients, measured / np.sum(terms * coefficients, axis=1) - 1.0
