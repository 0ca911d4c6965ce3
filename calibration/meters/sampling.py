"""A thread that looks at a meter at its own rate while something else is measured."""

import threading
from types import TracebackType

from calibration.meters.protocol import Meter, Reading, series_of
from calibration.meters.series import Series, WindowEnergy, energy_of


class Sampling:
    """Readings of a meter from `__enter__` to `__exit__`; when the meter goes, they end and `failure` says why."""

    def __init__(self, meter: Meter, *, refresh_s: float | None = None) -> None:
        self.meter = meter
        self.refresh_s = refresh_s or meter.refresh_s
        self.failure = ""
        self._readings: list[Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Sampling":
        self._look_once()
        if self.meter.scope is not None:  # nothing to look at otherwise
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._look_once()

    @property
    def series(self) -> Series:
        """The readings so far as columns; seconds of the monotonic clock."""
        return series_of(list(self._readings))

    def energy_of(self, begin_s: float, end_s: float) -> WindowEnergy:
        """Return the energy between two instants of the monotonic clock, or the reason why it has none."""
        if self.failure:
            return WindowEnergy(begin_s=begin_s, end_s=end_s, joules=None, source="", n_updates=0, reason=self.failure)
        return energy_of(self.series, begin_s, end_s, self.refresh_s)

    def _look(self) -> None:
        while not self._stop.wait(self.meter.poll_s) and not self.failure:
            self._look_once()

    def _look_once(self) -> None:
        try:
            self._readings.append(self.meter.read())
        except ValueError as error:
            self.failure = str(error)
