"""Power series of a GPU beside an external meter, and when its kernel ran: seconds and watts.

Source: JimZeyuYang/GPU_Power_Benchmark; Yang, Adamek and Armour, SC 2024, arXiv 2312.02741.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.recordings import Source
from calibration.sources.csv_table import Kind, read_table, source_of

NVML_COLUMNS: dict[str, Kind] = {"t_s": "number", "utilization.gpu [%]": "number", "power.draw [W]": "number"}
METER_COLUMNS: dict[str, Kind] = {"t_s": "number", "total_w": "number"}
KERNEL_COLUMNS: dict[str, Kind] = {"t_s": "number"}
SETTLING_S = 1.0
"""How long after a kernel's start a reading is not yet its plateau (NVML refreshes about every 0.1 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSeries:
    """Power readings in order of time, both columns of shape (n,)."""

    source: Source
    at_s: NDArray[np.float64]
    power_w: NDArray[np.float64]

    def median_w(self, begin_s: float, end_s: float) -> float:
        """Return the median power between two instants; NaN when nothing was read between them."""
        between = (self.at_s >= begin_s) & (self.at_s < end_s)
        return float(np.median(self.power_w[between])) if between.any() else float("nan")


def read_nvml(path: Path) -> PowerSeries:
    """Return what the GPU's own sensor (NVML) read; ValueError names the file and the row."""
    return _series(path, NVML_COLUMNS, "power.draw [W]")


def read_meter(path: Path) -> PowerSeries:
    """Return what the external meter read on all supply lines; ValueError names the file and the row."""
    return _series(path, METER_COLUMNS, "total_w")


def read_kernel_span(path: Path) -> tuple[float, float]:
    """Return when the first kernel began and ended, in seconds of the series' clock."""
    stamps = np.unique(read_table(path, KERNEL_COLUMNS)["t_s"])
    if len(stamps) < 2:
        raise ValueError(f"{path}: found {len(stamps)} different times, needs a kernel's start and its end")
    return float(stamps[0]), float(stamps[1])


def idle_and_busy_w(series: PowerSeries, span: tuple[float, float]) -> tuple[float, float]:
    """Return the median power before the kernel and on its plateau, in watts."""
    begin_s, end_s = span
    return series.median_w(-np.inf, begin_s), series.median_w(begin_s + SETTLING_S, end_s)


def _series(path: Path, columns: dict[str, Kind], power: str) -> PowerSeries:
    table = read_table(path, columns)
    return PowerSeries(source=source_of(path), at_s=table["t_s"], power_w=table[power])
