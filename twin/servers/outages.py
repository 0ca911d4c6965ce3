"""Outages of a link: what is sent meanwhile waits until it is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Instants = TypeVar("Instants", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A link carries nothing from `at_s` until `ends_s`."""

    at_s: float
    ends_s: float

    def __post_init__(self) -> None:
        if not (isfinite(self.at_s) and self.at_s >= 0):
            raise ValueError(f"outage: at_s is {self.at_s}, must be a finite number of seconds, at least 0")
        if not (isfinite(self.ends_s) and self.ends_s > self.at_s):
            raise ValueError(f"outage at {self.at_s} s: ends_s is {self.ends_s}, must be later, and finite")


def held_s(sent_s: Instants, outages: Sequence[Outage]) -> Instants:
    """Return when what was sent leaves: at once, or when the outage is over that it was sent in.

    >>> held_s(1.5, [Outage(at_s=2.0, ends_s=3.0), Outage(at_s=1.0, ends_s=2.0)])
    3.0
    """
    for outage in sorted(outages, key=lambda outage: outage.at_s):
        if isinstance(sent_s, np.ndarray):
            sent_s = np.where((sent_s >= outage.at_s) & (sent_s < outage.ends_s), outage.ends_s, sent_s)
        elif outage.at_s <= sent_s < outage.ends_s:
            sent_s = outage.ends_s
    return sent_s
