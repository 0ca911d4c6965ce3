"""Traces of positions: a CSV of where each user is when."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.radio.sites import Origin, degrees, numbers, read_positions
from twin.users.mobility import Paths, Recorded

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def read_position_trace(path: Path, *, n_users: int, origin: Origin | None) -> Recorded:
    """Return the first `n_users` of a CSV with `user_id`, `at_s` and `x_m`, `y_m` or `latitude`, `longitude`.

    Users count in the order in which the file first names them, instants from the run's start. Without the first two
    columns every row is a user who stays there, as in the EUA data set's files of users. Degrees are counted from the
    `origin` of the access points. Raises ValueError naming the file, the line and the column.
    """
    table = read_positions(path)
    x_m, y_m = _metres(path, table, origin)
    user, at_s = _users(path, table)
    if (found := int(user.max()) + 1) < n_users:
        raise ValueError(f"{path}: has {found} users, the scenario {n_users}; set users.count to {found} at most")
    order = np.lexsort((at_s, user))
    order = order[user[order] < n_users]
    _check_instants(path, table, order, user, at_s)
    offsets: Whole = np.searchsorted(user[order], np.arange(n_users + 1)).astype(np.int64)
    return Recorded(trace=Paths(offsets=offsets, at_s=at_s[order], x_m=x_m[order], y_m=y_m[order]))


def _metres(path: Path, table: pd.DataFrame, origin: Origin | None) -> tuple[Floats, Floats]:
    if "x_m" in table:
        return numbers(path, table, "x_m"), numbers(path, table, "y_m")
    if origin is None:
        raise ValueError(
            f"{path}: positions are in degrees, but those of the access points are in metres; give both the same way"
        )
    return origin.metres(*degrees(path, table))


def _users(path: Path, table: pd.DataFrame) -> tuple[Whole, Floats]:
    """Return the number of the user of each row, and its instant."""
    if ("user_id" in table) != ("at_s" in table):
        raise ValueError(
            f"{path}: has only one of the columns user_id and at_s; needs both, or none of them for users who stay"
        )
    if "user_id" not in table:
        return np.arange(len(table)), np.zeros(len(table))
    names = table["user_id"].to_numpy().astype(str)
    _, first, user = np.unique(names, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[user], numbers(path, table, "at_s", low=0.0, high=1e9)


def _check_instants(path: Path, table: pd.DataFrame, order: Whole, user: Whole, at_s: Floats) -> None:
    again = (np.diff(user[order]) == 0) & (np.diff(at_s[order]) == 0)
    if again.any():
        row = int(order[1:][again][0])
        raise ValueError(
            f"{path}, line {row + 2}: user {table['user_id'].iloc[row]!r} is at a second place at {at_s[row]:g} s"
        )
