"""What it means that requests of a recording went out later than planned, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenarios.story.numbers import percent, quantity

__all__ = ["late_words"]


def late_words(late: Mapping[str, Any]) -> list[str]:
    """Return what a summary's `lateness` says of a flagged recording, in one line; none where sends were in time.

    >>> " ".join(late_words({"flagged": True, "late_share": 0.3, "late_s": 0.01, "max_s": 1.2})[0].split())
    "30.0 % of the sends were more than 10 ms late, the latest by 1.20 s: the load was not the scenario's"
    """
    if not late["flagged"]:
        return []
    return [
        f"{percent(late['late_share'])} of the sends were more than {1000 * late['late_s']:g} ms late, the latest by "
        f"{quantity(late['max_s'], 's')}: the load was not the scenario's"
    ]
