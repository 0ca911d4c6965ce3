"""NVIDIA's management library as a meter and as a view of a GPU's state. The only file that imports `pynvml`.

The package is nvidia-ml-py; the PyPI project called pynvml is deprecated, and old versions of it shadow the module.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from calibration.meters.protocol import Look, Reading
from calibration.profile import Scope

_REFRESH_S = 0.1
"""How often power changes on most cards (Yang, Adamek and Armour, SC 2024); the self-test measures it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """A GPU as it is now: name, driver, SM clock, temperature, what throttles it, other processes on it."""

    name: str
    driver: str
    sm_clock_hz: float
    temperature_c: float
    throttled_by: tuple[str, ...]
    processes: tuple[int, ...]


class NvmlMeter:
    """Power (instant) and, where the card counts it, energy of one NVIDIA GPU."""

    scope: Scope | None = "gpu"
    refresh_s: float | None = None
    poll_s = 0.02

    def __init__(self, index: int = 0) -> None:
        self._nvml = _library()
        self._handle = _asked(self._nvml, "the GPU", lambda: self._nvml.nvmlDeviceGetHandleByIndex(index))
        self._fill = self._nvml.nvmlLib.nvmlDeviceGetFieldValues
        gpu = _text(self._nvml.nvmlDeviceGetName(self._handle))
        self.name = f"nvml on {gpu}"
        self.covers = f"{gpu} as its own sensor reads it: no host, no losses of the supply"
        power, energy = self._nvml.NVML_FI_DEV_POWER_INSTANT, self._nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
        self._fields = [field for field in (power, energy) if self._tells(field)]
        self._values = self._asked_values(self._fields)
        self._besides: list[Any] = []  # what is no field here, by a call of its own
        if power not in self._fields:
            if not self._answers(self._nvml.nvmlDeviceGetPowerUsage):
                raise ValueError(
                    f"meter {self.name}: NVML answers NotSupported to power; on a Jetson use the meter ina3221, "
                    "on another card measure latency alone (--meter none) or at the wall"
                )
            self._besides.append(self._nvml.nvmlDeviceGetPowerUsage)
            self.covers += "; power is NVML's average, as it knows no instant power here"
        if energy not in self._fields and self._answers(self._nvml.nvmlDeviceGetTotalEnergyConsumption):
            self._besides.append(self._nvml.nvmlDeviceGetTotalEnergyConsumption)

    def look(self) -> Look:
        """Return the clock, NVML's status and fields as bytes, and what it tells besides; ValueError when it is gone.

        The library is called past its Python binding, whose checks and copies would double what a look costs.
        """
        at_ns = time.monotonic_ns()
        status = self._fill(self._handle, len(self._fields), self._values) if self._fields else 0
        try:
            return (at_ns, status, bytes(self._values), *[ask(self._handle) for ask in self._besides])
        except self._nvml.NVMLError as error:
            raise self._gone(error) from error

    def reading(self, look: Look) -> Reading:
        """Return power in watts and, where the card counts it, energy in joules; NVML tells both in thousandths."""
        at_ns, status, values, *besides = look
        fields = dict(zip(self._fields, type(self._values).from_buffer_copy(values), strict=True))
        failed = [code for code in (status, *(field.nvmlReturn for field in fields.values())) if code]
        if failed:
            raise self._gone(self._nvml.NVMLError(failed[0]))
        told = iter(besides)
        power = fields.get(self._nvml.NVML_FI_DEV_POWER_INSTANT)
        energy = fields.get(self._nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
        power_mw = next(told) if power is None else power.value.uiVal
        energy_mj = next(told, None) if energy is None else energy.value.ullVal
        return Reading(at_ns=at_ns, power_w=power_mw / 1000, energy_j=None if energy_mj is None else energy_mj / 1000)

    def read(self) -> Reading:
        """Return power and energy of now; ValueError when the GPU is gone."""
        return self.reading(self.look())

    def close(self) -> None:
        """Let go of NVML."""
        self._nvml.nvmlShutdown()

    def _tells(self, field: int) -> bool:
        """Return whether the card answers to a field."""
        values = self._asked_values([field])
        return bool(self._fill(self._handle, 1, values) == self._nvml.NVML_SUCCESS == values[0].nvmlReturn)

    def _asked_values(self, fields: list[int]) -> Any:
        """Return an array that NVML fills with the values of fields."""
        values = (self._nvml.c_nvmlFieldValue_t * len(fields))()
        for value, field in zip(values, fields, strict=True):
            value.fieldId = field
        return values

    def _answers(self, question: Any) -> bool:
        return _supported(self._nvml, lambda: question(self._handle))

    def _gone(self, error: Exception) -> ValueError:
        return ValueError(f"meter {self.name}: gone ({error})")


def has_gpu() -> bool:
    """Return whether NVML finds an NVIDIA GPU."""
    try:
        with _session() as nvml:
            return bool(nvml.nvmlDeviceGetCount() > 0)
    except ValueError:
        return False


def gpu_state(index: int = 0) -> GpuState:
    """Return the state of a GPU; ValueError when NVML does not answer."""
    with _session() as nvml:
        handle = _asked(nvml, "the GPU", lambda: nvml.nvmlDeviceGetHandleByIndex(index))
        reasons = _asked(nvml, "throttle reasons", lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        running = _asked(nvml, "processes", lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        clock = _asked(nvml, "clocks", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        celsius = _asked(nvml, "temperature", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return GpuState(
            name=_text(nvml.nvmlDeviceGetName(handle)),
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            sm_clock_hz=clock * 1e6,
            temperature_c=float(celsius),
            throttled_by=tuple(name for name, bit in _THROTTLES.items() if reasons & bit),
            processes=tuple(sorted(p.pid for p in running)),
        )


class NvmlThrottles:
    """What throttles a GPU: its reasons of now, and where the card counts it, since the last look.

    The counters are of nanoseconds throttled by power and by heat; without them, what ends before a look is missed.
    """

    def __init__(self, index: int = 0) -> None:
        self._nvml = _library()
        self._handle = _asked(self._nvml, "the GPU", lambda: self._nvml.nvmlDeviceGetHandleByIndex(index))
        policies = {
            "power cap": self._nvml.NVML_PERF_POLICY_POWER,
            "thermal slowdown": self._nvml.NVML_PERF_POLICY_THERMAL,
        }
        self._policies = {name: policy for name, policy in policies.items() if self._counts(policy)}
        self._known: dict[str, int] = {}
        self.since()

    @property
    def covers(self) -> str:
        """What is looked at, in words."""
        counted = (
            f"and NVML's counters of {' and '.join(self._policies)}" if self._policies else "with no counter of it"
        )
        return f"NVML's clock event reasons after each request, {counted}"

    def since(self) -> tuple[str, ...]:
        """Return the names of what throttles now or did since the last look; ValueError when NVML does not tell."""
        reasons = _asked(
            self._nvml, "throttle reasons", lambda: self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        )
        counts = {name: self._throttled_ns(name) for name in self._policies}
        grew = {name for name, n in counts.items() if n > self._known.get(name, n)}
        self._known = counts
        return tuple(name for name, bit in _THROTTLES.items() if reasons & bit or name in grew)

    def _throttled_ns(self, name: str) -> int:
        ask = self._nvml.nvmlDeviceGetViolationStatus
        return int(_asked(self._nvml, name, lambda: ask(self._handle, self._policies[name])).violationTime)

    def _counts(self, policy: int) -> bool:
        return _supported(self._nvml, lambda: self._nvml.nvmlDeviceGetViolationStatus(self._handle, policy))


# Bits of nvmlClocksEventReasons that say the card is slower than asked; idle and the user's own limits do not count.
_THROTTLES = {
    "power cap": 0x4,
    "hardware slowdown": 0x8,
    "thermal slowdown": 0x20,
    "hardware thermal slowdown": 0x40,
    "power brake": 0x80,
}


@contextmanager
def _session() -> Iterator[Any]:
    nvml = _library()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _library() -> Any:
    import pynvml  # noqa: PLC0415 - a vendor library

    if not hasattr(pynvml, "NVML_FI_DEV_POWER_INSTANT"):
        raise ValueError(
            "the module pynvml is an old one that shadows nvidia-ml-py: pip uninstall pynvml, then pip install "
            "--force-reinstall nvidia-ml-py"
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise ValueError(f"NVML does not start ({error}): is an NVIDIA driver installed?") from error
    return pynvml


def _asked(nvml: Any, what: str, question: Any) -> Any:
    try:
        return question()
    except nvml.NVMLError as error:
        raise ValueError(f"NVML does not tell {what} ({error})") from error


def _supported(nvml: Any, question: Any) -> bool:
    try:
        question()
    except nvml.NVMLError:
        return False
    return True


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
