"""The INA3221 power monitors of a Jetson, read from the kernel's hwmon files: millivolts times milliamperes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from calibration.meters.boards import Board, board_of, module_w
from calibration.meters.protocol import Reading
from calibration.profile import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One rail's two open files: bus voltage (mV) and current (mA)."""

    rail: str
    voltage: int
    current: int

    def power_w(self) -> float:
        """Return the rail's power now in watts."""
        return _number(self.voltage) * _number(self.current) / 1e6


class Ina3221Meter:
    """Module power of a Jetson, 50 looks a second; the files stay open, so that a look costs no path lookup."""

    scope: Scope | None = "module"
    refresh_s: float | None = None  # conversion times differ between device trees: measured by the self-test
    poll_s = 0.02

    def __init__(self, root: Path = Path("/"), board: Board | None = None) -> None:
        self.board = board or board_of(root)
        self.name = f"ina3221 on {self.board.name}"
        self.covers = self.board.covers
        found = _channels(root)
        module_w(self.board, dict.fromkeys(found, 0.0))  # all rails are there, or one clear error
        self._channels = [_opened(rail, *found[rail]) for rail in self.board.total]

    def read(self) -> Reading:
        """Return the module's power; ValueError when a file can no longer be read."""
        try:
            power_w = sum(channel.power_w() for channel in self._channels)
        except (OSError, ValueError) as error:
            raise ValueError(f"meter {self.name}: gone ({error})") from error
        return Reading(at_ns=time.monotonic_ns(), power_w=power_w, energy_j=None)

    def close(self) -> None:
        """Close the files."""
        for channel in self._channels:
            os.close(channel.voltage)
            os.close(channel.current)
        self._channels = []


def _channels(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return the voltage and current file of every labelled rail of every INA3221."""
    found = {}
    for chip in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*")):
        name = chip / "name"
        if not name.is_file() or name.read_text().strip() != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            files = (chip / f"in{number}_input", chip / f"curr{number}_input")
            if all(file.is_file() for file in files):
                found[label.read_text().strip()] = files
    if not found:
        raise ValueError(
            f"no INA3221 under {root / 'sys/class/hwmon'}: is this a Jetson with JetPack 5 or later, and may this user "
            "read it? Use the meter tegrastats, or none"
        )
    return found


def _opened(rail: str, voltage: Path, current: Path) -> Channel:
    return Channel(rail=rail, voltage=os.open(voltage, os.O_RDONLY), current=os.open(current, os.O_RDONLY))


def _number(file: int) -> int:
    return int(os.pread(file, 32, 0))
