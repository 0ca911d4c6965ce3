"""Measured profiles: cost models fitted to recordings of one model on one device, one sequence at a time."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from calibration.architectures import architectures
from calibration.costs import Costs, Decode, Prefill
from calibration.evidence import (
    coefficients,
    fit_evidence,
    interval_evidence,
    noise,
    rounded,
    source_evidence,
    tile_evidence,
)
from calibration.fit import Fit, decode_terms, fit_relative, prefill_terms
from calibration.padding import chosen_tiling, padded_terms
from calibration.profile import Profile, Provenance
from calibration.recordings import Decodes, Prefills, Recording, rows

LOADED_SHARE = 0.4
"""A prefill whose mean power is below this share of the device's loaded power was missed by the power log."""
_PREFILL_NAMES = ("1", "P", "P²")
_DECODE_NAMES = ("iterations", "context tokens summed over iterations")
_WINDOW_NAMES = (*_DECODE_NAMES, "1 (rest of the window)", "P (prefill in the window)")


def measured_profile(
    prefills: Prefills,
    decodes: Decodes,
    *,
    device: str,
    model: str,
    recorded_device: str,
    recorded_model: str,
    quantization: str = "fp16",
    tiles: bool = False,
) -> Profile:
    """Return the profile of one model on one device.

    The precision of its weights is as the recording's source labels it, unless `quantization` says better. With
    `tiles` prefill costs whole tiles of prompt tokens, where cross-validation prefers one. `recorded_*` are the
    recording's own names. Raises ValueError when there are too few rows to fit.
    """
    own_prefills = _own(prefills, recorded_device, recorded_model)
    own_decodes = _own(decodes, recorded_device, recorded_model)
    prefill, tile, prefill_evidence = _fit_prefill_s(own_prefills, tiles=tiles)
    decode, decode_evidence = _fit_decode_s(own_decodes)
    loaded_w = _loaded_power_w(prefills, decodes, recorded_device)
    prefill_j, prefill_j_evidence = _fit_prefill_j(own_prefills, loaded_w, tile)
    decode_j, decode_j_evidence = _fit_decode_j(own_decodes)
    idle_w, idle_evidence = _idle_power(prefills, decodes, recorded_device, loaded_w)
    return Profile(
        name=f"{device}/{model}/{quantization}",
        device=recorded_device,
        model=model,
        quantization=quantization,
        runtime="not stated in the recording",
        power_mode="not stated in the recording",
        provenance=Provenance(latency="measured", energy="measured"),
        energy_scope="gpu",
        context_tokens=_context_tokens(model, own_decodes),
        seconds=Costs.of(coefficients(prefill), _alone(decode), tile_tokens=tile),
        knee_tokens=0,
        prefill_j=None if prefill_j is None else cast("Prefill", coefficients(prefill_j)),
        decode_j=_alone(decode_j),
        idle_w=idle_w,
        residuals_prefill=noise(prefill),
        residuals_decode=noise(decode),
        evidence={
            **_origin(prefills, decodes, recorded_device, recorded_model),
            "prefill_s": prefill_evidence,
            "decode_s": decode_evidence,
            "prefill_j": {**prefill_j_evidence, "cross_check": _window_check(prefill_j, decode_j)},
            "decode_j": decode_j_evidence,
            "idle_w": idle_evidence,
            "caveats": [caveat for caveat in _CAVEATS if tile == 1 or caveat != _SMOOTH],
        },
    )


def _origin(prefills: Prefills, decodes: Decodes, device: str, model: str) -> dict[str, Any]:
    return {
        "sources": [
            source_evidence(prefills.source, "time to first token, mean power and joules against prompt tokens"),
            source_evidence(decodes.source, "decode seconds and joules against prompt and output tokens"),
        ],
        "recorded_as": {"device": device, "model": model},
        "method": "soft-L1 on fitted / measured - 1, coefficients >= 0, scale estimated from the residuals",
    }


