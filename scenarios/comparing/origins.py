"""Where tables come from: what the summary beside them says of it. Tables alone say nothing, and are taken as given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scenarios.story.late import late_words
from scenarios.story.stolen import stolen_words

__all__ = ["check_measured", "check_order", "disturbances"]

_MEASURED = ("recorded", "imported")  # engines of a summary that simulated nothing


def check_measured(folder: Path, role: str, why: str) -> None:
    """Raise ValueError where a summary says that a run was simulated; `why` says what is wrong with that here."""
    engine = _engine(folder)
    if engine is not None and engine not in _MEASURED:
        raise ValueError(
            f"{role} {folder}: was simulated (engine {engine!r} in its summary.json), not measured: {why}; name a "
            "folder that `moe2 record` or `moe2 import` wrote"
        )


def check_order(real: Path, twin: Path) -> None:
    """Raise ValueError where summaries say that the first run was simulated and the second measured.

    Errors are relative to the first. Two runs of one kind, or one that does not tell, are compared in any order.
    """
    if _engine(twin) in _MEASURED and _engine(real) not in {*_MEASURED, None}:
        raise ValueError(
            f"REAL {real} was simulated and TWIN {twin} was measured: the measured run comes first, "
            f"`moe2 compare {twin} {real}`"
        )


def disturbances(folder: Path, role: str) -> list[str]:
    """Return what the summary in a folder says of how it was recorded, where that is in its times; nothing of a run."""
    try:
        about = _summary(folder)["recording"]
        told = [*stolen_words(about.get("steal_share"), least=-1.0), *about.get("slots_apart", [])]
        if about.get("interrupted"):
            told.append("interrupted: requests that were under way are unfinished")
        told += late_words(about["lateness"])
    except (OSError, ValueError, KeyError, TypeError):  # tables alone are enough to be compared
        return []
    return [f"{role}: {words}" for words in told]


def _engine(folder: Path) -> str | None:
    """Return what made the tables, as the summary says; None where there is none, or none that says it."""
    try:
        found = _summary(folder)["engine"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _summary(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))
