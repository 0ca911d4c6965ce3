"""Where a profile's figures come from and how far off they may be, as the short texts of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calibration.profile import Profile

__all__ = ["caveats", "errors", "source"]

_QUANTITIES = {
    "prefill_s": "prefill time",
    "decode_s": "decode time",
    "prefill_j": "prefill joules",
    "decode_j": "decode joules",
}


def source(profile: Profile) -> str:
    """Return the files a profile rests on, and the profile it was scaled from; nothing where none is recorded."""
    evidence = profile.evidence
    files = [str(entry["file"]) for entry in evidence.get("sources", evidence.get("source_files", []))]
    scaled = f"scaled from {evidence['scaled_from']}; " if "scaled_from" in evidence else ""
    added = [f"{entry['watts']:g} W added: {entry['source']}" for entry in evidence.get("added_power", [])]
    return "; ".join([scaled + ", ".join(files), *added]) if scaled or files or added else ""


def errors(profile: Profile) -> str:
    """Return the measured errors: of a scaled profile those of the transfer, else those on lengths not fitted."""
    evidence = profile.evidence
    if transfers := evidence.get("transfer_errors"):
        return f"transfer error {_ranges(transfers)}"
    found = {q: evidence.get(q, {}).get("left_out", {}).get("median_abs_error") for q in _QUANTITIES}
    words = [f"{_QUANTITIES[q]} {error:.1%}" for q, error in found.items() if error is not None]
    return f"median error on lengths left out: {', '.join(words)}" if words else ""


def caveats(profile: Profile) -> str:
    """Return what the profile says against itself, the range of assumed watts first."""
    energy = profile.evidence.get("energy", {})
    watts = [
        f"{phase} assumed at {_watts(energy[f'{phase}_w'])}"
        for phase in ("prefill", "decode")
        if f"{phase}_w" in energy
    ]
    return ". ".join([text[:1].upper() + text[1:] for text in [*watts, *profile.evidence.get("caveats", [])]])


def _ranges(transfers: Sequence[Mapping[str, Any]]) -> str:
    words = []
    for quantity, name in _QUANTITIES.items():
        found = sorted(row[quantity] for row in transfers if row.get(quantity) is not None)
        if found:
            words.append(f"{name} {found[0]:.1%}–{found[-1]:.1%}")
    return ", ".join(words)


def _watts(power_w: Mapping[str, float]) -> str:
    return f"{power_w['value']:.0f} W ({power_w['low']:.0f}–{power_w['high']:.0f} W)"
