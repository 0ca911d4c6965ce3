"""A meter's self-test: its real refresh period, and its counter beside its own integrated power under load."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.meters.protocol import Meter, check_meter
from calibration.meters.sampling import Sampling
from calibration.meters.series import integral_j, refresh_of

MOST_DISAGREEMENT = 0.05
FULL_S, QUICK_S = 50.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What a self-test found; None where the meter has no such reading. Energies are of the loaded part."""

    meter: str
    covers: str
    seconds: float
    refresh_s: float | None
    idle_w: float | None
    loaded_w: float | None
    counter_j: float | None
    integrated_j: float | None
    source: str
    warnings: tuple[str, ...]

    @property
    def disagreement(self) -> float | None:
        """Counter over integrated power - 1; None unless the meter has both."""
        if self.counter_j is None or not self.integrated_j:
            return None
        return self.counter_j / self.integrated_j - 1

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON, for manifests and evidence."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "warnings": list(self.warnings), "disagreement": self.disagreement}


def self_test(
    meter: Meter, *, seconds: float = FULL_S, load: Callable[[], object] | None = None, idle_share: float = 0.3
) -> SelfTest:
    """Check the meter, then watch it idle and under a constant load for so many seconds in all.

    `load` is called again and again until the loaded part ends; None burns one core of this machine, which hardly
    loads a GPU: give a load that runs on it. Raises ValueError when the meter breaks a promise.
    """
    check_meter(meter, n=10)
    if meter.scope is None:
        return _nothing(meter)
    with Sampling(meter) as sampling:
        begin_s = time.monotonic()
        time.sleep(idle_share * seconds)
        loaded_s = time.monotonic()
        with _running(load or _burn):
            time.sleep((1 - idle_share) * seconds)
            end_s = time.monotonic()
    if sampling.failure:
        raise ValueError(sampling.failure)
    return judged(meter, sampling, begin_s, loaded_s, end_s)


def judged(meter: Meter, sampling: Sampling, begin_s: float, loaded_s: float, end_s: float) -> SelfTest:
    """Return the self-test from samples that were idle until `loaded_s` and loaded from then to `end_s`."""
    series = sampling.series
    known_power, counts = bool(np.isfinite(series.power_w).all()), bool(np.isfinite(series.energy_j).all())
    refresh_s = refresh_of(series.at_s, series.power_w if known_power else series.energy_j)
    integrated_j = integral_j(series.at_s, series.power_w, loaded_s, end_s) if known_power else None
    start_j, stop_j = np.interp([loaded_s, end_s], series.at_s, series.energy_j)
    counter_j = float(stop_j - start_j) if counts else None
    idle_w = integral_j(series.at_s, series.power_w, begin_s, loaded_s) / (loaded_s - begin_s) if known_power else None
    found = SelfTest(
        meter=meter.name,
        covers=meter.covers,
        seconds=end_s - begin_s,
        refresh_s=refresh_s,
        idle_w=idle_w,
        loaded_w=None if integrated_j is None else integrated_j / (end_s - loaded_s),
        counter_j=counter_j,
        integrated_j=integrated_j,
        source="counter" if counts else "integrated power",
        warnings=(),
    )
    return SelfTest(**{**{n: getattr(found, n) for n in found.__slots__}, "warnings": _warnings(found, meter)})


def _warnings(found: SelfTest, meter: Meter) -> tuple[str, ...]:
    warnings = []
    if found.refresh_s is None:
        warnings.append("the reading hardly changed: its refresh period is unknown and taken as stated or as polled")
    elif meter.refresh_s is not None and found.refresh_s > 2 * max(meter.refresh_s, meter.poll_s):
        warnings.append(f"refreshes every {found.refresh_s:.3g} s, stated were {meter.refresh_s:g} s")
    if found.disagreement is not None and abs(found.disagreement) > MOST_DISAGREEMENT:
        warnings.append(
            f"counter and integrated power disagree by {found.disagreement:+.1%}, more than {MOST_DISAGREEMENT:.0%}; "
            f"the {found.source} is used"
        )
    return tuple(warnings)


def _nothing(meter: Meter) -> SelfTest:
    return SelfTest(
        meter=meter.name,
        covers=meter.covers,
        seconds=0.0,
        refresh_s=None,
        idle_w=None,
        loaded_w=None,
        counter_j=None,
        integrated_j=None,
        source="none",
        warnings=("no meter: energies will be unknown, not zero",),
    )


@contextmanager
def _running(load: Callable[[], object]) -> Iterator[None]:
    stop = Event()

    def repeat() -> None:
        while not stop.is_set():
            load()

    thread = Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _burn() -> None:
    square: NDArray[np.float64] = np.ones((64, 64))
    for _ in range(50):
        square = np.asarray(square @ square / 64)
