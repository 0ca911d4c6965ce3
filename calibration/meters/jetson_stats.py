"""jetson-stats' service as a meter: its rails in milliwatts. The only file that imports `jtop`.

Its `avg` is no mean of a window and its `tot` adds every rail, one of which is fed by another: neither is used.
"""

import time
from typing import Any

from calibration.meters.boards import Board, module_w
from calibration.meters.protocol import Reading
from calibration.profile import Scope


class JtopMeter:
    """Module power from jetson-stats, which needs its service running and the extra `jetson`."""

    scope: Scope | None = "module"

    def __init__(self, board: Board, *, interval_s: float = 0.5) -> None:
        try:
            from jtop import jtop  # noqa: PLC0415 - a vendor library, optional (AGPL)
        except ImportError as error:
            raise ValueError("the meter jtop needs jetson-stats: pip install 'moe2-twin[jetson]'") from error
        self.name = f"jtop on {board.name}"
        self.covers = board.covers
        self.refresh_s: float | None = interval_s
        self.poll_s = interval_s
        self._board = board
        self._jtop: Any = jtop(interval=interval_s)
        try:
            self._jtop.start()
        except Exception as error:  # jtop raises exceptions of its own kinds
            raise ValueError(f"jetson-stats' service does not answer ({error}); systemctl start jtop") from error

    def read(self) -> Reading:
        """Return the module's power; ValueError when the service is gone."""
        if not self._jtop.ok():
            raise ValueError(f"meter {self.name}: gone (its service stopped)")
        rails = {name: rail["power"] / 1000 for name, rail in self._jtop.power["rail"].items()}
        return Reading(at_ns=time.monotonic_ns(), power_w=module_w(self._board, rails), energy_j=None)

    def close(self) -> None:
        """Leave the service."""
        self._jtop.close()
