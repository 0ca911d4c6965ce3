"""Transfer to another device: a prefill goes with the tensor rate, a decode with the memory bandwidth.

How far off that is, is known only from devices that were measured: each is left out and predicted from the one whose
rate is nearest. Energy does not go with either rate and is unknown on the new device.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from math import log
from pathlib import Path
from typing import Any, cast

import numpy as np

from calibration.costs import Costs, Decode
from calibration.devices import Device, devices
from calibration.evidence import rounded
from calibration.fit import OUTLIER_SCALES
from calibration.profile import Profile, Provenance
from calibration.sources.llamabench import Speeds

RATES = {"prefill": "compute_flops", "decode": "bandwidth_bytes_per_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceError:
    """A device left out: by how much its seconds were off, median of |predicted / recorded - 1| over the lengths."""

    left_out: str
    predicted_from: str
    phase: str
    model: str
    quantization: str
    error: float


def device_errors(speeds: Speeds) -> list[DeviceError]:
    """Return the error of every device, model and quantisation left out in turn; none where fewer than two ran it."""
    return [
        error
        for phase in RATES
        for model in sorted(set(speeds.model.tolist()))
        for quantization in sorted(set(speeds.quantization.tolist()))
        for error in _errors(speeds, phase, model, quantization)
    ]


def moved_profile(profile: Profile, source: Device, target: Device, *, errors: Sequence[DeviceError]) -> Profile:
    """Return the profile of the same model on another device; its energies and idle power are unknown (null)."""
    prefill_by = source.compute_flops / target.compute_flops
    decode_by = source.bandwidth_bytes_per_s / target.bandwidth_bytes_per_s
    name = "/".join([target.name, *profile.name.split("/")[1:]])
    return replace(
        profile,
        name=name,
        device=target.name,
        provenance=Provenance(latency="scaled", energy=None),
        energy_scope=None,
        seconds=Costs.of(
            [_round(prefill_by * c) for c in profile.seconds.prefill],
            cast("Decode", tuple(None if c is None else _round(decode_by * c) for c in profile.seconds.decode)),
            tile_tokens=profile.seconds.tile_tokens,
            mixed_per_context_token=_round(decode_by * profile.seconds.mixed_per_context_token),
        ),
        prefill_j=None,
        decode_j=None,
        mixed_j=None,
        idle_w=None,
        evidence={
            "scaled_from": profile.name,
            "source_provenance": {"latency": profile.provenance.latency, "energy": profile.provenance.energy},
            "source_files": profile.evidence.get("sources", []),
            "ratios": {"prefill_s": rounded(prefill_by, 6), "decode_s": rounded(decode_by, 6)},
            "devices": {"source": source.source, "target": target.source},
            "method": "prefill seconds x tensor rates, decode seconds x memory bandwidths, source over target; "
            "residuals as in the source; energies and idle power do not follow from either and are null",
            "transfer_errors": _as_evidence([e for e in errors if not _is_outlier(e, errors)]),
            "source_transfer_errors": list(profile.evidence.get("transfer_errors", [])),
            "transfer_outliers": _as_evidence([e for e in errors if _is_outlier(e, errors)]),
            "transfer_errors_note": "median |predicted / recorded - 1| of each device left out and predicted from the "
            f"one whose rate is nearest: llama.cpp, one sequence at a time. More than {OUTLIER_SCALES:g} times the "
            "median of its phase is an outlier, listed and no part of the error",
            "caveats": list(profile.evidence.get("caveats", [])),
        },
    )


def _errors(speeds: Speeds, phase: str, model: str, quantization: str) -> list[DeviceError]:
    """Return the errors of one phase; seconds per token are compared at each length that both devices have."""
    own = (speeds.phase == phase) & (speeds.model == model) & (speeds.quantization == quantization)
    own &= np.isfinite(speeds.tokens_per_s)
    measured: dict[str, dict[int, float]] = {}
    for row in np.flatnonzero(own).tolist():
        by_length = measured.setdefault(str(speeds.device[row]), {})
        by_length[int(speeds.tokens[row])] = 1.0 / float(speeds.tokens_per_s[row])
    known = {d.name: d for d in devices().values() if d.recorded_as in measured}
    if len(known) < 2:
        return []
    return [_left_out(device, known, measured, (phase, model, quantization)) for device in known.values()]


def _left_out(
    device: Device, known: Mapping[str, Device], measured: Mapping[str, Mapping[int, float]], what: tuple[str, str, str]
) -> DeviceError:
    phase, model, quantization = what
    rate = RATES[phase]
    others = [known[name] for name in sorted(known) if name != device.name]
    source = min(others, key=lambda other: abs(log(getattr(other, rate) / getattr(device, rate))))
    by = getattr(source, rate) / getattr(device, rate)
    own, other = measured[device.recorded_as], measured[source.recorded_as]
    off = [abs(by * other[n] / own[n] - 1.0) for n in own if n in other]
    return DeviceError(
        left_out=device.name,
        predicted_from=source.name,
        phase=phase,
        model=model,
        quantization=quantization,
        error=float(np.median(off)),
    )


def write_device_errors(errors: Sequence[DeviceError], path: Path) -> None:
    """Write errors as a table, rounded so that the same measurements give the same bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(DeviceError)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(found), "error": rounded(found.error)} for found in errors)


def bundled_device_errors() -> list[DeviceError]:
    """Return the errors that come with the package."""
    text = files("calibration").joinpath("profiles").joinpath("device_errors.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [DeviceError(**{**row, "error": float(row["error"])}) for row in rows]  # type: ignore[arg-type]


def _is_outlier(found: DeviceError, errors: Sequence[DeviceError]) -> bool:
    median = float(np.median([other.error for other in errors if other.phase == found.phase]))
    return found.error > OUTLIER_SCALES * median


def _as_evidence(errors: Sequence[DeviceError]) -> list[dict[str, Any]]:
    return [
        {
            "left_out": found.left_out,
            "predicted_from": found.predicted_from,
            "recorded_as": f"{found.model} {found.quantization}",
            "prefill_s": rounded(found.error) if found.phase == "prefill" else None,
            "decode_s": rounded(found.error) if found.phase == "decode" else None,
            "prefill_j": None,
            "decode_j": None,
        }
        for found in errors
    ]


def _round(value: float) -> float:
    return float(f"{value:.6g}")
