"""What a sweep answers at a point, and the lines that it must not cross."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import pandas as pd

__all__ = ["Response", "is_wide", "responses", "span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One thing that a sweep answers: its column, the words for it, and the line that it must not cross."""

    column: str
    words: str
    scale: float = 1.0
    bound: float | None = None


def responses(points: pd.DataFrame) -> list[Response]:
    """Return accuracy, delay and energy; the last two as shares of their budgets where there are any."""
    statistic = str(points["delay_statistic"].iloc[0])
    found = [Response(column="accuracy", words="accuracy, %", scale=100)]
    if points["delay_use"].notna().any():
        found.append(
            Response(column="delay_use", words=f"delay {statistic},\n% of its tightest budget", scale=100, bound=100)
        )
    else:
        found.append(Response(column="delay_s", words=f"delay {statistic}, s"))
    if points["energy_use"].notna().any():
        found.append(Response(column="energy_use", words="energy per request,\n% of its budget", scale=100, bound=100))
    else:
        found.append(Response(column="energy_j_per_request", words="energy, J per request"))
    return found


def is_wide(points: pd.DataFrame, response: Response) -> bool:
    """Return whether a linear axis would squeeze most of the values into a corner."""
    known = [v for v in points[response.column].to_numpy(dtype=float).tolist() if isfinite(v) and v > 0]
    return response.column != "accuracy" and bool(known) and max(known) > 20 * min(known)


def span(points: pd.DataFrame, response: Response) -> tuple[float, float] | None:
    """Return what an axis shows: every value, the bound, and intervals as far as they do not dwarf the values.

    None where no value is known.

    >>> points = pd.DataFrame({"x": [10.0, 20.0], "x_low": [9.0, 12.0], "x_high": [11.0, 4e6]})
    >>> span(points, Response(column="x", words="x"))
    (8.45, 20.55)
    """

    def known(column: str) -> list[float]:
        return [response.scale * v for v in points[column].to_numpy(dtype=float).tolist() if isfinite(v)]

    values = known(response.column)
    if not values:
        return None
    values += [] if response.bound is None else [response.bound]
    low, high = min(values), max(values)
    near = [v for end in ("low", "high") for v in known(f"{response.column}_{end}") if low / 2 <= v <= 2 * high]
    low, high = min(values + near), max(values + near)
    if is_wide(points, response):
        return max(low, 1e-9) / 1.2, high * 1.2
    room = 0.05 * (high - low) or max(0.05 * abs(high), 1e-9)
    return low - room, high + room
