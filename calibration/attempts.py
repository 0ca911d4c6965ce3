"""Attempts at a recording's cells: which one counts, what had faults, what is missing, and what disturbed them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from calibration.session.notes import stolen_share_of

__all__ = ["absences", "disturbances", "ends", "faults", "missing", "once"]


_NAMED = 8  # cells in a message


def once(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the frame with the good rows of one attempt at each cell: the whole one, else the latest that has any.

    A cell whose rows had a fault is measured again by the next session, so that good rows of it are there twice.
    """
    of_cells = frame[frame["kind"].isin(["request", "window"])]
    attempts = of_cells.assign(bad=of_cells["fault"] != "").groupby(["recording", "cell", "session"])["bad"]
    found = pd.DataFrame({"whole": ~attempts.any(), "good": ~attempts.all()}).reset_index()
    best = found[found["good"]].sort_values(["whole", "session"]).groupby(["recording", "cell"]).tail(1)
    counted = pd.MultiIndex.from_frame(best[["recording", "cell", "session"]])
    rows = pd.MultiIndex.from_frame(frame[["recording", "cell", "session"]])
    twice = frame["kind"].isin(["request", "window"]) & (frame["fault"] == "") & ~rows.isin(counted)
    why = "of an attempt at a cell that ended with a fault, and was measured again"
    return frame[~twice], [{"n": int(twice.sum()), "reason": why}] if twice.any() else []


def faults(asked: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each fault of requests, with how many rows it cost."""
    bad = asked[asked["fault"] != ""]
    return [{"n": int(n), "reason": str(fault)} for fault, n in bad["fault"].value_counts().items()]


def missing(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the cells that some session planned or tried and of which none has a good request."""
    asked = frame[frame["kind"] == "request"]
    planned = {*frame[frame["kind"] == "missing"]["cell"], *asked["cell"]}
    return tuple(sorted(planned - set(asked[asked["fault"] == ""]["cell"])))


def ends(frame: pd.DataFrame) -> list[str]:
    """Return why each session ended, in order; one that was killed has no such row."""
    sessions = sorted(frame["session"].unique())
    ends = frame[frame["kind"] == "end"].set_index("session")["reason"]
    return [str(ends.get(session, "killed before its end")) for session in sessions]


def absences(refused: Sequence[dict[str, Any]], missing: Sequence[str]) -> list[str]:
    """Return in words what is not there to fit, and the way out."""
    told = [f"{row['n']} rows {row['reason']!r}" for row in refused]
    found = [f"refused are {', '.join(told)}"] if told else []
    if missing:
        more = len(missing) - _NAMED
        named = f"{', '.join(missing[:_NAMED])}{f' and {more} more' if more > 0 else ''}"
        found += [f"missing are {named}", "the same `moe2 calibrate` command goes on and measures them"]
    return found


def disturbances(frame: pd.DataFrame) -> dict[str, Any]:
    """Return what disturbed the cells, as far as it was watched."""
    throttled = frame["throttled_by"].dropna()
    named = throttled[throttled != ""].value_counts()
    return {
        "throttled": {str(name): int(n) for name, n in named.items()} if len(throttled) else "not watched",
        "steal_share": stolen_share_of(frame),
    }
