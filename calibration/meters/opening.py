"""Which meter this machine has: Tegra first, then NVML, then none."""

from pathlib import Path

from calibration.meters.boards import Board, board_of, is_tegra
from calibration.meters.ina3221 import Ina3221Meter
from calibration.meters.jetson_stats import JtopMeter
from calibration.meters.nvml import NvmlMeter, has_gpu
from calibration.meters.protocol import Meter, NoMeter
from calibration.meters.tegrastats import TegrastatsMeter
from calibration.profile import did_you_mean

METERS = ("auto", "ina3221", "tegrastats", "jtop", "nvml", "none")


def open_meter(kind: str = "auto", *, root: Path = Path("/"), rails: tuple[str, ...] = (), gpu: int = 0) -> Meter:
    """Return an open meter of a kind in METERS; `rails` add up to the module on a board without a table.

    `auto` looks for a Tegra first: NVML starts on an Orin and then answers NotSupported to every power call.
    """
    if kind not in METERS:
        raise ValueError(f"meter {kind!r}: must be one of {', '.join(METERS)}{did_you_mean(kind, METERS)}")
    if kind == "auto":
        kind = "ina3221" if is_tegra(root) else "nvml" if has_gpu() else "none"
    if kind == "none":
        return NoMeter()
    if kind == "nvml":
        if is_tegra(root):
            raise ValueError("meter nvml: this is a Jetson, where NVML knows no power; use ina3221 or tegrastats")
        return NvmlMeter(gpu)
    board = Board(name="a board with rails as told", total=rails, inside=()) if rails else board_of(root)
    if kind == "jtop":
        return JtopMeter(board)
    return TegrastatsMeter(board) if kind == "tegrastats" else Ina3221Meter(root, board)
