"""What a sweep answers at a point, and the lines that it must not cross."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

__all__ = ["Response", "responses"]


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
