"""Lines of NVIDIA's tegrastats: rails in milliwatts."""

import re
import subprocess
import threading
import time

from calibration.meters.boards import Board, module_w
from calibration.meters.protocol import Reading
from calibration.profile import Scope

_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?= |$)")
PATIENCE_S = 5.0
"""How long a program that says nothing is waited for."""


def rails_of(line: str) -> dict[str, float]:
    """Return the watts of every rail in a line; the first of the two figures, as the second is a running average.

    >>> rails_of("RAM 18207/62841MB cpu@52.5C VDD_GPU_SOC 2412mW/2400mW VIN_SYS_5V0 4707mW/4707mW")
    {'VDD_GPU_SOC': 2.412, 'VIN_SYS_5V0': 4.707}
    """
    return {rail: int(now) / 1000 for rail, now, _ in _RAIL.findall(line) if rail not in {"RAM", "SWAP", "IRAM"}}


class TegrastatsMeter:
    """Module power from a running tegrastats; each line is one update."""

    scope: Scope | None = "module"

    def __init__(self, board: Board, *, interval_s: float = 0.1, command: tuple[str, ...] = ("tegrastats",)) -> None:
        self.name = f"tegrastats on {board.name}"
        self.covers = board.covers
        self.refresh_s: float | None = interval_s
        self.poll_s = interval_s
        self._board = board
        self._line = ""
        self._came = threading.Event()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the vendor's own program
                [*command, "--interval", str(round(1000 * interval_s))], stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise ValueError(f"{command[0]} cannot be started ({error.strerror}); it comes with JetPack") from error
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def read(self) -> Reading:
        """Return the module's power of the latest line; ValueError when tegrastats ended or says nothing."""
        if not self._came.wait(PATIENCE_S) or self._process.poll() is not None:
            raise ValueError(f"meter {self.name}: gone (tegrastats ended or printed no line in {PATIENCE_S:g} s)")
        power_w = module_w(self._board, rails_of(self._line))
        return Reading(at_ns=time.monotonic_ns(), power_w=power_w, energy_j=None)

    def close(self) -> None:
        """Stop tegrastats."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _follow(self) -> None:
        for line in self._process.stdout or ():
            self._line = line
            self._came.set()
