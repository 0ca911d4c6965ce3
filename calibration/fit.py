"""Fits of linear cost models with coefficients of at least 0, on relative residuals, robust against outliers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

OUTLIER_SCALES = 10.0
"""A residual beyond this many robust standard deviations is an outlier: listed, and no part of the noise."""
TOLERANCE = 1e-10
_LEAST_SCALE = 1e-9  # relative; below it measured and fitted are the same number


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted model and how it fits.

    `residuals` (n,) are measured / fitted - 1, `scale` their robust standard deviation. `covariance` (p, p) is
    NaN for coefficients held at their bound 0.
    """

    coefficients: Floats
    covariance: Floats
    residuals: Floats
    scale: float

    @property
    def outliers(self) -> NDArray[np.bool_]:
        """Which rows the fit found too far off to believe, shape (n,)."""
        return np.asarray(np.abs(self.residuals) > OUTLIER_SCALES * self.scale)

    @property
    def noise(self) -> Floats:
        """Residuals without the outliers, centred to mean 0."""
        kept = self.residuals[~self.outliers]
        return np.asarray(kept - kept.mean())


def prefill_terms(prompt_tokens: ArrayLike) -> Floats:
    """Return the terms 1, P and P² of a prefill, shape (n, 3)."""
    P = np.asarray(prompt_tokens, dtype=np.float64)
    return np.stack([np.ones_like(P), P, P**2], axis=-1)


def decode_terms(prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> Floats:
    """Return the terms of a lone sequence's whole decoding, shape (n, 2): iterations, and context summed over them.

    The prefill emits the first of O tokens, so there are O - 1 iterations with contexts P + 1 … P + O - 1.

    >>> decode_terms([10], [3]).tolist()
    [[2.0, 23.0]]
    """
    P = np.asarray(prompt_tokens, dtype=np.float64)
    n = np.asarray(output_tokens, dtype=np.float64) - 1.0
    return np.stack([n, n * P + n * (n + 1.0) / 2.0], axis=-1)


def batch_terms(prompt_tokens: ArrayLike, output_tokens: ArrayLike, n_sequences: ArrayLike) -> Floats:
    """Return the terms of B sequences of one length decoding side by side throughout, shape (n, 3).

    Iterations, and sequences and context summed over them.

    >>> batch_terms([10], [3], [2]).tolist()
    [[2.0, 4.0, 46.0]]
    """
    alone, B = decode_terms(prompt_tokens, output_tokens), np.asarray(n_sequences, dtype=np.float64)
    return np.stack([alone[:, 0], B * alone[:, 0], B * alone[:, 1]], axis=-1)


def fit_relative(terms: ArrayLike, measured: ArrayLike, *, tolerance: float = TOLERANCE) -> Fit:
    """Return the coefficients of at least 0 that minimise the soft-L1 loss of fitted / measured - 1.

    `terms` has shape (n, p) and `measured` (n,), all above 0. The loss grows as the square of a residual within
    the scale and linearly beyond it; the scale is 1.4826 times the median absolute residual, estimated anew with
    every reweighting, until no weight moves by more than the tolerance. Raises ValueError when rows are too few to tell
    p terms apart.
    """
    terms = np.asarray(terms, dtype=np.float64)
    measured = np.asarray(measured, dtype=np.float64)
    if not np.all(measured > 0):
        raise ValueError(f"row {int(np.argmin(measured > 0))}: measured is not above 0; a relative fit needs it to be")
    ratios = terms / measured[:, None]  # (n, p): each term's share of the measured value per unit coefficient
    units = np.linalg.norm(ratios, axis=0)  # columns of very different size would spoil the conditioning
    if np.linalg.matrix_rank(ratios / units) < terms.shape[1]:
        raise ValueError(
            f"{len(measured)} rows do not tell {terms.shape[1]} terms apart; measure more different lengths"
        )
    scaled, misfit, scale = _reweighted(ratios / units, tolerance)
    coefficients = scaled / units
    return Fit(
        coefficients=coefficients,
        covariance=_covariance(ratios, coefficients, misfit, scale),
        residuals=measured / (terms @ coefficients) - 1.0,
        scale=scale,
    )


def left_out(terms: ArrayLike, measured: ArrayLike, groups: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each row's relative error when its group is left out, and whether it lay in the 90 % interval.

    The error is measured / predicted - 1, shape (n,); the interval is the central 90 % of the other rows'
    residuals. Rows that cannot be predicted, as without their group the rest is too little, are NaN.
    """
    terms = np.asarray(terms, dtype=np.float64)
    measured = np.asarray(measured, dtype=np.float64)
    groups = np.asarray(groups)
    errors = np.full(len(measured), np.nan)
    covered = np.zeros(len(measured), dtype=np.bool_)
    for group in np.unique(groups):
        out = groups == group
        try:
            fit = fit_relative(terms[~out], measured[~out])
        except ValueError:
            continue
        errors[out] = measured[out] / (terms[out] @ fit.coefficients) - 1.0
        low, high = np.quantile(fit.residuals, [0.05, 0.95])
        covered[out] = (low <= errors[out]) & (errors[out] <= high)
    return errors, covered


def _reweighted(ratios: Floats, tolerance: float) -> tuple[Floats, Floats, float]:
    """Return coefficients, misfits (fitted / measured - 1) and scale; iteratively reweighted least squares."""
    weights: Floats = np.ones(len(ratios))
    for _ in range(500):
        roots = np.sqrt(weights)
        coefficients, _ = nnls(ratios * roots[:, None], roots)
        misfit = ratios @ coefficients - 1.0
        scale = max(1.4826 * float(np.median(np.abs(misfit))), _LEAST_SCALE)
        previous, weights = weights, 1.0 / np.sqrt(1.0 + (misfit / scale) ** 2)  # of soft-L1: rho'(z) = 1/sqrt(1+z)
        if np.max(np.abs(weights - previous)) < tolerance or scale == _LEAST_SCALE:
            break
    return coefficients, misfit, scale


def _covariance(ratios: Floats, coefficients: Floats, misfit: Floats, scale: float) -> Floats:
    """Return the asymptotic covariance of an M-estimate (Huber 1981, 7.6) of the coefficients above their bound."""
    free = coefficients > 0
    z = misfit / scale
    score = misfit / np.sqrt(1.0 + z**2)
    slope = float(np.mean((1.0 + z**2) ** -1.5))
    freedom = max(len(misfit) - int(free.sum()), 1)
    spread = float(np.sum(score**2)) / freedom / slope**2
    covariance = np.full((len(free), len(free)), np.nan)
    units = np.linalg.norm(ratios[:, free], axis=0)
    shares = ratios[:, free] / units
    covariance[np.ix_(free, free)] = spread * np.linalg.inv(shares.T @ shares) / np.outer(units, units)
    return covariance
