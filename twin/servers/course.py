"""The course of a device: the experts that share it, and what befalls it during a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from calibration.profile import did_you_mean
from twin.servers.expert import Expert
from twin.servers.faults import Crash, Fault, PowerSwitch, Step, steps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One device of a run; `experts` are indices in the scenario's order, `steps` in the order of time."""

    device: str
    experts: tuple[int, ...]
    steps: tuple[Step, ...]

    @property
    def crashes(self) -> tuple[Crash, ...]:
        """When the device is down."""
        return tuple(step for step in self.steps if isinstance(step, Crash))

    def down_since_s(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return since when the device has been down at each instant, NaN where it is up; same shape."""
        since_s = np.full(at_s.shape, nan)
        for crash in self.crashes:
            since_s[(at_s >= crash.at_s) & (at_s < crash.repaired_s)] = crash.at_s
        return since_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one device did and spent.

    `busy_s` sums all its iterations, `busy_energy_j` those whose work was not lost; `last_s` is the end of the last
    one, 0 without any. `overheads` are (instant, joules). `modes` are (instant, busy seconds so far, power mode from
    there on; None is the one at the start).
    """

    busy_s: float
    busy_energy_j: float
    last_s: float
    overheads: Sequence[tuple[float, float]] = ()
    modes: Sequence[tuple[float, float, str | None]] = ((0.0, 0.0, None),)

    def overhead_j(self, horizon_s: float) -> float:
        """Return the joules of what began before the horizon: loads, switches, and work lost in crashes."""
        return float(sum(joules for at_s, joules in self.overheads if at_s <= horizon_s))

    def idle_j(self, experts: Sequence[Expert], horizon_s: float) -> float:
        """Return the idle watts of each power mode times the seconds in it in which no iteration ran.

        Experts that share a device share its idle power: the largest of their profiles' counts. NaN when unknown.
        """
        idle_j = 0.0
        ends = [*self.modes[1:], (horizon_s, self.busy_s, None)]
        for (begins_s, busy_s, mode), (ends_s, busy_end_s, _) in zip(self.modes, ends, strict=True):
            seconds = min(ends_s, horizon_s) - min(begins_s, horizon_s) - (busy_end_s - busy_s)
            idle_j += idle_w_of(experts, mode) * max(seconds, 0.0)  # rounding may take it just below 0
        return idle_j


def idle_w_of(experts: Sequence[Expert], mode: str | None) -> float:
    """Return the idle watts of a device in a power mode, None that at the start; NaN when one is unknown."""
    found = [expert.profile_in(mode).idle_w for expert in experts]
    return nan if None in found else max(w for w in found if w is not None)


def courses_of(experts: Sequence[Expert], faults: Mapping[str, Sequence[Fault]], stop_s: float) -> tuple[Course, ...]:
    """Return the devices in the order of their first experts, with what befalls each before `stop_s`.

    Raises ValueError for a fault of an unknown device, or a switch to a power mode that an expert has no profile of.
    """
    devices = list(dict.fromkeys(expert.device for expert in experts))
    for name in faults:
        if name not in devices:
            raise ValueError(f"faults: no device {name!r}{did_you_mean(name, devices)}; devices: {', '.join(devices)}")
    courses = []
    for device in devices:
        mine = tuple(i for i, expert in enumerate(experts) if expert.device == device)
        _check_modes([experts[i] for i in mine], faults.get(device, ()))
        courses.append(Course(device=device, experts=mine, steps=steps_of(faults.get(device, ()), stop_s)))
    return tuple(courses)


def _check_modes(experts: Sequence[Expert], faults: Sequence[Fault]) -> None:
    for fault in (fault for fault in faults if isinstance(fault, PowerSwitch)):
        for expert in experts:
            if fault.mode not in expert.power_modes:
                known = ", ".join(expert.power_modes) or "none"
                raise ValueError(
                    f"device {expert.device!r} is switched to power mode {fault.mode!r}, of which expert "
                    f"{expert.name!r} has no profile; its power_modes: {known}"
                    f"{did_you_mean(fault.mode, list(expert.power_modes))}"
                )
