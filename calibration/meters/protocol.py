"""What every meter is: a clock, power or an energy counter, and what they cover; and a check of that promise."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np

from calibration.meters.series import Series, refresh_of
from calibration.profile import Scope

MOST_WATTS = 20_000.0
"""More than any single machine draws: a larger reading is milliwatts taken for watts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a meter: the monotonic clock in nanoseconds, watts now, joules since some start; None: no such."""

    at_ns: int
    power_w: float | None
    energy_j: float | None


class Meter(Protocol):
    """A source of readings. `refresh_s` is how often its values change (None: find out), `poll_s` how often to look."""

    @property
    def name(self) -> str:
        """What it is, with the device it is on."""
        ...

    @property
    def scope(self) -> Scope | None:
        """What it meters, in the words of profiles; None when it meters nothing."""
        ...

    @property
    def covers(self) -> str:
        """What is inside the reading and what is not, in words; goes into every recording."""
        ...

    @property
    def refresh_s(self) -> float | None:
        """Seconds between changes of its values, as stated by its maker; None when not stated."""
        ...

    @property
    def poll_s(self) -> float:
        """Seconds between looks, the default rate."""
        ...

    def read(self) -> Reading:
        """Return the reading of now; ValueError when the meter is gone."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


Look = tuple[Any, ...]
"""What is taken from a meter while something else is measured: the monotonic clock in ns, then what it says, raw."""


@runtime_checkable
class RawMeter(Meter, Protocol):
    """A meter whose looks cost little and become readings later, when nothing is measured any more."""

    def look(self) -> Look:
        """Return what the meter says now, as it comes; ValueError when it is gone."""
        ...

    def reading(self, look: Look) -> Reading:
        """Return what a look says; ValueError when it says nothing."""
        ...


class NoMeter:
    """The meter of a machine without one: it reads nothing, never zero."""

    name = "none"
    scope: Scope | None = None
    covers = "nothing is metered: energies are unknown, not zero"
    refresh_s: float | None = None
    poll_s = 0.02

    def read(self) -> Reading:
        """Return a reading of neither power nor energy."""
        return Reading(at_ns=time.monotonic_ns(), power_w=None, energy_j=None)

    def close(self) -> None:
        """Do nothing."""


def check_meter(
    meter: Meter,
    *,
    n: int = 50,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Series:
    """Check what every meter promises over `n` readings at its own rate, and return them.

    Raises ValueError saying which promise broke: a clock of its own, one that stands still, power or energy that is
    no number or negative, a counter that falls, units that cannot be, kinds of reading that come and go, a counter
    that contradicts the power, a refresh period that is longer than stated.
    """
    _check_words(meter)
    readings: list[Reading] = []
    for _ in range(n):
        before_ns = clock_ns()
        reading = meter.read()
        _check_reading(meter, reading, before_ns, clock_ns())
        if readings:
            _check_pair(meter, readings[-1], reading)
        readings.append(reading)
        sleep(meter.poll_s)
    series = series_of(readings)
    _check_counter(meter, series)
    _check_refresh(meter, series)
    return series


def series_of(readings: list[Reading]) -> Series:
    """Return readings as columns in seconds, watts and joules; NaN for what was not read."""
    return Series(
        at_s=np.array([r.at_ns for r in readings], dtype=np.float64) / 1e9,
        power_w=np.array([np.nan if r.power_w is None else r.power_w for r in readings]),
        energy_j=np.array([np.nan if r.energy_j is None else r.energy_j for r in readings]),
    )


def _check_words(meter: Meter) -> None:
    if not meter.name.strip() or not meter.covers.strip():
        raise ValueError(f"meter {meter.name!r}: says not what it is or what it covers; give name and covers")
    if meter.scope is not None and meter.scope not in get_args(Scope):
        raise ValueError(f"meter {meter.name}: scope is {meter.scope!r}, must be one of {', '.join(get_args(Scope))}")
    if not meter.poll_s > 0:
        raise ValueError(f"meter {meter.name}: poll_s is {meter.poll_s}, must be above 0 seconds")


def _check_reading(meter: Meter, reading: Reading, before_ns: int, after_ns: int) -> None:
    if not before_ns <= reading.at_ns <= after_ns:
        raise ValueError(
            f"meter {meter.name}: reading stamped {reading.at_ns} ns while the monotonic clock went from {before_ns} "
            f"to {after_ns} ns; stamp with time.monotonic_ns()"
        )
    for what, value in (("power_w", reading.power_w), ("energy_j", reading.energy_j)):
        if value is not None and not (isfinite(value) and value >= 0):
            raise ValueError(f"meter {meter.name}: {what} is {value}, must be at least 0; None for what is not read")
    if reading.power_w is not None and reading.power_w > MOST_WATTS:
        raise ValueError(f"meter {meter.name}: power_w is {reading.power_w:g}; are these milliwatts?")
    if meter.scope is None and (reading.power_w is not None or reading.energy_j is not None):
        raise ValueError(f"meter {meter.name}: reads but has no scope; say gpu, module, board or wall")


def _check_pair(meter: Meter, first: Reading, second: Reading) -> None:
    if second.at_ns <= first.at_ns:
        raise ValueError(f"meter {meter.name}: clock stood still at {first.at_ns} ns")
    for what, one, two in (
        ("power", first.power_w, second.power_w),
        ("energy counter", first.energy_j, second.energy_j),
    ):
        if (one is None) != (two is None):
            raise ValueError(f"meter {meter.name}: its {what} comes and goes; a meter reads it always or never")
    if first.energy_j is not None and second.energy_j is not None and second.energy_j < first.energy_j:
        raise ValueError(f"meter {meter.name}: energy counter fell from {first.energy_j} to {second.energy_j} J")


def _check_counter(meter: Meter, series: Series) -> None:
    """Tell joules from millijoules: within a check the counter and the power agree at least within a factor of 4."""
    refresh_s = meter.refresh_s or refresh_of(series.at_s, series.energy_j) or np.inf
    seconds = float(series.at_s[-1] - series.at_s[0])
    if np.isnan(series.energy_j).any() or np.isnan(series.power_w).any() or seconds < 5 * refresh_s:
        return
    counted_w = float(series.energy_j[-1] - series.energy_j[0]) / seconds
    mean_w = float(series.power_w.mean())
    if mean_w > 0 and not mean_w / 4 <= counted_w <= 4 * mean_w:
        raise ValueError(
            f"meter {meter.name}: the counter says {counted_w:.4g} W, the power {mean_w:.4g} W; "
            "is one of them in thousandths?"
        )


def _check_refresh(meter: Meter, series: Series) -> None:
    found_s = refresh_of(series.at_s, series.power_w)
    if meter.refresh_s is None or found_s is None:
        return
    looked_s = float(np.median(np.diff(series.at_s)))  # on a busy machine longer than the meter's own rate
    if found_s > 2.5 * max(meter.refresh_s, meter.poll_s, looked_s):
        raise ValueError(
            f"meter {meter.name}: states a refresh every {meter.refresh_s:g} s, values changed every {found_s:.3g} s"
        )
