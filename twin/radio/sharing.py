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
        counts = np.bincount(site)
        stops = np.cumsum(counts)
        for i in np.flatnonzero(counts).tolist():
            rows = order[stops[i] - counts[i] : stops[i]]
            if len(rows) < _FEW:
                each = zip(*(c[rows].tolist() for c in (sent_s, begins_s, alone_s)), strict=True)
                ends_s[rows] = [shared_end_s(self._coming[i], self._ending[i], *transfer) for transfer in each]
            else:
                self._share(i, rows, sent_s, begins_s, alone_s, ends_s)
        return ends_s

    def _share(  # noqa: PLR0917 - the columns of `ends_s`
        self, i: int, rows: NDArray[np.intp], sent_s: Floats, begins_s: Floats, alone_s: Floats, ends_s: Floats
    ) -> None:
        """Put the transfers in these rows on the air of a site, and note their ends."""
        pairs, ends = _pairs(self._coming[i]), np.sort(self._ending[i])
        coming, ending = np.empty((len(pairs) + len(rows), 2)), np.empty(len(pairs) + len(ends) + len(rows))
        bounds = np.empty(4, dtype=np.int64)
        _share(pairs, ends, rows, sent_s, begins_s, alone_s, ends_s, coming, ending, bounds)
        head, tail, first, last = bounds.tolist()
        self._coming[i] = sorted((begin_s, end_s) for begin_s, end_s in coming[head:tail].tolist())
        self._ending[i] = ending[first:last].tolist()


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


@compiled
def _share(  # noqa: PLR0917 - compiled code takes columns one by one
    pairs: Floats, ends: Floats, rows: NDArray[np.intp], sent_s: Floats, begins_s: Floats, alone_s: Floats, out: Floats,
    coming: Floats, ending: Floats, bounds: NDArray[np.int64],
) -> None:  # fmt: skip
    """Do what `shared_end_s` does for each of the rows: the same sets, kept in order, as nearly all come in order.

    In the end these are coming[bounds[0]:bounds[1]], pairs of begin and end, and ending[bounds[2]:bounds[3]].
    """
    head, tail, first, last = 0, len(pairs), 0, len(ends)
    for k in range(tail):
        coming[k, 0], coming[k, 1] = pairs[k, 0], pairs[k, 1]
    for k in range(last):
        ending[k] = ends[k]
    for i in rows:
        while head < tail and coming[head, 0] < sent_s[i] - TOGETHER_S:
            k = last
            while k > first and ending[k - 1] > coming[head, 1]:
                ending[k] = ending[k - 1]
                k -= 1
            ending[k] = coming[head, 1]
            last += 1
            head += 1
        while first < last and ending[first] <= sent_s[i]:
            first += 1
        out[i] = begins_s[i] + alone_s[i] * (last - first + 1)
        k = tail
        while k > head and coming[k - 1, 0] > begins_s[i]:
            coming[k, 0], coming[k, 1] = coming[k - 1, 0], coming[k - 1, 1]
            k -= 1
        coming[k, 0], coming[k, 1] = begins_s[i], out[i]
        tail += 1
    bounds[0], bounds[1], bounds[2], bounds[3] = head, tail, first, last


def _pairs(coming: list[tuple[float, float]]) -> Floats:
    return np.array(sorted(coming), dtype=np.float64).reshape(-1, 2)
