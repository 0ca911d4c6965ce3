"""What disturbs a cell while it is measured: throttling, and processor time that a host takes from its machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration.meters.throttles import looked, throttles

_USER_TO_STEAL = slice(1, 9)  # of the first line of /proc/stat; the guests' times after them are in user already
_STEAL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Looks at what disturbs; `allowed` lets throttling pass, which is still told.

    `throttled_by` returns what slowed the device since it was asked last ('' for nothing, None: not told); `ticks`
    returns the clock ticks of all processors since the start, those stolen first, None where they are not told.
    """

    throttled_by: Callable[[], str | None] = lambda: None
    ticks: Callable[[], tuple[int, int] | None] = lambda: None
    covers: str = "not watched"
    allowed: bool = False

    def fault_of(self, throttled_by: str | None) -> str:
        """Return the fault of what was measured under throttling, '' for none."""
        return f"throttled by {throttled_by}" if throttled_by and not self.allowed else ""


def watch(elsewhere: str | None, *, allowed: bool, root: Path = Path("/")) -> Watch:
    """Return the watch of this machine; of one that is `elsewhere` nothing is told."""
    if elsewhere is not None:
        return Watch(covers=f"not watched: {elsewhere} is on another machine", allowed=allowed)
    places = throttles(root)
    told = "; ".join(place.covers for place in places)
    covers = f"watched by {told}" if told else "not watched: this machine tells of no throttling"
    return Watch(throttled_by=looked(places), ticks=lambda: stolen_of(root), covers=covers, allowed=allowed)


def stolen_of(root: Path = Path("/")) -> tuple[int, int] | None:
    """Return ticks stolen and all ticks, of all processors since the start; None where the kernel does not tell."""
    try:
        first = (root / "proc/stat").read_text(encoding="utf-8").partition("\n")[0].split()
    except OSError:
        return None
    if len(first) <= _STEAL or first[0] != "cpu":
        return None
    return int(first[_STEAL]), sum(map(int, first[_USER_TO_STEAL]))


def share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Return the share of the time between that was stolen; None where it is not told or no tick passed.

    >>> share((10, 1000), (15, 1200))
    0.025
    """
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])