_SMOOTH = "prefill time is a staircase of 256 prompt tokens; the smooth fit goes through its middle"
_CAVEATS = (
    "one sequence at a time: batch terms are not identified, so max_batch must be 1",
    "prefill joules read low for short prompts, whose load the power log half missed: see prefill_j.cross_check "
    "of the measured profile",
    "joules are the GPU rail's: CPU, memory, carrier board and supply losses are not in them",
    _SMOOTH,
    "weights are labelled fp16 in the recording; their precision is not certain",
)


def _alone(decode: Fit) -> Decode:
    """Return the costs of a decode iteration of one sequence: of the fit's terms the first two."""
    base, per_context_token = coefficients(decode)[:2]
    return (base, None, per_context_token)


def _own(recording: Recording, device: str, model: str) -> Recording:
    return rows(recording, (recording.device == device) & (recording.model == model))


def _fit_prefill_s(prefills: Prefills, *, tiles: bool) -> tuple[Fit, int, dict[str, Any]]:
    """Return the fit, its tile in tokens (1: the smooth form), and its evidence."""
    tiling = chosen_tiling(prefills.prompt_tokens, prefills.seconds)
    tile = tiling.tile if tiles else 1
    terms = padded_terms(prefills.prompt_tokens, tile)
    fit = _fit(terms, prefills.seconds, prefills, "prefill seconds")
    lengths = {"prompt_tokens": prefills.prompt_tokens}
    evidence = fit_evidence(fit, terms, prefills.seconds, names=_PREFILL_NAMES, lengths=lengths, by="prompt_tokens")
    evidence |= interval_evidence(terms, prefills.seconds)
    return fit, tile, {**evidence, "tile": tile_evidence(tiling, used=tile > 1)}


def _fit_decode_s(decodes: Decodes) -> tuple[Fit, dict[str, Any]]:
    kept, refused = _decodes_that_decode(decodes)
    terms = decode_terms(kept.prompt_tokens, kept.output_tokens)
    fit = _fit(terms, kept.seconds, kept, "decode seconds")
    evidence = fit_evidence(
        fit, terms, kept.seconds, names=_DECODE_NAMES, lengths=_lengths(kept), by="output_tokens", refused=refused
    )
    covers = "decode_time_s covers output_tokens - 1 iterations: a single token takes 0 s, as the prefill emits it"
    return fit, {"covers": covers, **evidence, **interval_evidence(terms, kept.seconds)}


def _fit_decode_j(decodes: Decodes) -> tuple[Fit, dict[str, Any]]:
    """Fit the energy of the whole monitored window, in which the prefill and some idling are terms of their own."""
    kept, refused = _decodes_that_decode(decodes)
    terms = np.column_stack(
        [decode_terms(kept.prompt_tokens, kept.output_tokens), prefill_terms(kept.prompt_tokens)[:, :2]]
    )
    fit = _fit(terms, kept.energy_j, kept, "decode joules")
    evidence = fit_evidence(
        fit, terms, kept.energy_j, names=_WINDOW_NAMES, lengths=_lengths(kept), by="output_tokens", refused=refused
    )
    return fit, {
        "covers": "joules are taken over monitoring_time_s, which is longer than the decoding: the prefill and the "
        "rest of the window are fitted beside (1 and P) and left out of decode_j, which thus rests on the "
        "differences between output lengths",
        "window_coefficients": [rounded(value) for value in fit.coefficients[2:].tolist()],
        **evidence,
        **interval_evidence(terms, kept.energy_j),
    }


def _fit_prefill_j(prefills: Prefills, loaded_w: float, tile: int) -> tuple[Fit | None, dict[str, Any]]:
    missed = prefills.mean_power_w < LOADED_SHARE * loaded_w
    refused = _refused_power(prefills, missed, loaded_w)
    kept = rows(prefills, ~missed)
    terms = padded_terms(kept.prompt_tokens, tile)
    if len(np.unique(kept.prompt_tokens)) <= terms.shape[1]:
        return None, {"n": len(kept.prompt_tokens), "refused": refused, "unknown": "too few rows are left to fit"}
    fit = _fit(terms, kept.energy_j, kept, "prefill joules")
    lengths = {"prompt_tokens": kept.prompt_tokens}
    evidence = fit_evidence(
        fit, terms, kept.energy_j, names=_PREFILL_NAMES, lengths=lengths, by="prompt_tokens", refused=refused
    )
    return fit, evidence | interval_evidence(terms, kept.energy_j)


