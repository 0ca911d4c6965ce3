"""A meter's readings as columns, how often they really change, and the energy of a window of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_UPDATES = 5
"""Refresh periods below which a window has no energy: what happened between two updates is not in them."""
_LEAST_CHANGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Readings in order of time, each column of shape (n,); NaN where the meter has no such reading."""

    at_s: Floats
    power_w: Floats
    energy_j: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEnergy:
    """The energy of one window; `joules` None with the `reason`, or the `source` it came from."""

    begin_s: float
    end_s: float
    joules: float | None
    source: str
    n_updates: int
    reason: str

    @property
    def mean_w(self) -> float | None:
        """Mean power over the window in watts; None without an energy."""
        return None if self.joules is None else self.joules / (self.end_s - self.begin_s)


def refresh_of(at_s: Floats, values: Floats) -> float | None:
    """Return the seconds between changes of a polled value (their median); None when it hardly changed.

    >>> refresh_of(np.arange(0, 2, 0.01), np.repeat(np.arange(20.0), 10))
    0.1
    """
    known = np.isfinite(values)
    at_s, values = at_s[known], values[known]
    changes = at_s[1:][np.diff(values) != 0]
    return round(float(np.median(np.diff(changes))), 9) if len(changes) >= _LEAST_CHANGES else None


def energy_of(series: Series, begin_s: float, end_s: float, refresh_s: float | None) -> WindowEnergy:
    """Return the energy between two instants: the counter's difference where there is one, else the integrated power.

    A window shorter than LEAST_UPDATES refresh periods, or that the readings do not span, has no energy and says
    why. `refresh_s` None: the period is measured on the series itself.
    """
    counted = bool(np.isfinite(series.energy_j).any())
    values = series.energy_j if counted else series.power_w
    source = "counter" if counted else "power"
    reason, n_updates = _aliased(series, values, begin_s, end_s, refresh_s)
    if reason:
        joules = None
    elif counted:
        start_j, stop_j = np.interp([begin_s, end_s], series.at_s, series.energy_j)
        joules = float(stop_j - start_j)
    else:
        joules = integral_j(series.at_s, series.power_w, begin_s, end_s)
    return WindowEnergy(begin_s=begin_s, end_s=end_s, joules=joules, source=source, n_updates=n_updates, reason=reason)


def integral_j(at_s: Floats, power_w: Floats, begin_s: float, end_s: float) -> float:
    """Return the integral of power between two instants by the trapezoid rule, interpolated at both ends.

    >>> integral_j(np.array([0.0, 1.0, 2.0]), np.array([10.0, 20.0, 10.0]), 0.5, 2.0)
    23.75
    """
    inside = (at_s > begin_s) & (at_s < end_s)
    ends = np.interp([begin_s, end_s], at_s, power_w)
    times = np.concatenate([[begin_s], at_s[inside], [end_s]])
    watts = np.concatenate([ends[:1], power_w[inside], ends[1:]])
    return float(np.trapezoid(watts, times))


def _aliased(series: Series, values: Floats, begin_s: float, end_s: float, refresh_s: float | None) -> tuple[str, int]:
    """Return why a window has no energy ('' when it has), and the updates that fell into it."""
    if not np.isfinite(values).all() or len(values) < 2:
        return "the meter reads neither power nor energy", 0
    period_s = refresh_s or refresh_of(series.at_s, values) or float(np.median(np.diff(series.at_s)))
    n_updates = int((end_s - begin_s) / period_s)
    if begin_s < series.at_s[0] - period_s or end_s > series.at_s[-1] + period_s:
        return (
            f"the window from {begin_s:.3f} to {end_s:.3f} s is not within the readings, "
            f"{series.at_s[0]:.3f} to {series.at_s[-1]:.3f} s",
            n_updates,
        )
    if n_updates < LEAST_UPDATES:
        return (
            f"aliased: {end_s - begin_s:.3g} s hold {n_updates} updates of a meter that refreshes every "
            f"{period_s:.3g} s, needs {LEAST_UPDATES}",
            n_updates,
        )
    return "", n_updates
