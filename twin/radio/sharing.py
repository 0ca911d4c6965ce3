"""How transfers share the band of a cell.

A transfer gets an equal share of the band with those that are on the air in its cell and direction when it is sent, and
keeps it. Its mean is then that of exact sharing: one of mean size s that finds n others lasts s·(1 + n), so by Little's
law the mean time is T = s·(1 + T·rate) = s / (1 - load), for sizes of any kind. Transfers that are sent within a
nanosecond began together and do not count each other: then the order in which they are asked for does not matter.
"""

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled

Floats = NDArray[np.float64]

TOGETHER_S = 1e-9
_FEW = 32  # transfers: below it, calling compiled code costs more than it saves


class Band:
    """One direction of every cell: what is on the air, and what is about to be."""

    def __init__(self, n_sites: int) -> None:
        """At the start of a run nothing is on the air."""
        self._coming: list[list[tuple[float, float]]] = [[] for _ in range(n_sites)]  # heaps of (begin, end)
        self._ending: list[list[float]] = [[] for _ in range(n_sites)]  # heaps of ends

    def ends_s(self, site: NDArray[np.int64], sent_s: Floats, begins_s: Floats, alone_s: Floats) -> Floats:
        """Return when transfers (n,) end: sent and begun at those instants, `alone_s` long with the whole band."""
        ends_s = np.empty(len(site))
        if len(site) == 0:
            return ends_s
        order = _by_site_and_time(site, sent_s)
        firsts = np.flatnonzero(np.diff(site[order], prepend=-1))
        for start, stop in zip(firsts.tolist(), [*firsts[1:].tolist(), len(site)], strict=True):
            rows = order[start:stop]
            i = int(site[rows[0]])
            if len(rows) < _FEW:
                each = zip(*(c[rows].tolist() for c in (sent_s, begins_s, alone_s)), strict=True)
                ends_s[rows] = [shared_end_s(self._coming[i], self._ending[i], *transfer) for transfer in each]
            else:
                begins, ends, ending = _share(
                    _pairs(self._coming[i]), np.array(self._ending[i]), rows, sent_s, begins_s, alone_s, ends_s
                )
                self._coming[i] = list(zip(begins.tolist(), ends.tolist(), strict=True))
                self._ending[i] = ending.tolist()
        return ends_s


def shared_end_s(
    coming: list[tuple[float, float]], ending: list[float], sent_s: float, begins_s: float, alone_s: float
) -> float:
    """Return when a transfer ends, and put it on the air; asked for in the order of sending.

    >>> coming, ending = [], []
    >>> [shared_end_s(coming, ending, at_s, at_s, 1.0) for at_s in (0.0, 0.5, 0.5, 1.5)]
    [1.0, 2.5, 2.5, 4.5]
    """
    while len(coming) > 0 and coming[0][0] < sent_s - TOGETHER_S:
        heappush(ending, heappop(coming)[1])
    while len(ending) > 0 and ending[0] <= sent_s:
        heappop(ending)
    end_s = begins_s + alone_s * (len(ending) + 1)
    heappush(coming, (begins_s, end_s))
    return end_s


def _by_site_and_time(site: NDArray[np.int64], sent_s: Floats) -> NDArray[np.intp]:
    """Return the order of (site, time); small numbers are sorted by their digits, and time mostly stands in order."""
    sites = site.astype(np.int16)
    if np.all(sent_s[1:] >= sent_s[:-1]):
        return np.argsort(sites, kind="stable")
    order = np.argsort(sent_s, kind="stable")
    return order[np.argsort(sites[order], kind="stable")]


_compiled_shared_end_s = compiled(shared_end_s)


@compiled
def _share(  # noqa: PLR0917 - compiled code takes columns one by one
    pairs: Floats, ends: Floats, rows: NDArray[np.intp], sent_s: Floats, begins_s: Floats, alone_s: Floats, out: Floats
) -> tuple[Floats, Floats, Floats]:
    coming = [(pairs[i, 0], pairs[i, 1]) for i in range(len(pairs))]
    ending = [ends[i] for i in range(len(ends))]
    for i in rows:
        out[i] = _compiled_shared_end_s(coming, ending, sent_s[i], begins_s[i], alone_s[i])
    begins = np.array([pair[0] for pair in coming])
    return begins, np.array([pair[1] for pair in coming]), np.array(ending)


def _pairs(coming: list[tuple[float, float]]) -> Floats:
    return np.array(coming, dtype=np.float64).reshape(-1, 2)
