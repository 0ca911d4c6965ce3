"""A measured profile from recorded sessions, with its intervals, bootstrap and everything it refused as evidence."""

from typing import Any, cast

import numpy as np
import pandas as pd

from calibration.costs import Costs, Decode, Prefill
from calibration.evidence import coefficients, fit_evidence, rounded, source_evidence
from calibration.fit import Fit, Floats, decode_terms, fit_relative, prefill_terms
from calibration.intervals import bootstrap_by_cluster, predictor
from calibration.padding import chosen_tiling
from calibration.profile import Profile, Provenance, Scope
from calibration.sessions import Sessions, batches_of, cells_of

_SEED = 0


def session_profile(sessions: Sessions, *, name: str, quantization: str) -> Profile:
    """Return the profile of recorded sessions; energies are null where no window had any.

    Raises ValueError when the lengths recorded do not tell the terms apart.
    """
    manifest = sessions.manifest
    prefill, prefill_evidence = _prefill_s(sessions)
    decode, decode_s, decode_evidence = _decode_s(sessions)
    prefill_j, decode_j, joules_evidence = _joules(sessions, batched=decode_s[1] is not None)
    base, per_sequence, per_context_token = decode_s
    return Profile(
        name=name,
        device=str(manifest["device"]),
        model=str(manifest["model"]),
        quantization=quantization,
        runtime=str(manifest.get("runtime_build") or "not told"),
        power_mode=str(manifest["host"].get("power_mode") or "not told"),
        provenance=Provenance(latency="measured", energy="measured"),
        energy_scope=cast("Scope", manifest["meter"]["scope"] or "gpu"),
        context_tokens=int(manifest["runtime"].get("context_tokens") or sessions.requests["prompt_tokens"].max()),
        seconds=Costs(
            prefill=cast("Prefill", coefficients(prefill)),
            base=base,
            per_sequence=per_sequence,
            per_context_token=per_context_token,
        ),
        knee_tokens=0,
        prefill_j=prefill_j,
        decode_j=decode_j,
        idle_w=None if sessions.idle_w is None else rounded(sessions.idle_w),
        residuals_prefill=_noise(prefill),
        residuals_decode=_noise(decode),
        evidence={
            "sources": [source_evidence(sessions.source, "recorded session; the hash is the model file's")],
            "recording": {key: manifest.get(key) for key in ("began_unix_s", "plan", "formulas", "meter", "allowed")},
            "host": manifest["host"],
            "weights": manifest["runtime"].get("weights", "as served"),
            "method": "medians of cells; soft-L1 on fitted / measured - 1, coefficients >= 0",
            "refused_rows": list(sessions.refused),
            "client_overhead_s": _overhead_s(sessions.requests),
            "prefill_s": prefill_evidence,
            "decode_s": decode_evidence,
            **joules_evidence,
        },
    )


def _prefill_s(sessions: Sessions) -> tuple[Fit, dict[str, Any]]:
    cells = cells_of(sessions.requests, "ttft_s").dropna()
    terms, seconds = prefill_terms(cells["asked_prompt_tokens"]), cells["ttft_s"].to_numpy(dtype=np.float64)
    fit = fit_relative(terms, seconds)
    lengths = {"prompt_tokens": cells["asked_prompt_tokens"].to_numpy()}
    tiling = chosen_tiling(lengths["prompt_tokens"], seconds)
    evidence = fit_evidence(fit, terms, seconds, names=("1", "P", "P²"), lengths=lengths, by="prompt_tokens")
    tile = {"chosen": tiling.tile, "errors": {str(key): rounded(value) for key, value in tiling.errors.items()}}
    return fit, {**evidence, "tile": tile, **_spread(terms, seconds, cells["session"])}


def _decode_s(sessions: Sessions) -> tuple[Fit, Decode, dict[str, Any]]:
    """Fit lone decodes; with batches beside, a second fit to both identifies the term per sequence."""
    cells = cells_of(sessions.requests[sessions.requests["asked_output_tokens"] > 1], "decode_s").dropna()
    lengths = {
        "prompt_tokens": cells["asked_prompt_tokens"].to_numpy(),
        "output_tokens": cells["asked_output_tokens"].to_numpy(),
    }
    terms, seconds = decode_terms(*lengths.values()), cells["decode_s"].to_numpy(dtype=np.float64)
    fit = fit_relative(terms, seconds)
    names = ("iterations", "context tokens summed over iterations")
    evidence = fit_evidence(fit, terms, seconds, names=names, lengths=lengths, by="prompt_tokens")
    evidence |= _spread(terms, seconds, cells["session"])
    batches = batches_of(sessions.requests)
    base, per_context_token = coefficients(fit)
    if batches["n_sequences"].nunique() < 1:
        return (
            fit,
            (base, None, per_context_token),
            {**evidence, "batch_terms": "not identified: one sequence at a time"},
        )
    both = _batch_fit(terms, seconds, batches)
    found = {
        "n": len(batches),
        "sequences": sorted(batches["n_sequences"].unique().tolist()),
        "scale": rounded(both.scale),
    }
    d, e, f = coefficients(both)
    return fit, (d, e, f), {**evidence, "batch_terms": found}


