"""Jetson boards: which power rails together are the module's, and which are inside others.

Rails as named by the boards' device trees; sources: NVIDIA's Jetson Linux Developer Guide, "Power monitors", and
for the AGX Orin its tables of INA3221 channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calibration.profile import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One board: the rails whose sum is the module, and rails that these already hold (adding them counts twice)."""

    name: str
    total: tuple[str, ...]
    inside: tuple[str, ...]

    @property
    def covers(self) -> str:
        """What the total holds, in words."""
        return f"module power, {' + '.join(self.total)}; the carrier board is outside all rails"


BOARDS = (
    Board(name="AGX Orin", total=("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), inside=("VDDQ_VDD2_1V8AO",)),
    Board(name="Orin NX", total=("VDD_IN",), inside=("VDD_CPU_GPU_CV", "VDD_SOC")),
    Board(name="Orin Nano", total=("VDD_IN",), inside=("VDD_CPU_GPU_CV", "VDD_SOC")),
    Board(name="Xavier NX", total=("VDD_IN",), inside=("VDD_CPU_GPU_CV", "VDD_SOC")),
    Board(name="Jetson Nano", total=("POM_5V_IN",), inside=("POM_5V_GPU", "POM_5V_CPU")),
)


def is_tegra(root: Path = Path("/")) -> bool:
    """Return whether this machine is a Jetson, as its device tree says; NVML cannot be asked, it says yes on Orin."""
    return "nvidia,tegra" in _device_tree(root, "compatible")


def board_of(root: Path = Path("/")) -> Board:
    """Return the board of this machine; ValueError for one without a rail table."""
    model = _device_tree(root, "model")
    for board in BOARDS:
        if board.name.lower() in model.lower():
            return board
    if not model:
        raise ValueError(
            "this machine has no device tree, so it is no Jetson; use the meter nvml with an NVIDIA GPU, else none"
        )
    raise ValueError(
        f"board {model!r}: its rails are not known, known are {', '.join(b.name for b in BOARDS)}; "
        "name the rails that add up to the module (--rails A,B)"
    )


def board_named(name: str) -> Board:
    """Return the board of that name; ValueError with a near match."""
    known = {board.name: board for board in BOARDS}
    if name not in known:
        raise ValueError(f"board {name!r}: must be one of {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def module_w(board: Board, rails_w: Mapping[str, float]) -> float:
    """Return the module's power from rail readings in watts; ValueError when a rail is missing.

    >>> module_w(board_named("AGX Orin"), {"VDD_GPU_SOC": 4.0, "VDD_CPU_CV": 1.0, "VIN_SYS_5V0": 5.0,
    ...                                    "VDDQ_VDD2_1V8AO": 2.0})
    10.0
    """
    missing = [rail for rail in board.total if rail not in rails_w]
    if missing:
        raise ValueError(
            f"{board.name}: no reading of rail {', '.join(missing)}, found {', '.join(rails_w) or 'none'}; "
            "without it the module's total is unknown"
        )
    return sum(rails_w[rail] for rail in board.total)


def _device_tree(root: Path, name: str) -> str:
    path = root / "proc" / "device-tree" / name
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
