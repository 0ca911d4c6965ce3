"""Outages of a link: what is sent meanwhile waits until it is over."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import inf, isfinite
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomOutages:
    """A link works and is down for exponential times: `mtbf_s` from an outage's end to the next, `mean_s` each."""

    mtbf_s: float
    mean_s: float

    def drawn(self, device: str, *, seed: int, stop_s: float) -> tuple[Outage, ...]:
        """Return the outages of a device's link that begin before `stop_s`; the chance is of (seed, device) alone."""
        downtimes = drawn_downtimes(
            f"outages of {device}", mtbf_s=self.mtbf_s, mean_repair_s=self.mean_s, seed=seed, stop_s=stop_s
        )
        return tuple(Outage(at_s=at_s, ends_s=ends_s) for at_s, ends_s in downtimes)


def drawn_downtimes(
    what: str, *, mtbf_s: float, mean_repair_s: float, seed: int, stop_s: float
) -> Iterator[tuple[float, float]]:
    """Yield (begin, end) of each time before `stop_s` that something is down, of exponential times up and down.

    `mtbf_s` is the mean time from a repair to the next failure. The chance is of (seed, what) alone.
    """
    for key, found in (("mtbf_s", mtbf_s), ("mean_repair_s", mean_repair_s)):
        if not (isfinite(found) and found > 0):
            raise ValueError(f"{what}: {key} is {found}, must be a finite number of seconds above 0")
    stream = int.from_bytes(blake2b(what.encode(), digest_size=8).digest(), "little")
    chance = np.random.default_rng([seed, stream])
    at_s = float(chance.exponential(mtbf_s))
    while at_s < stop_s:
        repaired_s = at_s + max(float(chance.exponential(mean_repair_s)), 1e-9 * max(1.0, at_s))
        yield at_s, repaired_s
        at_s = repaired_s + float(chance.exponential(mtbf_s))


def merged(outages: Iterable[Outage]) -> tuple[Outage, ...]:
    """Return the outages in the order of time, those that touch or overlap as one.

    >>> merged([Outage(at_s=2.0, ends_s=3.0), Outage(at_s=1.0, ends_s=2.0)])
    (Outage(at_s=1.0, ends_s=3.0),)
    """
    found: list[Outage] = []
    for outage in sorted(outages, key=lambda outage: outage.at_s):
        if found and outage.at_s <= found[-1].ends_s:
            last = found.pop()
            found.append(Outage(at_s=last.at_s, ends_s=max(last.ends_s, outage.ends_s)))
        else:
            found.append(outage)
    return tuple(found)


def held_s(sent_s: Instants, outages: Sequence[Outage]) -> Instants:
    """Return when what was sent leaves: at once, or when the outage is over that it was sent in.

    `outages` are as `merged` returns them.

    >>> [held_s(at_s, [Outage(at_s=1.0, ends_s=3.0)]) for at_s in (0.5, 1.0, 3.0)]
    [0.5, 3.0, 3.0]
    """
    if not outages:
        return sent_s
    if isinstance(sent_s, np.ndarray):
        last = np.searchsorted([outage.at_s for outage in outages], sent_s, side="right") - 1
        ends_s = np.array([*(outage.ends_s for outage in outages), -inf])  # the last one is that of none before
        return np.asarray(np.maximum(sent_s, ends_s[last]))
    last = bisect_right(outages, sent_s, key=lambda outage: outage.at_s) - 1
    return sent_s if last < 0 else max(sent_s, outages[last].ends_s)
