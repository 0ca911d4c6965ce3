"""What befalls a device during a run, known in advance: crashes, slow-downs and switches of its power mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

from twin.servers.outages import drawn_downtimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Everything on the device is lost at `at_s`; at `repaired_s` it starts again, and loads its models."""

    at_s: float
    repaired_s: float = inf

    def __post_init__(self) -> None:
        _check_instant("crash: at_s", self.at_s)
        if not self.repaired_s > self.at_s:
            raise ValueError(f"crash at {self.at_s} s: repaired_s is {self.repaired_s}, must be later")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDown:
    """Iterations take `factor` times as long, at the same power, from `at_s` until `ends_s`; below 1 it is faster."""

    at_s: float
    ends_s: float = inf
    factor: float

    def __post_init__(self) -> None:
        _check_instant("slow-down: at_s", self.at_s)
        if not self.ends_s > self.at_s:
            raise ValueError(f"slow-down at {self.at_s} s: ends_s is {self.ends_s}, must be later")
        if not (isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"slow-down at {self.at_s} s: factor is {self.factor}, must be a finite number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSwitch:
    """The device goes to another power mode: `lasts_s` seconds without an iteration, and `energy_j` beyond idle."""

    at_s: float
    mode: str
    lasts_s: float = 0.0
    energy_j: float = 0.0

    def __post_init__(self) -> None:
        _check_instant("power switch: at_s", self.at_s)
        for key in ("lasts_s", "energy_j"):
            found = getattr(self, key)
            if not (isfinite(found) and found >= 0):
                raise ValueError(
                    f"power switch at {self.at_s} s: {key} is {found}, must be a finite number of at least 0"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """From here on iterations take `factor` times as long as their profile says."""

    at_s: float
    factor: float


Fault = Crash | SlowDown | PowerSwitch
Step = Crash | Pace | PowerSwitch
"""What an engine lets happen to a device. A crash takes effect at once, the others at the next iteration boundary."""


def steps_of(faults: Sequence[Fault], stop_s: float) -> tuple[Step, ...]:
    """Return what happens before `stop_s`, in the order of time.

    Crashes that overlap are one; slow-downs that overlap multiply.

    >>> slow = [SlowDown(at_s=1.0, ends_s=3.0, factor=2.0), SlowDown(at_s=2.0, factor=1.5)]
    >>> [(step.at_s, step.factor) for step in steps_of(slow, 9.0)]
    [(1.0, 2.0), (2.0, 3.0), (3.0, 1.5)]
    """
    slow = [fault for fault in faults if isinstance(fault, SlowDown)]
    edges = sorted({at_s for fault in slow for at_s in (fault.at_s, fault.ends_s)})
    switches = sorted((fault for fault in faults if isinstance(fault, PowerSwitch)), key=lambda fault: fault.at_s)
    steps: list[Step] = [*_downtimes(faults, stop_s), *(_pace(slow, at_s) for at_s in edges), *switches]
    return tuple(sorted((step for step in steps if step.at_s < stop_s), key=lambda step: step.at_s))


def drawn_crashes(*, mtbf_s: float, mean_repair_s: float, device: str, seed: int, stop_s: float) -> tuple[Crash, ...]:
    """Return the crashes of a device before `stop_s`: it works and is down for exponential times.

    `mtbf_s` is the mean time from a repair to the next crash. The chance is the device's own, of (seed, device).
    """
    downtimes = drawn_downtimes(
        f"crashes of {device}", mtbf_s=mtbf_s, mean_repair_s=mean_repair_s, seed=seed, stop_s=stop_s
    )
    return tuple(Crash(at_s=at_s, repaired_s=repaired_s) for at_s, repaired_s in downtimes)


def crash_reason(device: str, at_s: float) -> str:
    """Return why a leg failed that was on a device when it crashed."""
    return f"{device} crashed at {at_s:.3f} s"


def down_reason(device: str, at_s: float) -> str:
    """Return why a leg failed that arrived on a device after it had crashed."""
    return f"{device} refused it, down since {at_s:.3f} s"


def _downtimes(faults: Sequence[Fault], stop_s: float) -> list[Crash]:
    crashes: list[Crash] = []
    for crash in sorted((fault for fault in faults if isinstance(fault, Crash)), key=lambda fault: fault.at_s):
        if crashes and crash.at_s < crashes[-1].repaired_s:
            last = crashes.pop()
            crashes.append(Crash(at_s=last.at_s, repaired_s=max(last.repaired_s, crash.repaired_s)))
        else:
            crashes.append(crash)
    return [c if c.repaired_s < stop_s else Crash(at_s=c.at_s) for c in crashes]


def _pace(slow: Sequence[SlowDown], at_s: float) -> Pace:
    factor = 1.0
    for fault in slow:
        if fault.at_s <= at_s < fault.ends_s:
            factor *= fault.factor
    return Pace(at_s=at_s, factor=factor)


def _check_instant(key: str, found: float) -> None:
    if not (isfinite(found) and found >= 0):
        raise ValueError(f"{key} is {found}, must be a finite number of seconds, at least 0")
