"""Evidence: what a fit saw, how well it does on what it did not see, and what it refused, as plain JSON."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.fit import Fit, left_out
from calibration.intervals import bootstrap_by_cluster, measured_coverage, predictor
from calibration.padding import Tiling
from calibration.profile import Profile
from calibration.recordings import Source

COEFFICIENT_DIGITS = 6
EVIDENCE_DIGITS = 4
RESIDUAL_DECIMALS = 4
_SEED = 0


def rounded(value: float, digits: int = EVIDENCE_DIGITS) -> float | None:
    """Return a number rounded to significant digits; None for what is not a finite number.

    >>> rounded(0.123456), rounded(float("nan"))
    (0.1235, None)
    """
    return float(f"{value:.{digits}g}") if isfinite(value) else None


def coefficients(fit: Fit) -> tuple[float, ...]:
    """Return a fit's coefficients, rounded so that files stay the same from machine to machine."""
    return tuple(float(f"{value:.{COEFFICIENT_DIGITS}g}") for value in fit.coefficients)


def noise(fit: Fit) -> tuple[float, ...]:
    """Return a fit's residuals without outliers, centred and rounded."""
    return tuple((np.round(fit.noise, RESIDUAL_DECIMALS) + 0.0).tolist())


def source_evidence(source: Source, what: str) -> dict[str, Any]:
    """Return the identity of a recording's file, and what it holds."""
    return {"file": source.file, "sha256": source.sha256, "what": what}


def fit_evidence(
    fit: Fit,
    terms: NDArray[np.float64],
    measured: NDArray[np.float64],
    *,
    names: Sequence[str],
    lengths: Mapping[str, ArrayLike],
    by: str,
    refused: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the evidence of one fit; `lengths` are its inputs by name, `by` the one whose values are left out."""
    errors, covered = left_out(terms, measured, np.asarray(lengths[by]))
    known = np.isfinite(errors)
    return {
        "n": len(measured),
        "ranges": {name: [int(np.min(values)), int(np.max(values))] for name, values in lengths.items()},
        "terms": list(names),
        "covariance": [[rounded(value) for value in row] for row in fit.covariance.tolist()],
        "scale": rounded(fit.scale),
        "median_abs_error": rounded(float(np.median(np.abs(fit.residuals)))),
        "left_out": {
            "by": by,
            "n": int(known.sum()),
            "median_abs_error": rounded(float(np.median(np.abs(errors[known]))) if known.any() else np.nan),
            "interval_90": [rounded(q) for q in np.quantile(fit.residuals, [0.05, 0.95]).tolist()],
            "interval_90_coverage": rounded(float(covered[known].mean()) if known.any() else np.nan),
        },
        "outliers": _outliers(fit, lengths),
        "refused": [dict(row) for row in refused],
    }


def tile_evidence(tiling: Tiling, *, used: bool) -> dict[str, Any]:
    """Return the tile that cross-validation prefers for a prefill, the errors tried, and whether the profile has it."""
    errors = {str(tile): rounded(error) for tile, error in tiling.errors.items()}
    return {"chosen": tiling.tile, "errors": errors, "used_by_the_twin": used}


def interval_evidence(terms: NDArray[np.float64], measured: NDArray[np.float64]) -> dict[str, Any]:
    """Return the 90 % prediction interval with the coverage measured on rows left out, as evidence."""
    rng = np.random.default_rng(_SEED)
    found = predictor(terms, measured, rng=rng)
    widest, coverage = found.widest(terms), measured_coverage(terms, measured, rng=rng)
    return {
        "interval": {
            "half_width": None if widest is None else rounded(widest),
            "method": found.method,
            "coverage": None if coverage is None else rounded(coverage),
        }
    }


def spread_evidence(terms: NDArray[np.float64], measured: NDArray[np.float64], sessions: ArrayLike) -> dict[str, Any]:
    """Return the 90 % prediction interval and the bootstrap's standard errors, as evidence."""
    rng = np.random.default_rng(_SEED)
    drawn = bootstrap_by_cluster(terms, measured, np.asarray(sessions, dtype=str), rng=rng)
    clusters = len(np.unique(np.asarray(sessions, dtype=str)))
    return {
        **interval_evidence(terms, measured),
        "bootstrap": {
            "by": "session" if clusters > 1 else "cell, as there is one session",
            "clusters": clusters,
            "standard_errors": [rounded(float(value)) for value in drawn.std(axis=0)],
        },
    }


def _outliers(fit: Fit, lengths: Mapping[str, ArrayLike]) -> list[dict[str, Any]]:
    return [
        {
            **{name: int(np.asarray(values)[row]) for name, values in lengths.items()},
            "residual": rounded(float(fit.residuals[row])),
        }
        for row in np.flatnonzero(fit.outliers).tolist()
    ]


def is_beyond(profile: Profile, prompt_tokens: int, output_tokens: int) -> bool:
    """Return whether a request is longer or shorter than those that the profile was fitted on, or than its context."""
    asked = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    ranges = [profile.evidence.get(quantity, {}).get("ranges", {}) for quantity in ("prefill_s", "decode_s")]
    outside = any(not low <= asked.get(name, low) <= high for seen in ranges for name, (low, high) in seen.items())
    return outside or prompt_tokens + output_tokens > profile.context_tokens
