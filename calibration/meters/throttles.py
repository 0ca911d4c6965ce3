"""What slows a device down while it works: a GPU's clock event reasons, a Jetson's and a processor's own files."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from calibration.meters.boards import is_tegra
from calibration.meters.nvml import NvmlThrottles, has_gpu

_COOLING = ("cpufreq", "devfreq", "thermal-cpufreq", "thermal-devfreq", "processor", "cpu-balanced", "gpu-balanced")
"""How the types of cooling devices begin that slow something down; a fan slows nothing."""


class Throttles(Protocol):
    """A place that tells what slows the device."""

    @property
    def covers(self) -> str:
        """What is looked at, in words; goes into the recording."""
        ...

    def since(self) -> tuple[str, ...]:
        """Return what slowed the device since the last look, or does now; ValueError when it no longer tells."""
        ...


class SysfsThrottles:
    """The kernel's own files: cooling devices that are on, and counters of throttling that grew.

    Counters are a Jetson's over-current events (soctherm) and an x86 processor's throttle counts: they miss nothing
    between two looks. A cooling device is seen when it is on during a look; heat lasts for seconds.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._states = dict(_cooling(root))
        self._counters = dict(_counters(root))
        self._known: dict[str, int] = {}
        self.since()

    @property
    def covers(self) -> str:
        """What is looked at, '' where the kernel tells nothing."""
        kinds = ((self._states, "cooling devices"), (self._counters, "throttle counters"))
        told = " and ".join(f"{len(files)} {kind}" for files, kind in kinds if files)
        return f"{told} of the kernel" if told else ""

    def since(self) -> tuple[str, ...]:
        """Return the names of cooling devices that are on and of counters that grew since the last look."""
        on = [name for name, file in self._states.items() if _number(file) > 0]
        counts = {name: _number(file) for name, file in self._counters.items()}
        grew = [name for name, n in counts.items() if n > self._known.get(name, n)]
        self._known = counts
        return (*on, *grew)


def throttles(root: Path = Path("/")) -> tuple[Throttles, ...]:
    """Return all places that tell of throttling on this machine; none where nothing can be read."""
    found: list[Throttles] = [SysfsThrottles(root)]
    if not is_tegra(root) and has_gpu():
        found.append(NvmlThrottles())
    return tuple(place for place in found if place.covers)


def _cooling(root: Path) -> Iterable[tuple[str, Path]]:
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = _text(device / "type")
        if kind.lower().startswith(_COOLING) or "throttle" in kind.lower():
            yield f"cooling device {device.name.removeprefix('cooling_device')} ({kind})", device / "cur_state"


def _counters(root: Path) -> Iterable[tuple[str, Path]]:
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(chip / "name") == "soctherm_oc":
            for file in sorted(chip.glob("oc*_event_cnt")):
                yield f"over-current event {file.name.removesuffix('_event_cnt')}", file
    for file in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")):
        yield f"{file.parts[-3]} {file.stem.removesuffix('_throttle_count')} too hot", file


def _number(file: Path) -> int:
    text = _text(file)
    if not text.lstrip("-").isdigit():
        raise ValueError(f"{file}: found {text!r}, the throttling it told of before can no longer be read")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def looked(places: Sequence[Throttles]) -> Callable[[], str | None]:
    """Return a look at all places: names joined by commas, '' for none, None where nothing is told or one is gone."""

    def look() -> str | None:
        try:
            return ", ".join([name for place in places for name in place.since()]) if places else None
        except ValueError:
            return None

    return look
