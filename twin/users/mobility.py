"""Where users are: at rest, on random waypoints, or where a trace says; as straight legs between knots."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled
from twin.randomness import streams

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The ways of all users: user u is at knots[offsets[u]:offsets[u + 1]], and on a straight line between two.

    Before the first knot it is at the first, after the last at the last. `at_s`, `x_m` and `y_m` are (knots,).
    """

    offsets: Whole
    at_s: Floats
    x_m: Floats
    y_m: Floats

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return len(self.offsets) - 1

    def places_m(self, user: Whole, at_s: Floats) -> tuple[Floats, Floats]:
        """Return x and y in metres of each user (n,) at the instant beside it (n,).

        >>> ends = np.array([0.0, 10.0])
        >>> walk = Paths(offsets=np.array([0, 2]), at_s=ends, x_m=1.4 * ends, y_m=np.zeros(2))
        >>> walk.places_m(np.array([0, 0]), np.array([5.0, 99.0]))[0].tolist()
        [7.0, 14.0]
        """
        x_m, y_m = np.empty(len(user)), np.empty(len(user))
        _place(self.offsets, self.at_s, self.x_m, self.y_m, user, at_s, x_m, y_m)
        return x_m, y_m


class Mobility(Protocol):
    """How users move."""

    @property
    def n_users(self) -> int:
        """How many users there are."""
        ...

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """Least x and y and greatest x and y that a user can be at."""
        ...

    @property
    def moves_until_s(self) -> float:
        """When the last user comes to rest; +inf when none ever does."""
        ...

    def paths(self, *, seed: int, until_s: float) -> Paths:
        """Return where everyone is up to `until_s`; a later end leaves what was before it as it was."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Users who stay where they are, anywhere in an area of `width_m` by `height_m`."""

    n_users: int
    width_m: float
    height_m: float

    def __post_init__(self) -> None:
        _check(self.n_users, self.width_m, self.height_m)

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """Least x and y and greatest x and y that a user can be at."""
        return 0.0, 0.0, self.width_m, self.height_m

    @property
    def moves_until_s(self) -> float:
        """When the last user comes to rest; +inf when none ever does."""
        return 0.0

    def paths(self, *, seed: int, until_s: float) -> Paths:  # noqa: ARG002
        """Return where everyone stands."""
        place = streams(seed)["mobility"].random((2, self.n_users))
        n = self.n_users
        return Paths(
            offsets=np.arange(n + 1), at_s=np.zeros(n), x_m=place[0] * self.width_m, y_m=place[1] * self.height_m
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWaypoint:
    """Users who walk straight to a place drawn anywhere in the area, rest, and walk on.

    Speed and rest of each leg are drawn evenly between two bounds. They start at places drawn evenly, walking; after
    a while they are denser in the middle. Source: Johnson and Maltz, 1996; Bettstetter et al., IEEE TMC 2003.
    """

    n_users: int
    width_m: float
    height_m: float
    speed_m_per_s: tuple[float, float]
    pause_s: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check(self.n_users, self.width_m, self.height_m)
        low, high = self.speed_m_per_s
        if not (isfinite(high) and 0 < low <= high):
            raise ValueError(
                f"users: speed_m_per_s is {low:g} to {high:g}, must rise and be above 0; those who stay are static"
            )
        low, high = self.pause_s
        if not (isfinite(high) and 0 <= low <= high):
            raise ValueError(f"users: pause_s is {low:g} to {high:g}, must rise from at least 0")

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """Least x and y and greatest x and y that a user can be at."""
        return 0.0, 0.0, self.width_m, self.height_m

    @property
    def moves_until_s(self) -> float:
        """When the last user comes to rest; +inf when none ever does."""
        return inf

    def paths(self, *, seed: int, until_s: float) -> Paths:
        """Return the walks up to `until_s`; every leg draws for all users, so that a later end changes nothing."""
        chance, n = streams(seed)["mobility"], self.n_users
        now_s: Floats = np.zeros(n)
        x_m, y_m = self._places(chance)
        knots = [(now_s, x_m, y_m)]
        while now_s.min() < until_s:
            to_x_m, to_y_m = self._places(chance)
            now_s = now_s + np.hypot(to_x_m - x_m, to_y_m - y_m) / chance.uniform(*self.speed_m_per_s, size=n)
            x_m, y_m = to_x_m, to_y_m
            knots.append((now_s, x_m, y_m))
            if self.pause_s[1] > 0:
                now_s = now_s + chance.uniform(*self.pause_s, size=n)
                knots.append((now_s, x_m, y_m))
        at_s, x_s, y_s = (np.stack(column, axis=1) for column in zip(*knots, strict=True))  # (users, knots)
        wanted = np.ones(at_s.shape, dtype=np.bool_)
        wanted[:, 1:] = at_s[:, :-1] < until_s
        offsets = np.concatenate([[0], np.cumsum(wanted.sum(axis=1))])
        return Paths(offsets=offsets, at_s=at_s[wanted], x_m=x_s[wanted], y_m=y_s[wanted])

    def _places(self, chance: np.random.Generator) -> tuple[Floats, Floats]:
        place = chance.random((2, self.n_users))
        return place[0] * self.width_m, place[1] * self.height_m


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Users who are where a trace of positions says."""

    trace: Paths

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return self.trace.n_users

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """Least x and y and greatest x and y that a user can be at."""
        x_m, y_m = self.trace.x_m, self.trace.y_m
        return float(x_m.min()), float(y_m.min()), float(x_m.max()), float(y_m.max())

    @property
    def moves_until_s(self) -> float:
        """When the last user comes to rest; +inf when none ever does."""
        return float(self.trace.at_s.max())

    def paths(self, *, seed: int, until_s: float) -> Paths:  # noqa: ARG002
        """Return the trace."""
        return self.trace


def _check(n_users: int, width_m: float, height_m: float) -> None:
    if n_users < 1:
        raise ValueError(f"users: there are {n_users}, must be at least 1")
    for key, found in (("width", width_m), ("height", height_m)):
        if not 0 < found < inf:
            raise ValueError(f"users: the area's {key} is {found} m, must be a finite number above 0")


@compiled
def _place(  # noqa: PLR0917 - compiled code takes columns one by one
    offsets: Whole,
    at_s: Floats,
    x_m: Floats,
    y_m: Floats,
    user: Whole,
    when_s: Floats,
    out_x_m: Floats,
    out_y_m: Floats,
) -> None:
    for i in range(len(user)):
        start, end, now_s = offsets[user[i]], offsets[user[i] + 1], when_s[i]
        low, high = start, end  # the first knot after `now_s` is in [low, high]
        while low < high:
            middle = (low + high) // 2
            if at_s[middle] <= now_s:
                low = middle + 1
            else:
                high = middle
        if low in (start, end):
            k = start if low == start else end - 1
            out_x_m[i], out_y_m[i] = x_m[k], y_m[k]
        else:
            share = (now_s - at_s[low - 1]) / (at_s[low] - at_s[low - 1])
            out_x_m[i] = x_m[low - 1] + share * (x_m[low] - x_m[low - 1])
            out_y_m[i] = y_m[low - 1] + share * (y_m[low] - y_m[low - 1])
