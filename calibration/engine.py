"""Composed profiles of batching engines: kernel tables summed to whole iterations, with a knee of the prompt cost."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from calibration.architectures import Architecture
from calibration.evidence import rounded, source_evidence
from calibration.fit import Fit
from calibration.iterations import KNEES, Limits, fit_iterations
from calibration.precision import UNKNOWN
from calibration.profile import Profile, Provenance
from calibration.sources.csv_table import source_of
from calibration.visited import OUTPUT_TOKENS, PROMPT_TOKENS, visited_iterations

_CAVEATS = (
    "host time between iterations (scheduling, sampling on the CPU, launches) is not in the kernel tables: "
    "a served iteration is longer",
    "no language model was metered on this device: energies and idle power are null",
)


def engine_profile(
    tables: tuple[Path, Path, Path],
    architecture: Architecture,
    *,
    device: str,
    device_name: str,
    quantization: str | None,
    limits: Limits,
) -> Profile:
    """Return the profile for the scheduler `chunked` from the tables dense, attention and per sequence.

    The iterations that such an engine runs when busy are fitted. Raises ValueError naming the file.
    """
    kept = visited_iterations(*tables, layers=architecture.layers, limits=limits)
    found = fit_iterations(kept)
    quantiles = np.quantile(found.fit.residuals, [0.05, 0.95]).tolist()
    return Profile(
        name=f"{device}/{architecture.name}/{quantization or UNKNOWN}",
        device=device_name,
        model=architecture.name,
        quantization=quantization,
        runtime="vLLM 0.19, kernel times",
        power_mode="default",
        provenance=Provenance(latency="composed", energy=None),
        energy_scope=None,
        context_tokens=architecture.context_tokens,
        seconds=found.costs,
        knee_tokens=found.knee_tokens,
        prefill_j=None,
        decode_j=None,
        idle_w=None,
        residuals_prefill=(),
        residuals_decode=(),
        evidence={
            **_origin(tables, architecture.layers),
            "prefill_s": _part(found.fit, ("1", "P beyond the knee", "P²"), (0, 3, 4)),
            "decode_s": _part(found.fit, ("1", "B and P up to the knee", "C"), (0, 1, 2)),
            "mixed_s": _part(found.fit, ("C beside P",), (5,)),
            "engine": asdict(limits),
            "knees_tried": list(KNEES),
            "iterations": {
                "n": len(kept.seconds),
                "mean_abs_misfit": rounded(float(np.mean(np.abs(found.fit.residuals)))),
                "misfit_interval_90": [rounded(value) for value in quantiles],
            },
            "energy": {"unknown": "no power figures of this device are at hand"},
            "caveats": list(_CAVEATS),
        },
    )


def _origin(tables: Sequence[Path], layers: int) -> dict[str, Any]:
    return {
        "sources": [source_evidence(source_of(path), "kernel times of an engine") for path in tables],
        "method": f"iterations composed of {layers} decoder layers, embedding, final norm, output layer and sampler, "
        "linear between timed points: those that the engine runs for 1, 2, 4 … users who ask again at once, prompts "
        f"of {PROMPT_TOKENS[0]}–{PROMPT_TOKENS[1]} and answers of {OUTPUT_TOKENS[0]}–{OUTPUT_TOKENS[1]} tokens; "
        "soft-L1 on fitted / composed - 1, coefficients >= 0; the knee with the least mean misfit of those tried",
    }


def _part(fit: Fit, names: Sequence[str], columns: Sequence[int]) -> dict[str, Any]:
    """Return the evidence of some of the six terms; neighbouring rows share timings: the covariance is a floor."""
    covariance = fit.covariance[np.ix_(columns, columns)]
    return {
        "n": len(fit.residuals),
        "terms": list(names),
        "covariance": [[rounded(value) for value in row] for row in covariance.tolist()],
        "scale": rounded(fit.scale),
        "median_abs_error": rounded(float(np.median(np.abs(fit.residuals)))),
    }
