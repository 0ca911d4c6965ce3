"""A recorded power series played back as a meter, so that all that reads meters runs without one."""

from calibration.meters.protocol import Reading
from calibration.profile import Scope
from calibration.sources.power_bench import PowerSeries


class ReplayMeter:
    """Each look returns the next recorded reading; its clock is the recording's."""

    refresh_s: float | None = None

    def __init__(self, series: PowerSeries, *, scope: Scope, covers: str, poll_s: float = 0.01) -> None:
        self.name = f"replay of {series.source.file}"
        self.scope: Scope | None = scope
        self.covers = covers
        self.poll_s = poll_s
        self._series = series
        self._row = 0

    def read(self) -> Reading:
        """Return the next reading; ValueError at the end of the recording."""
        if self._row == len(self._series.at_s):
            raise ValueError(f"meter {self.name}: gone (the recording ended after {self._row} readings)")
        reading = Reading(at_ns=self._at_ns(self._row), power_w=float(self._series.power_w[self._row]), energy_j=None)
        self._row += 1
        return reading

    def clock_ns(self) -> int:
        """Return the recording's clock: the time of the reading that a look now returns."""
        return self._at_ns(min(self._row, len(self._series.at_s) - 1))

    def close(self) -> None:
        """Do nothing."""

    def _at_ns(self, row: int) -> int:
        # A recording may start before its zero, and two of its stamps may round to one: both are moved apart.
        return round(float(self._series.at_s[row] - self._series.at_s[0]) * 1e9) + row
