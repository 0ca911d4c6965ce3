"""Attachment: the access point that each user is served by, and its handovers from one to another.

Every user is at the strongest site when the run starts. From then on it measures its surroundings every
`measurement_s`. When a neighbour has been stronger than the serving site by more than the hysteresis in all
measurements for the time to trigger, the user is handed over to it (event A3 of 3GPP TS 38.331, 5.5.4.4, one neighbour
at a time), and for the time of the interruption nothing is sent or received.
"""

from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled
from twin.radio.channel import HandoverRule
from twin.radio.record import Handovers
from twin.radio.signal_map import SITES_MEASURED, SignalMap
from twin.users.mobility import Mobility, Paths

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

STEPS_AT_LEAST = 64  # measured at once when a request asks for one instant
AT_ONCE = 2**16  # measurements of users that are held in memory together


class Attachment:
    """Who is served by which site, measured as far as anyone has asked."""

    def __init__(self, *, mobility: Mobility, seed: int, ground: SignalMap, rule: HandoverRule, stop_s: float) -> None:
        """Nothing is measured after `stop_s`."""
        self._mobility, self._seed, self._ground, self._rule, self._stop_s = mobility, seed, ground, rule, stop_s
        n = mobility.n_users
        self.paths: Paths = mobility.paths(seed=seed, until_s=0.0)
        self._known_to_s = 0.0  # of the paths
        self._steps = 1  # measurements made
        self._candidate: NDArray[np.int16] = np.full(n, -1, dtype=np.int16)
        self._since = np.zeros(n, dtype=np.int64)
        self._found: list[NDArray[np.int64]] = []  # (handovers, 4) each: user, step, site before, site after
        square = ground.measure(*self.paths.places_m(np.arange(n), np.zeros(n)))
        self._serving: NDArray[np.int16] = ground.site[square, np.argmax(ground.dbm[square], axis=1)]
        self.first_site = self._serving.astype(np.int64)
        self._sort()

    @property
    def rule(self) -> HandoverRule:
        """When a user is handed over."""
        return self._rule

    @property
    def settled_s(self) -> float:
        """From when nothing changes any more: everyone is at rest, and has had its handovers."""
        each_s = self._rule.time_to_trigger_s + 2 * self._rule.measurement_s
        return self._mobility.moves_until_s + (SITES_MEASURED + 1) * each_s  # every handover is to a stronger site

    def through(self, until_s: float) -> None:
        """Measure everyone up to `until_s`, if that has not been done."""
        step_s = self._rule.measurement_s
        wanted = ceil(min(until_s, self._stop_s) / step_s)
        if wanted < self._steps:
            return
        last = min(max(wanted, self._steps + STEPS_AT_LEAST), ceil(self._stop_s / step_s))
        self._walk_to(last * step_s)
        settled = last if self.settled_s == inf else min(last, ceil(self.settled_s / step_s))
        at_once = max(AT_ONCE // self._mobility.n_users, 1)
        for first in range(self._steps, settled + 1, at_once):
            self._measure(first, min(at_once, settled + 1 - first))
        self._steps = last + 1
        self._sort()

    def site(self, user: Whole, at_s: Floats) -> Whole:
        """Return the site that serves each user (n,) at the instant beside it (n,)."""
        out = np.empty(len(user), dtype=np.int64)
        _site_at(self._offsets, self._at_s, self._to_site, self.first_site, user, at_s, out)
        return out

    def free_s(self, user: Whole, at_s: Floats) -> Floats:
        """Return the first instants (n,), from those given, at which each user is not interrupted by a handover."""
        out = np.empty(len(user))
        _free_at(self._offsets, self._at_s, user, at_s, self._rule.interruption_s, out)
        return out

    def stretched_s(self, user: Whole, from_s: Floats, to_s: Floats) -> Floats:
        """Return the ends (n,) of transfers that would last from `from_s` to `to_s` if no handover interrupted them."""
        out = np.empty(len(user))
        _stretched(self._offsets, self._at_s, user, from_s, to_s, self._rule.interruption_s, out)
        return out

    def handovers(self) -> Handovers:
        """Return all handovers measured so far."""
        found = np.concatenate([np.empty((0, 4), dtype=np.int64), *self._found])
        at_s = found[:, 1] * self._rule.measurement_s
        return Handovers(user=found[:, 0], at_s=at_s, from_site=found[:, 2], to_site=found[:, 3])

    def _walk_to(self, until_s: float) -> None:
        if until_s > self._known_to_s:
            self._known_to_s = max(until_s, 1.25 * self._known_to_s)  # not anew for every measurement
            self.paths = self._mobility.paths(seed=self._seed, until_s=self._known_to_s)

    def _measure(self, first: int, n_steps: int) -> None:
        """Let everyone measure in the steps from `first` on."""
        ground, rule, n = self._ground, self._rule, len(self._serving)
        at_s = np.repeat((first + np.arange(n_steps)) * rule.measurement_s, n)
        square = ground.measure(*self.paths.places_m(np.tile(np.arange(n), n_steps), at_s))
        found: Whole = np.empty((n_steps * n, 4), dtype=np.int64)
        n_found = _measured(
            ground.site, ground.dbm, square.reshape(n_steps, n), self._serving, self._candidate, self._since, first,
            rule.hysteresis_db, ceil(rule.time_to_trigger_s / rule.measurement_s - 1e-9), found,
        )  # fmt: skip
        self._found.append(found[:n_found].copy())

    def _sort(self) -> None:
        """Put the handovers in the order of (user, time), for looking them up."""
        found = self.handovers()
        order = np.argsort(found.user, kind="stable")
        self._offsets = _offsets(found.user[order], self._mobility.n_users)
        self._at_s, self._to_site = found.at_s[order], found.to_site[order]


def _offsets(user: Whole, n_users: int) -> Whole:
    return np.asarray(np.searchsorted(user, np.arange(n_users + 1)), dtype=np.int64)


@compiled
def _measured(  # noqa: PLR0917 - compiled code takes columns one by one
    map_site: NDArray[np.int16], map_dbm: NDArray[np.float32], squares: Whole, serving: NDArray[np.int16],
    candidate: NDArray[np.int16], since: Whole, first: int, hysteresis_db: float, steps_to_trigger: int, out: Whole,
) -> int:  # fmt: skip
    n_found = 0
    for i in range(squares.shape[0]):
        step = first + i
        for u in range(squares.shape[1]):
            sites, dbm = map_site[squares[i, u]], map_dbm[squares[i, u]]
            here_dbm, still, best, best_dbm = -inf, False, -1, -inf
            for j in range(len(sites)):
                if sites[j] == serving[u]:
                    here_dbm = dbm[j]
            for j in range(len(sites)):
                if sites[j] != serving[u] and dbm[j] > here_dbm + hysteresis_db:
                    still = still or sites[j] == candidate[u]
                    if dbm[j] > best_dbm:
                        best, best_dbm = sites[j], dbm[j]
            if not still:
                candidate[u], since[u] = best, step
            if candidate[u] >= 0 and step - since[u] >= steps_to_trigger:
                out[n_found, 0], out[n_found, 1], out[n_found, 2], out[n_found, 3] = u, step, serving[u], candidate[u]
                serving[u], candidate[u] = candidate[u], -1
                n_found += 1
    return n_found


@compiled
def _site_at(  # noqa: PLR0917
    offsets: Whole, handover_s: Floats, to_site: Whole, first_site: Whole, user: Whole, at_s: Floats, out: Whole
) -> None:
    for i in range(len(user)):
        start, end = offsets[user[i]], offsets[user[i] + 1]
        k = np.searchsorted(handover_s[start:end], at_s[i], side="right")
        out[i] = to_site[start + k - 1] if k else first_site[user[i]]


@compiled
def _free_at(  # noqa: PLR0917
    offsets: Whole, handover_s: Floats, user: Whole, at_s: Floats, lasts_s: float, out: Floats
) -> None:
    for i in range(len(user)):
        start, end = offsets[user[i]], offsets[user[i] + 1]
        k = start + np.searchsorted(handover_s[start:end], at_s[i], side="right")
        free_s = at_s[i]
        if k > start:
            free_s = max(free_s, handover_s[k - 1] + lasts_s)
        while k < end and handover_s[k] <= free_s:  # interrupted again before it was free
            free_s = handover_s[k] + lasts_s
            k += 1
        out[i] = free_s


@compiled
def _stretched(  # noqa: PLR0917
    offsets: Whole, handover_s: Floats, user: Whole, from_s: Floats, to_s: Floats, lasts_s: float, out: Floats
) -> None:
    for i in range(len(user)):
        start, end = offsets[user[i]], offsets[user[i] + 1]
        k = start + np.searchsorted(handover_s[start:end], from_s[i], side="right")
        stretched_s = to_s[i]
        while k < end and handover_s[k] < stretched_s:
            stretched_s += lasts_s
            k += 1
        out[i] = stretched_s