def _batch_fit(terms: Floats, seconds: Floats, batches: pd.DataFrame) -> Fit:
    n, B, C = (batches[key].to_numpy(dtype=np.float64) for key in ("n_iterations", "n_sequences", "context_tokens"))
    lone = np.column_stack([terms[:, 0], terms[:, 0], terms[:, 1]])
    together = np.column_stack([n, B * n, C * n])
    return fit_relative(np.vstack([lone, together]), np.concatenate([seconds, batches["seconds"].to_numpy()]))


def _joules(sessions: Sessions, *, batched: bool) -> tuple[Prefill | None, Decode | None, dict[str, Any]]:
    """Fit windows of one output token for the prefill, and paired differences at the same prompt for the decode."""
    windows = sessions.windows
    keys = ["session", "block", "asked_prompt_tokens"]
    single = windows[windows["asked_output_tokens"] == 1]
    longer = windows[windows["asked_output_tokens"] > 1].merge(
        single[[*keys, "request_j"]], on=keys, suffixes=("", "_1")
    )
    if single["asked_prompt_tokens"].nunique() < 3 or longer.empty:
        unknown = {"n": len(single), "unknown": "no meter, or too few windows that have an energy"}
        return None, None, {"prefill_j": unknown, "decode_j": unknown}
    P = single["asked_prompt_tokens"].to_numpy()
    terms, joules = prefill_terms(P), single["request_j"].to_numpy(dtype=np.float64)
    prefill = fit_relative(terms, joules)
    evidence = {
        "prefill_j": fit_evidence(
            prefill, terms, joules, names=("1", "P", "P²"), lengths={"prompt_tokens": P}, by="prompt_tokens"
        )
    }
    lengths = {key: longer[f"asked_{key}"].to_numpy() for key in ("prompt_tokens", "output_tokens")}
    terms, joules = decode_terms(*lengths.values()), (longer["request_j"] - longer["request_j_1"]).to_numpy(np.float64)
    decode = fit_relative(terms[joules > 0], joules[joules > 0])
    above = {key: values[joules > 0] for key, values in lengths.items()}
    names = ("iterations", "context tokens summed over iterations")
    evidence["decode_j"] = fit_evidence(
        decode, terms[joules > 0], joules[joules > 0], names=names, lengths=above, by="prompt_tokens"
    )
    evidence["decode_j"]["net_of_idle"] = "gross; net = gross - idle_w x seconds"
    base, per_context_token = coefficients(decode)
    if batched:
        evidence["decode_j"]["unknown"] = (
            "windows are of lone sequences: joules per sequence of a batch are not identified"
        )
    return cast("Prefill", coefficients(prefill)), None if batched else (base, None, per_context_token), evidence


def _spread(terms: Floats, measured: Floats, sessions: pd.Series) -> dict[str, Any]:
    """Return the 90 % prediction interval and the bootstrap's standard errors, as evidence."""
    rng = np.random.default_rng(_SEED)
    found = predictor(terms, measured, rng=rng)
    drawn = bootstrap_by_cluster(terms, measured, sessions.to_numpy(dtype=str), rng=rng)
    clusters = int(sessions.nunique())
    return {
        "interval": {
            "half_width": None if found.half_width is None else rounded(found.half_width),
            "method": found.method,
        },
        "bootstrap": {
            "by": "session" if clusters > 1 else "cell, as there is one session",
            "clusters": clusters,
            "standard_errors": [rounded(float(value)) for value in drawn.std(axis=0)],
        },
    }


def _noise(fit: Fit) -> tuple[float, ...]:
    """Return residuals without outliers as factors of mean 1, less 1: above -1 however skewed a busy machine is."""
    factors = 1.0 + fit.residuals[~fit.outliers]
    return tuple((np.round(factors / factors.mean() - 1.0, 4) + 0.0).tolist())


def _overhead_s(requests: pd.DataFrame) -> dict[str, Any]:
    told = requests[requests["server_prefill_s"].notna() & (requests["concurrency"] == 1)]
    if told.empty:
        return {"unknown": "the server does not tell its own prompt time"}
    return {"median": rounded(float((told["ttft_s"] - told["server_prefill_s"]).median())), "n": len(told)}
