"""The conditions of a session: what is recorded of the host, what is refused before it, and the thermal gate."""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from calibration.meters.boards import is_tegra
from calibration.meters.nvml import gpu_state, has_gpu
from calibration.profile import did_you_mean
from calibration.runtimes.generation import Runtime

CHECKS = ("elsewhere", "power-mode", "clocks", "throttled", "processes")
"""What preflight refuses, by the names that let it pass."""
MOST_SLOPE_C_PER_S = 1.0 / 60
_GATE_S, _LOOK_S = 20.0, 1.0


def host(root: Path = Path("/")) -> dict[str, Any]:
    """Return what is known of this machine; null where it is not told."""
    governors = sorted(
        {_text(p) or "?" for p in (root / "sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_governor")}
    )
    gpu = None if is_tegra(root) or not has_gpu() else gpu_state()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(root),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "cpu_governors": governors or None,
        "cpu_clock_hz": _range_hz((root / "sys/devices/system/cpu").glob("cpu*/cpufreq"), "scaling_{}_freq", 1e3),
        "gpu_clock_hz": _range_hz(_gpus(root), "{}_freq", 1.0),
        "board": _text(root / "proc/device-tree/model"),
        "power_mode": _text(root / "var/lib/nvpmodel/status"),
        "gpu": None if gpu is None else {name: getattr(gpu, name) for name in gpu.__slots__},
    }


def elsewhere(runtime: Runtime) -> str | None:
    """Return the address of a runtime's server where it is on another machine; None on this one, or where unknown."""
    url = getattr(runtime, "url", None)
    host_of = urlsplit(url or "").hostname
    if host_of is None:
        return None
    try:
        found = socket.getaddrinfo(host_of, None, type=socket.SOCK_DGRAM)
    except OSError:
        return None  # no such machine: the endpoint will say so
    return None if any(_is_own(family, address) for family, _, _, _, address in found) else url


def _is_own(family: int, address: tuple[Any, ...]) -> bool:
    """Return whether an address is of this machine: only those can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True


def preflight(found: dict[str, Any], *, allowed: frozenset[str] = frozenset()) -> None:
    """Refuse conditions under which figures mean little; `allowed` names checks to let pass, which are recorded.

    Raises ValueError naming the check, one of CHECKS, or an `allowed` that is none of them.
    """
    unknown = sorted(allowed - set(CHECKS))
    if unknown:
        raise ValueError(f"--allow {unknown[0]}: must be one of {', '.join(CHECKS)}{did_you_mean(unknown[0], CHECKS)}")
    gpu, complaints = found.get("gpu"), {}
    if found.get("elsewhere"):
        complaints["elsewhere"] = (
            f"{found['elsewhere']} is on another machine, whose clocks, processes and power are not told here; run "
            "moe2 calibrate on that machine"
        )
    if found.get("board") and not found.get("power_mode"):
        complaints["power-mode"] = "the Jetson's power mode is not known; set one with nvpmodel -m 0"
    loose = _loose_clocks(found)
    if found.get("board") and loose:
        complaints["clocks"] = f"clocks are not locked ({', '.join(loose)}); run jetson_clocks"
    if gpu and gpu["throttled_by"]:
        complaints["throttled"] = (
            f"the GPU is throttled by {', '.join(gpu['throttled_by'])}; let it cool or raise its limit"
        )
    if gpu and len(gpu["processes"]) > 1:
        complaints["processes"] = f"{len(gpu['processes'])} processes use the GPU; stop all but the server"
    for check, complaint in complaints.items():
        if check not in allowed:
            raise ValueError(f"preflight, {check}: {complaint} (or --allow {check}, which the recording keeps)")


def thermometer(root: Path = Path("/")) -> Callable[[], float] | None:
    """Return a reader of the hottest temperature in degrees Celsius; None where there is no sensor."""
    zones = [
        p for p in (root / "sys/class/thermal").glob("thermal_zone*/temp") if (_text(p) or "").lstrip("-").isdigit()
    ]
    if not is_tegra(root) and has_gpu():
        return lambda: gpu_state().temperature_c
    return (lambda: max(int(_text(zone) or 0) for zone in zones) / 1000) if zones else None


def wait_until_settled(
    read: Callable[[], float] | None, *, most_s: float = 300.0, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Wait until the temperature's slope is under 1 °C a minute; returns what happened, for the recording.

    The slope is a straight line's over the last 20 seconds. After `most_s` the wait ends and says so. The keys are
    those of a recording's rows: reason, temperature_c, slope_c_per_s.
    """
    if read is None:
        return {"reason": "no thermometer"}
    at_s: list[float] = []
    celsius: list[float] = []
    while True:
        at_s.append(len(at_s) * _LOOK_S)
        celsius.append(read())
        if at_s[-1] >= _GATE_S:
            n = int(_GATE_S / _LOOK_S)
            slope = float(np.polyfit(at_s[-n:], celsius[-n:], 1)[0])
            settled = abs(slope) < MOST_SLOPE_C_PER_S
            if settled or at_s[-1] >= most_s:
                reason = "settled" if settled else "not settled"
                return {"reason": reason, "temperature_c": celsius[-1], "slope_c_per_s": slope}
        sleep(_LOOK_S)


def _loose_clocks(found: dict[str, Any]) -> list[str]:
    """Return the clocks that may move; jetson_clocks sets the least to the most and leaves the governor as it was."""
    loose = [
        f"{name} {low / 1e6:.0f} to {high / 1e6:.0f} MHz"
        for name in ("cpu", "gpu")
        for low, high in found.get(f"{name}_clock_hz") or ()
        if low < high and not (name == "cpu" and found.get("cpu_governors") == ["performance"])
    ]
    if found.get("cpu_clock_hz") is None and found.get("cpu_governors") not in (None, ["performance"]):
        loose.append(f"governors {', '.join(found['cpu_governors'])}")
    return loose


def _range_hz(folders: Iterable[Path], file: str, unit_hz: float) -> list[list[float]] | None:
    """Return the least and the most of each clock in `folders`, each pair once; None where they are not told."""
    told = [[_text(folder / file.format(end)) or "" for end in ("min", "max")] for folder in folders]
    if not told or not all(text.isdigit() for pair in told for text in pair):
        return None
    return [[unit_hz * int(low), unit_hz * int(high)] for low, high in sorted({tuple(pair) for pair in told})]


def _gpus(root: Path) -> list[Path]:
    """Return the folders of a Tegra GPU's clock: named gpu, or by the chip."""
    return [
        p for p in (root / "sys/class/devfreq").glob("*") if p.name.endswith((".gpu", ".ga10b", ".gv11b", ".gp10b"))
    ]


def _processor(root: Path) -> str | None:
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().replace(b"\0", b"").decode("utf-8", "replace").strip() or None
    except OSError:
        return None
