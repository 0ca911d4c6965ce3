"""Transfer: a profile scaled to another model on the same device, and how far off such a transfer is.

The form is a roofline's. Weights are read once per decode iteration and multiplied once per prompt token, so
those terms go with the bytes of weights read; a decode iteration reads the KV cache of its context, so that term
goes with KV bytes per token; the quadratic term of a prefill goes with attention work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np

from calibration.architectures import Architecture, architecture_of
from calibration.costs import Costs, Decode, Prefill
from calibration.evidence import rounded
from calibration.precision import UNKNOWN
from calibration.profile import Origin, Profile, Provenance, bundled_profiles, read_profile
from calibration.recordings import Decodes, Prefills


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """Target over source: weights read, KV bytes per token, attention work."""

    weights: float
    kv: float
    attention: float


def ratios(
    source: Architecture, target: Architecture, source_quantization: str | None, quantization: str | None
) -> Ratios:
    """Return how much more a target reads and computes than a source; ValueError for precisions that are not known."""
    if source_quantization == quantization:  # known or not: the same bytes for each parameter
        weights = target.read_parameters / source.read_parameters
    else:
        weights = target.read_bytes(quantization) / source.read_bytes(source_quantization)
    return Ratios(
        weights=weights,
        kv=target.kv_bytes_per_token / source.kv_bytes_per_token,
        attention=target.attention_width / source.attention_width,
    )


def scaled_costs(costs: Costs, by: Ratios) -> Costs:
    """Return costs of a model that reads and computes so much more."""
    return Costs.of(
        _scaled_prefill(costs.prefill, by),
        _scaled_decode(costs.decode, by),
        tile_tokens=costs.tile_tokens,
        mixed_per_context_token=_round(costs.mixed_per_context_token * by.kv),
    )


def nearest(target: Architecture, sources: Mapping[str, Architecture]) -> str:
    """Return the name of the source whose weights read are nearest by ratio; ties by name."""

    def distance(name: str) -> float:
        return abs(log(sources[name].read_parameters / target.read_parameters))

    return min(sorted(sources), key=distance)


def scaled_profile(
    profile: Profile,
    source: Architecture,
    target: Architecture,
    *,
    device: str,
    errors: Sequence[Mapping[str, Any]],
    errors_note: str,
) -> Profile:
    """Return the profile of another model on the same device, with the transfer errors in its evidence.

    Energy keeps the name 'assumed' when the source's is: scaling does not make an assumption any better.
    """
    quantization = profile.quantization
    by = ratios(source, target, quantization, quantization)
    label = profile.name.rpartition("/")[2] if profile.name.count("/") == 2 else quantization or UNKNOWN
    origin = profile.provenance.energy
    energy: Origin | None = "scaled" if origin in {"measured", "composed"} else origin
    return replace(
        profile,
        name=f"{device}/{target.name}/{label}",
        model=target.name,
        provenance=Provenance(latency="scaled", energy=energy),
        context_tokens=target.context_tokens,
        seconds=scaled_costs(profile.seconds, by),
        prefill_j=profile.prefill_j and _scaled_prefill(profile.prefill_j, by),
        decode_j=profile.decode_j and _scaled_decode(profile.decode_j, by),
        mixed_j=None if profile.mixed_j is None else _round(profile.mixed_j * by.kv),
        evidence={
            "scaled_from": profile.name,
            "source_provenance": {"latency": profile.provenance.latency, "energy": profile.provenance.energy},
            "source_files": profile.evidence.get("sources", []),
            "ratios": {
                "weights_read": rounded(by.weights, 6),
                "kv_bytes_per_token": rounded(by.kv, 6),
                "attention_work": rounded(by.attention, 6),
                "note": _ratio_note(by),
            },
            "architectures": {"source": source.source, "target": target.source},
            "method": "terms bound by weights (a, b, base, per_sequence) x weights read; c x attention work; "
            "per_context_token x KV bytes per token; power, idle power and residuals as in the source",
            "transfer_errors": [dict(error) for error in errors],
            "transfer_errors_note": errors_note,
            **({"energy": profile.evidence["energy"]} if energy == "assumed" and "energy" in profile.evidence else {}),
            "caveats": list(profile.evidence.get("caveats", [])),
        },
    )


def modelled_as(profile: Profile, model: str) -> Profile:
    """Return the profile scaled to another known model on its device, with the transfer errors that are bundled."""
    scaled = next(p for p in map(read_profile, bundled_profiles().values()) if "transfer_errors" in p.evidence)
    return scaled_profile(
        profile,
        architecture_of(profile.model),
        architecture_of(model),
        device=profile.name.partition("/")[0],
        errors=scaled.evidence["transfer_errors"],
        errors_note=scaled.evidence["transfer_errors_note"],
    )


def transfer_errors(
    measured: Mapping[str, Profile],
    known: Mapping[str, Architecture],
    prefills: Prefills,
    decodes: Decodes,
) -> list[dict[str, Any]]:
    """Return, for each measured model left out in turn, how far a transfer from the nearest other is off.

    Errors are medians of |predicted / recorded - 1| over the model's recorded rows, for decode joules over its own
    fit at the recorded lengths (the recorded joules also hold other things). Null where energy is unknown.
    """
    return [_left_out(name, measured, known, prefills, decodes) for name in sorted(measured)]


def _left_out(
    name: str,
    measured: Mapping[str, Profile],
    known: Mapping[str, Architecture],
    prefills: Prefills,
    decodes: Decodes,
) -> dict[str, Any]:
    own = measured[name]
    others = {other: known[other] for other in measured if other != name}
    source = nearest(known[name], others)
    by = ratios(known[source], known[name], measured[source].quantization, own.quantization)
    recorded_model = own.evidence["recorded_as"]["model"]
    seconds = scaled_costs(measured[source].seconds, by)
    at = prefills.model == recorded_model
    prompt, prefill_s = prefills.prompt_tokens[at], prefills.seconds[at]
    at = (decodes.model == recorded_model) & (decodes.output_tokens > 1)
    P, O, decode_s = decodes.prompt_tokens[at], decodes.output_tokens[at], decodes.seconds[at]  # noqa: E741
    return {
        "left_out": name,
        "predicted_from": source,
        "prefill_s": _error(seconds.prefill_of(prompt), prefill_s),
        "decode_s": _error(seconds.leg_of(P, O) - seconds.prefill_of(P), decode_s),
        "prefill_j": _prefill_j_error(own, measured[source], by, prompt),
        "decode_j": _decode_j_error(own, measured[source], by, P, O),
    }


def _prefill_j_error(own: Profile, source: Profile, by: Ratios, prompt: Any) -> float | None:
    if own.prefill_j is None or source.prefill_j is None:
        return None
    powers = np.asarray(prompt, dtype=np.float64)[:, None] ** np.arange(3)
    return _error(powers @ np.array(_scaled_prefill(source.prefill_j, by)), powers @ np.array(own.prefill_j))


def _decode_j_error(own: Profile, source: Profile, by: Ratios, P: Any, O: Any) -> float | None:  # noqa: E741
    if own.decode_j is None or source.decode_j is None:
        return None
    predicted, fitted = (
        Costs.of((0.0, 0.0, 0.0), decode).leg_of(P, O) for decode in (_scaled_decode(source.decode_j, by), own.decode_j)
    )
    return _error(predicted, fitted)


def _error(predicted: Any, recorded: Any) -> float | None:
    return rounded(float(np.median(np.abs(np.asarray(predicted) / np.asarray(recorded) - 1.0))))


def _scaled_prefill(prefill: Prefill, by: Ratios) -> Prefill:
    a, b, c = prefill
    return (_round(a * by.weights), _round(b * by.weights), _round(c * by.attention))


def _scaled_decode(decode: Decode, by: Ratios) -> Decode:
    base, per_sequence, per_context_token = decode
    return (
        _round(base * by.weights),
        None if per_sequence is None else _round(per_sequence * by.weights),
        _round(per_context_token * by.kv),
    )


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _ratio_note(by: Ratios) -> str:
    same = by == Ratios(weights=1.0, kv=1.0, attention=1.0)
    return "same architecture as the source, ratio 1" if same else "target over source"
