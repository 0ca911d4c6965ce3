"""The conditions of a session: what is recorded of the host, what is refused before it, and the thermal gate."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calibration.meters.boards import is_tegra
from calibration.meters.nvml import gpu_state, has_gpu

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
        "board": _text(root / "proc/device-tree/model"),
        "power_mode": _text(root / "var/lib/nvpmodel/status"),
        "gpu": None if gpu is None else {name: getattr(gpu, name) for name in gpu.__slots__},
    }


def preflight(found: dict[str, Any], *, allowed: frozenset[str] = frozenset()) -> None:
    """Refuse conditions under which figures mean little; `allowed` names checks to let pass, which are recorded.

    Raises ValueError naming the check: power-mode, clocks, throttled, processes.
    """
    gpu, complaints = found.get("gpu"), {}
    if found.get("board") and not found.get("power_mode"):
        complaints["power-mode"] = "the Jetson's power mode is not known; set one with nvpmodel -m 0"
    if found.get("board") and found.get("cpu_governors") not in (None, ["performance"]):
        complaints["clocks"] = f"clocks are not locked (governors {found['cpu_governors']}); run jetson_clocks"
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


def _processor(root: Path) -> str | None:
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().replace(b"\0", b"").decode("utf-8", "replace").strip() or None
    except OSError:
        return None