def _refused_power(prefills: Prefills, missed: NDArray[np.bool_], loaded_w: float) -> list[dict[str, Any]]:
    if not missed.any():
        return []
    power_w, prompt = prefills.mean_power_w[missed], prefills.prompt_tokens[missed]
    return [
        {
            "n": int(missed.sum()),
            "prompt_tokens": [int(prompt.min()), int(prompt.max())],
            "mean_power_w": [rounded(power_w.min()), rounded(power_w.max())],
            "seconds": [rounded(prefills.seconds[missed].min()), rounded(prefills.seconds[missed].max())],
            "reason": f"mean power is at idle level, below {LOADED_SHARE:g} of the {loaded_w:.4g} W that this device "
            "reports under load: the prefill was over before the power log, about one reading a second, saw it",
        }
    ]


def _loaded_power_w(prefills: Prefills, decodes: Decodes, device: str) -> float:
    """Return the highest power that the recordings report of a device, whatever the model."""
    powers = (prefills.mean_power_w[prefills.device == device], decodes.final_power_w[decodes.device == device])
    return float(np.nanmax(np.concatenate(powers)))


def _idle_power(
    prefills: Prefills, decodes: Decodes, device: str, loaded_w: float
) -> tuple[float | None, dict[str, Any]]:
    """Return the device's idle power: what the log read in the prefills that it missed."""
    power_w = prefills.mean_power_w[prefills.device == device]
    missed = power_w[power_w < LOADED_SHARE * loaded_w]
    initial_w = decodes.initial_power_w[decodes.device == device]
    initial_w = initial_w[np.isfinite(initial_w)]
    evidence = {
        "n": len(missed),
        "method": "median power of the prefill rows refused as idle level, all models of the device; the power "
        "log's first readings of the decode rows are lower and beside",
        "range": [rounded(missed.min()), rounded(missed.max())] if len(missed) else None,
        "initial_power_w_median": rounded(float(np.median(initial_w))) if len(initial_w) else None,
    }
    return (rounded(float(np.median(missed))) if len(missed) else None), evidence


def _window_check(prefill_j: Fit | None, decode_j: Fit, prompt_tokens: int = 1024) -> dict[str, Any]:
    """Compare the prefill joules with those that the decode windows contain: two logs of one quantity."""
    fitted = np.nan if prefill_j is None else float((prefill_terms([prompt_tokens]) @ prefill_j.coefficients)[0])
    window = float(prefill_terms([prompt_tokens])[0, :2] @ decode_j.coefficients[2:])
    return {
        "prompt_tokens": prompt_tokens,
        "fitted_j": rounded(fitted),
        "decode_windows_j": rounded(window),
        "meaning": "the decode windows also hold up to a second or two of idling; where they still hold much more, "
        "the prefill log, slower than a short prefill, reads low",
    }


def _decodes_that_decode(decodes: Decodes) -> tuple[Decodes, list[dict[str, Any]]]:
    single = (decodes.output_tokens == 1) | (decodes.seconds <= 0)
    refused = {"n": int(single.sum()), "reason": "one output token: no decode iteration, 0 s; its joules are prefill"}
    return rows(decodes, ~single), [refused] if single.any() else []


def _lengths(decodes: Decodes) -> dict[str, NDArray[np.int64]]:
    return {"prompt_tokens": decodes.prompt_tokens, "output_tokens": decodes.output_tokens}


def _fit(terms: NDArray[np.float64], measured: NDArray[np.float64], recording: Prefills | Decodes, what: str) -> Fit:
    try:
        return fit_relative(terms, measured)
    except ValueError as error:
        name = recording.model[0] if len(recording.model) else "this model"
        raise ValueError(f"{recording.source.file}: {what} of {name}: {error}") from error


def _context_tokens(model: str, decodes: Decodes) -> int:
    """Return the model's context length; for one that is not known, the longest context recorded."""
    known = architectures().get(model)
    return known.context_tokens if known else int(np.max(decodes.prompt_tokens + decodes.output_tokens))
