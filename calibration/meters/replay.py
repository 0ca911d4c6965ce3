"""A recorded power series played back as a meter, so that all that reads meters runs without one."""

from collections.abc import Callable

import numpy as np

from calibration.meters.protocol import Reading
from calibration.profile import Scope
from calibration.sources.power_bench import PowerSeries


class ReplayMeter:
    """A recorded series as a meter: on its own clock each look is the next reading, on another what it then read.

    With `live_ns`, a monotonic clock in nanoseconds, the recording begins at the first look and holds each reading
    until the next, as a sensor does.
    """

    refresh_s: float | None = None

    def __init__(
        self,
        series: PowerSeries,
        *,
        scope: Scope,
        covers: str,
        poll_s: float = 0.01,
        live_ns: Callable[[], int] | None = None,
    ) -> None:
        self.name = f"replay of {series.source.file}"
        self.scope: Scope | None = scope
        self.covers = covers
        self.poll_s = poll_s
        self._series = series
        self._live_ns = live_ns
        self._began_ns: int | None = None
        self._row = 0

    def read(self) -> Reading:
        """Return the reading of now; ValueError at the end of the recording."""
        at_ns = self._next_ns() if self._live_ns is None else self._seek(self._live_ns())
        return Reading(at_ns=at_ns, power_w=float(self._series.power_w[self._row - 1]), energy_j=None)

    def clock_ns(self) -> int:
        """Return the recording's own clock: the time of the reading that a look now returns."""
        return self._at_ns(min(self._row, len(self._series.at_s) - 1))

    def close(self) -> None:
        """Do nothing."""

    def _next_ns(self) -> int:
        if self._row == len(self._series.at_s):
            raise self._gone()
        self._row += 1
        return self._at_ns(self._row - 1)

    def _seek(self, now_ns: int) -> int:
        if self._began_ns is None:
            self._began_ns = now_ns
        since_s = self._series.at_s - self._series.at_s[0]
        now_s = (now_ns - self._began_ns) / 1e9
        if now_s > since_s[-1]:
            raise self._gone()
        self._row = int(np.searchsorted(since_s, now_s, side="right"))
        return now_ns

    def _gone(self) -> ValueError:
        n = len(self._series.at_s)
        return ValueError(f"meter {self.name}: gone (the recording ended after {n} readings)")

    def _at_ns(self, row: int) -> int:
        # A recording may start before its zero, and two of its stamps may round to one: both are moved apart.
        return round(float(self._series.at_s[row] - self._series.at_s[0]) * 1e9) + row
