"""A measured profile from recorded sessions, with its intervals, bootstrap and everything it refused as evidence."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from calibration.chunked import as_chunked
from calibration.costs import Costs, Decode
from calibration.drift import SESSIONS, session_evidence
from calibration.evidence import (
    coefficients,
    fit_evidence,
    rounded,
    source_evidence,
    spread_evidence,
    tile_evidence,
)
from calibration.fit import Fit, Floats, decode_terms, fit_relative
from calibration.observed import joules_of, of_sessions
from calibration.padding import chosen_tiling, padded_terms
from calibration.profile import Profile, Provenance, Scope
from calibration.session_energy import session_joules
from calibration.sessions import Sessions, cells_of, check_growth, check_lengths

_AT_ONCE = "the whole answer came at once: its decoding has no duration"


def session_profile(
    sessions: Sessions, *, name: str, quantization: str | None, tiles: bool = False, token_budget: int | None = None
) -> Profile:
    """Return the profile of recorded sessions; energies are null where no window had any.

    With `tiles` a prefill costs whole tiles of prompt tokens, where cross-validation prefers one of padding.TILES.
    With a `token_budget` it is fitted as a server of that many tokens an iteration needs it (`as_chunked`).

    Raises ValueError when the lengths recorded do not tell the terms apart, and when the time to the first token is
    flat in the prompt's length, as with a cache.
    """
    manifest = sessions.manifest
    prefill, tile, prefill_evidence = _prefill_s(sessions, tiles=tiles)
    decode, decode_s, decode_evidence = _decode_s(sessions)
    seconds = Costs.of(coefficients(prefill), decode_s, tile_tokens=tile)
    joules = session_joules(sessions, seconds)
    metered = joules.prefill_j is not None or joules.decode_j is not None or joules.idle_w is not None
    profile = Profile(
        name=name,
        device=str(manifest["device"]),
        model=str(manifest["model"]),
        quantization=quantization,
        runtime=str(manifest.get("runtime_build") or "not told"),
        power_mode=str(manifest["host"].get("power_mode") or "not told"),
        provenance=Provenance(latency="measured", energy="measured" if metered else None),
        energy_scope=cast("Scope", manifest["meter"]["scope"]) if metered else None,
        context_tokens=int(manifest["runtime"].get("context_tokens") or sessions.requests["prompt_tokens"].max()),
        seconds=seconds,
        knee_tokens=0,
        prefill_j=joules.prefill_j,
        decode_j=joules.decode_j,
        idle_w=joules.idle_w,
        residuals_prefill=_noise(prefill),
        residuals_decode=_noise(decode),
        evidence={
            **_origin(sessions),
            "client_overhead_s": _overhead_s(sessions.requests),
            "prefill_s": prefill_evidence,
            "decode_s": decode_evidence,
            **joules.evidence,
        },
    )
    if token_budget is not None:
        profile = as_chunked(profile, sessions, token_budget)
    return replace(profile, evidence={**profile.evidence, **_by_session(profile, sessions)})


def _origin(sessions: Sessions) -> dict[str, Any]:
    manifest = sessions.manifest
    return {
        "sources": [source_evidence(sessions.source, "recorded session; the hash is the model file's")],
        "recording": {key: manifest.get(key) for key in ("began_unix_s", "plan", "formulas", "meter", "allowed")},
        "host": manifest["host"],
        "weights": manifest["runtime"].get("weights", "as served"),
        "method": "medians of cells; soft-L1 on fitted / measured - 1, coefficients >= 0",
        "refused_rows": list(sessions.refused),
        "missing_cells": list(sessions.missing),
        **(sessions.record or {}),
    }


def _by_session(profile: Profile, sessions: Sessions) -> dict[str, Any]:
    """Return what `moe2 sync` compares new sessions with: of seconds, and of joules where the profile has them."""
    found = {SESSIONS["s"]: session_evidence(profile, of_sessions(sessions))}
    joules = joules_of(sessions)
    if joules is not None and profile.joules is not None:
        found[SESSIONS["j"]] = session_evidence(profile, joules)
    return found


def _prefill_s(sessions: Sessions, *, tiles: bool) -> tuple[Fit, int, dict[str, Any]]:
    """Return the fit of prefills, its tile in tokens (1: the smooth form), and its evidence."""
    check_lengths(sessions, 3)
    cells = cells_of(sessions.requests, "ttft_s").dropna()
    seconds = cells["ttft_s"].to_numpy(dtype=np.float64)
    lengths = {"prompt_tokens": cells["asked_prompt_tokens"].to_numpy()}
    check_growth(sessions.source.file, lengths["prompt_tokens"], seconds)
    tiling = chosen_tiling(lengths["prompt_tokens"], seconds)
    tile = tiling.tile if tiles else 1
    terms = padded_terms(lengths["prompt_tokens"], tile)
    fit = fit_relative(terms, seconds)
    evidence = fit_evidence(fit, terms, seconds, names=("1", "P", "P²"), lengths=lengths, by="prompt_tokens")
    evidence["tile"] = tile_evidence(tiling, used=tile > 1)
    return fit, tile, {**evidence, **spread_evidence(terms, seconds, cells["session"])}


def _decode_s(sessions: Sessions) -> tuple[Fit, Decode, dict[str, Any]]:
    """Fit lone decodes; with batches beside, a second fit to both identifies the term per sequence."""
    longer = sessions.requests[sessions.requests["asked_output_tokens"] > 1]
    at_once = longer["decode_s"] <= 0
    refused = [{"n": int(at_once.sum()), "reason": _AT_ONCE}] if at_once.any() else []
    cells = cells_of(longer[~at_once], "decode_s").dropna()
    lengths = {
        "prompt_tokens": cells["asked_prompt_tokens"].to_numpy(),
        "output_tokens": cells["asked_output_tokens"].to_numpy(),
    }
    terms, seconds = decode_terms(*lengths.values()), cells["decode_s"].to_numpy(dtype=np.float64)
    fit = fit_relative(terms, seconds)
    names = ("iterations", "context tokens summed over iterations")
    evidence = fit_evidence(fit, terms, seconds, names=names, lengths=lengths, by="prompt_tokens", refused=refused)
    evidence |= spread_evidence(terms, seconds, cells["session"])
    batches = sessions.batches
    base, per_context_token = coefficients(fit)
    if batches.empty:
        evidence["batch_terms"] = "not identified: one sequence at a time"
        return fit, (base, None, per_context_token), evidence
    both = _batch_fit(terms, seconds, batches)
    found = {
        "n": len(batches),
        "sequences": sorted(batches["n_sequences"].unique().tolist()),
        "scale": rounded(both.scale),
    }
    d, e, f = coefficients(both)
    three = ("iterations", "sequences summed over iterations", "context tokens summed over iterations")
    covariance = [[rounded(value) for value in row] for row in both.covariance.tolist()]
    return fit, (d, e, f), {**evidence, "terms": list(three), "covariance": covariance, "batch_terms": found}


def _batch_fit(terms: Floats, seconds: Floats, batches: pd.DataFrame) -> Fit:
    n, B, C = (batches[key].to_numpy(dtype=np.float64) for key in ("n_iterations", "n_sequences", "context_tokens"))
    lone = np.column_stack([terms[:, 0], terms[:, 0], terms[:, 1]])
    together = np.column_stack([n, B * n, C * n])
    return fit_relative(np.vstack([lone, together]), np.concatenate([seconds, batches["seconds"].to_numpy()]))


def _noise(fit: Fit) -> tuple[float, ...]:
    """Return residuals without outliers as factors of mean 1, less 1: above -1 however skewed a busy machine is."""
    factors = 1.0 + fit.residuals[~fit.outliers]
    return tuple((np.round(factors / factors.mean() - 1.0, 4) + 0.0).tolist())


def _overhead_s(requests: pd.DataFrame) -> dict[str, Any]:
    told = requests[requests["server_prefill_s"].notna() & (requests["concurrency"] == 1)]
    if told.empty:
        return {"unknown": "the server does not tell its own prompt time"}
    return {"median": rounded(float((told["ttft_s"] - told["server_prefill_s"]).median())), "n": len(told)}
