"""Joules of recorded sessions: prefills by windows of one token, decodes by difference, batches where they are metered.

Gross of idle, as profiles carry them; what is net of the loaded, idle device stands in the evidence beside.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from calibration.costs import Costs, Decode, Prefill
from calibration.evidence import coefficients, fit_evidence, rounded, spread_evidence
from calibration.fit import Fit, Floats, batch_terms, decode_terms, fit_relative
from calibration.meters.corrections import Correction
from calibration.padding import padded_terms
from calibration.sessions import Sessions

_LONE = ("iterations", "context tokens summed over iterations")
_BATCHED = ("iterations", "sequences summed over iterations", "context tokens summed over iterations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joules:
    """Energy costs of a profile, None where they are not known, and their evidence."""

    prefill_j: Prefill | None
    decode_j: Decode | None
    idle_w: float | None
    evidence: dict[str, Any]


def session_joules(sessions: Sessions, seconds: Costs) -> Joules:
    """Return the energy costs of sessions whose seconds are fitted; a correction of the meter is applied here.

    The decode is known for batches where they were metered, and must be where its seconds are.
    """
    correction = sessions.correction
    loaded, idle = (1.0, 1.0) if correction is None else (correction.loaded, correction.idle)
    idle_w = None if sessions.idle_w is None else rounded(idle * sessions.idle_w)
    applied = {} if correction is None else {"meter_correction": {**correction.as_json(), "applied": True}}
    prefills, decodes = (
        frame.assign(joules=loaded * frame["joules"]) for frame in (sessions.prefill_j, sessions.decode_j)
    )
    prefill_j, prefill_evidence = _prefill_j(prefills, correction, seconds.tile_tokens)
    decode_j, decode_evidence = _decode_j(decodes, correction, batched=seconds.per_sequence is not None)
    if idle_w is not None:
        if prefill_j is not None:
            prefill_evidence["net"] = _net(prefill_j, seconds.prefill, idle_w)
        if decode_j is not None:
            decode_evidence["net"] = _net(decode_j, seconds.decode, idle_w)
    evidence = {**applied, "prefill_j": prefill_evidence, "decode_j": decode_evidence}
    return Joules(prefill_j=prefill_j, decode_j=decode_j, idle_w=idle_w, evidence=evidence)


def _prefill_j(frame: pd.DataFrame, correction: Correction | None, tile: int) -> tuple[Prefill | None, dict[str, Any]]:
    if frame["asked_prompt_tokens"].nunique() < 3:
        return None, {"n": len(frame), "unknown": "no meter, or energies of fewer than three prompt lengths"}
    P = frame["asked_prompt_tokens"].to_numpy(dtype=np.int64)
    terms, joules = padded_terms(P, tile), frame["joules"].to_numpy(dtype=np.float64)
    fit = _with_bias(fit_relative(terms, joules), correction)
    lengths = {"prompt_tokens": P}
    evidence = fit_evidence(fit, terms, joules, names=("1", "P", "P²"), lengths=lengths, by="prompt_tokens")
    return cast("Prefill", coefficients(fit)), {**evidence, **spread_evidence(terms, joules, frame["session"])}


def _decode_j(
    frame: pd.DataFrame, correction: Correction | None, *, batched: bool
) -> tuple[Decode | None, dict[str, Any]]:
    metered = bool((frame["n_sequences"] > 1).any())
    kept = frame if batched else frame[frame["n_sequences"] == 1]
    if kept.empty:
        return None, {"n": 0, "unknown": "no meter, or no generation with an energy beside its prefill's"}
    if batched and not metered:
        why = "batches were timed but have no energy: joules per sequence of a batch are not identified"
        return None, {"n": len(kept), "unknown": why}
    lengths = {key: kept[f"asked_{key}"].to_numpy(dtype=np.int64) for key in ("prompt_tokens", "output_tokens")}
    B = kept["n_sequences"].to_numpy(dtype=np.float64)
    terms, joules = _terms(lengths, B, batched=batched), kept["joules"].to_numpy(dtype=np.float64)
    fit = _with_bias(fit_relative(terms, joules), correction)
    names = _BATCHED if batched else _LONE
    evidence = fit_evidence(fit, terms, joules, names=names, lengths=lengths, by="prompt_tokens")
    evidence |= spread_evidence(terms, joules, kept["session"])
    if not batched:
        base, per_context_token = coefficients(fit)
        return (base, None, per_context_token), evidence
    d, e, f = coefficients(fit)
    return (d, e, f), {**evidence, "batches": "sequences asked for at once are taken to decode side by side throughout"}


def _terms(lengths: dict[str, Any], B: Floats, *, batched: bool) -> Floats:
    """Return the terms of B sequences of one length decoding side by side, shape (n, 2), batched (n, 3)."""
    P, out = lengths.values()
    return batch_terms(P, out, B) if batched else decode_terms(P, out)


def _with_bias(fit: Fit, correction: Correction | None) -> Fit:
    """Return the fit with the correction's uncertainty, common to all coefficients, in its covariance."""
    if correction is None:
        return fit
    common = correction.uncertainty**2 * np.outer(fit.coefficients, fit.coefficients)
    return replace(fit, covariance=fit.covariance + common)


def _net(gross_j: Prefill | Decode, seconds: Prefill | Decode, idle_w: float) -> list[float | None]:
    """Return each coefficient less what the idle device draws in that time; None for one that is not known."""
    pairs = zip(gross_j, seconds, strict=True)
    return [None if j is None or s is None else rounded(j - idle_w * s) for j, s in pairs]
