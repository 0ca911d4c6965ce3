"""The INA3221 power monitors of a Jetson, read from the kernel's hwmon files: millivolts times milliamperes."""

import os
import time
from pathlib import Path

from calibration.meters.boards import Board, board_of, module_w
from calibration.meters.protocol import Look, Reading
from calibration.profile import Scope

_TEXT_BYTES = 16  # no reading of a file is longer


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
        files = [file for rail in self.board.total for file in found[rail]]  # of each its voltage, then its current
        self._files = [os.open(file, os.O_RDONLY) for file in files]
        self._sizes, self._starts = [_TEXT_BYTES] * len(files), [0] * len(files)

    def look(self) -> Look:
        """Return the clock and the text of each file, as few steps as possible; ValueError when one is gone."""
        try:
            return (time.monotonic_ns(), *map(os.pread, self._files, self._sizes, self._starts))
        except OSError as error:
            raise self._gone(error) from error

    def reading(self, look: Look) -> Reading:
        """Return the module's power: millivolts times milliamperes, summed over its rails."""
        at_ns, *texts = look
        try:
            mv_ma = [int(text) for text in texts]
        except ValueError as error:
            raise self._gone(error) from error
        power_w = sum(mv * ma for mv, ma in zip(mv_ma[::2], mv_ma[1::2], strict=True)) / 1e6
        return Reading(at_ns=at_ns, power_w=power_w, energy_j=None)

    def read(self) -> Reading:
        """Return the module's power; ValueError when a file can no longer be read."""
        return self.reading(self.look())

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)
        self._files = []

    def _gone(self, error: Exception) -> ValueError:
        return ValueError(f"meter {self.name}: gone ({error})")


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
