"""Devices by what bounds them: memory bandwidth for a decode, tensor rate (16 bits, dense) for a prefill."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from calibration.profile import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device's two rooflines, bytes and floating-point operations a second, by its specification in `source`.

    `recorded_as` is its name in the llama.cpp figures.
    """

    name: str
    recorded_as: str
    bandwidth_bytes_per_s: float
    compute_flops: float
    source: str


@cache
def devices() -> dict[str, Device]:
    """Return all known devices by the project's name."""
    text = files("calibration").joinpath("devices.csv").read_text(encoding="utf-8")
    return {row["name"]: _device(row) for row in csv.DictReader(text.splitlines())}


def device_of(name: str) -> Device:
    """Return a device; ValueError with a near match for one that is not known.

    >>> device_of("rtx-4090").bandwidth_bytes_per_s / 1e9
    1008.0
    """
    known = devices()
    if name not in known:
        raise ValueError(
            f"device {name!r}: its bandwidth is not known, known are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return known[name]


def _device(row: dict[str, str]) -> Device:
    return Device(
        name=row["name"],
        recorded_as=row["recorded_as"],
        bandwidth_bytes_per_s=float(row["bandwidth_bytes_per_s"]),
        compute_flops=float(row["compute_flops"]),
        source=row["source"],
    )
