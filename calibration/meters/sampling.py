"""A thread that looks at a meter at its own rate while something else is measured."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from calibration.meters.protocol import Meter, RawMeter, Reading, series_of
from calibration.meters.series import Series, WindowEnergy, energy_of

_BRIEF_S = 0.05
"""Waits up to here are slept through: a wait that can be called off costs twice the processor time of a sleep."""


class Sampling:
    """Looks at a meter from `__enter__` to `__exit__`; when the meter goes, they end and `failure` says why.

    A look is kept as it came and becomes a reading when it is asked for.
    """

    def __init__(self, meter: Meter, *, refresh_s: float | None = None) -> None:
        self.meter = meter
        self.refresh_s = refresh_s or meter.refresh_s
        self.failure = ""
        self._take: Callable[[], Any] = meter.look if isinstance(meter, RawMeter) else meter.read
        self._looks: list[Any] = []
        self._readings: list[Reading] = []  # of the first looks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

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
        reading = self.meter.reading if isinstance(self.meter, RawMeter) else None
        try:
            for look in self._looks[len(self._readings) :]:
                self._readings.append(look if reading is None else reading(look))
        except ValueError as error:
            self.failure = self.failure or str(error)
        return series_of(self._readings)

    def energy_of(self, begin_s: float, end_s: float) -> WindowEnergy:
        """Return the energy between two instants of the monotonic clock, or the reason why it has none."""
        series = self.series  # it may find that the meter is gone
        if self.failure:
            return WindowEnergy(begin_s=begin_s, end_s=end_s, joules=None, source="", n_updates=0, reason=self.failure)
        return energy_of(series, begin_s, end_s, self.refresh_s)

    def _follow(self) -> None:
        """Look at each multiple of the meter's period until told to stop; one that is late puts off no other."""
        period_s, stopped, clock = self.meter.poll_s, self._stop.is_set, time.monotonic
        wait = time.sleep if period_s <= _BRIEF_S else self._stop.wait
        now_s = due_s = clock()
        while not self.failure:
            due_s = max(due_s + period_s, now_s)
            wait(due_s - now_s)
            if stopped():
                return
            now_s = clock()
            self._look_once()

    def _look_once(self) -> None:
        try:
            self._looks.append(self._take())
        except ValueError as error:
            self.failure = str(error)
