"""What the search for a load comes to, in one sentence: the edges, what breaks beyond them, and why a gap is left."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from scenarios.plans.answers import standing
from scenarios.story.answer import Answer
from scenarios.story.numbers import given
from scenarios.sweeps.question import Tables

if TYPE_CHECKING:
    import pandas as pd

    from scenarios.plans.capacity import Capacity

__all__ = ["capacity_answer"]

Row = Mapping[Any, Any]


def capacity_answer(found: Capacity, tables: Tables) -> Answer:
    """Return how much load until a budget breaks, from the search's edges and the tables of every load tried."""
    points = tables["points"]
    rows = {float(row[found.key]): row for row in points.to_dict("records")}
    edges = {name: None if at is None else rows[at] for name, at in (("holds", found.holds), ("breaks", found.breaks))}
    judged = tables["verdicts"]
    if edges["breaks"] is not None:
        judged = judged[judged["point"] == edges["breaks"]["point"]]
    broken, broken_of = judged[judged["status"] == "violated"], len(judged)
    return Answer(
        question=f"How many {found.unit} until a budget breaks?",
        sentence=_sentence(found, rows, _first_broken(broken, broken_of)),
        numbers={
            "key": found.key,
            "unit": found.unit,
            "holds": found.holds,
            "breaks": found.breaks,
            "tolerance": found.tolerance,
            "loads_tried": len(rows),
            "at_holds": _use(edges["holds"]),
            "at_breaks": _use(edges["breaks"]),
        },
        notes=tuple(_notes(found, rows, tables)),
    )


def _sentence(found: Capacity, rows: Mapping[float, Row], broken: str) -> str:
    if found.holds is None:
        span = f"{_load(min(rows))} to {_load(max(rows))} {found.unit}"
        return f"At none of the {len(rows)} loads tried, {span}, was every budget found to hold."
    start = f"Every budget holds up to {_load(found.holds)} {found.unit}"
    if found.breaks is None:
        return f"{start}; at no load tried, up to {_load(max(rows))}, was one found to break."
    return f"{start}; from {_load(found.breaks)} {found.unit} on {broken}."


def _first_broken(verdicts: pd.DataFrame, n: int) -> str:
    """Return how many budgets are violated and which of them is farthest beyond, as the rest of a sentence."""
    labels = verdicts.assign(use=(verdicts["estimate"] / verdicts["budget"]).fillna(float("inf")))
    if labels.empty:
        return "no choice of experts fits"
    worst = str(labels.sort_values("use", ascending=False, kind="stable")["label"].iloc[0]).replace(", ", " of ")
    if len(labels) == 1:
        return f"{worst} is violated"
    return f"{len(labels)} of {n} are violated, {worst} the most"


def _notes(found: Capacity, rows: Mapping[float, Row], tables: Tables) -> list[str]:
    def at(load: float) -> str:
        return f"at {_load(load)} {found.unit}: {standing(tables, int(rows[load]['point']))}"

    low, high = found.holds, found.breaks
    if low is None:
        nearest = min(rows, key=lambda load: (_ORDER.get(str(rows[load]["status"]), 2), _tightest(rows[load])))
        ends = [load for load in dict.fromkeys([min(rows), max(rows)]) if load != nearest]
        return [f"Nearest to holding is {at(nearest)[3:]}.", *(f"A{at(load)[1:]}." for load in ends)]
    if high is None and rows[max(rows)]["status"] != "holds":
        high = float("inf")
    notes = []
    gap = [load for load in sorted(rows) if high is not None and low < load < high]
    if gap:
        doubt = next(rows[load] for load in gap if rows[load]["status"] != "holds")
        notes.append(f"In between: {_stretches(rows, gap)} {found.unit}.")
        notes.append(f"At {_load(_at(doubt, found))} {found.unit}: {_why(doubt)}.")
    below = [load for load in sorted(rows) if load < low and rows[load]["status"] != "holds"]
    notes += [f"Not all below holds: {at(load)}." for load in below[-1:]]
    if high is not None and isfinite(high):
        notes.append(f"The edges are found to {100 * found.tolerance:.3g} %, under the same chance at every load.")
    return notes


def _stretches(rows: Mapping[float, Row], loads: list[float]) -> str:
    """Return the verdict at each of the loads, neighbours that share one together."""
    told = []
    for status, group in groupby(loads, key=lambda load: str(rows[load]["status"])):
        some = list(group)
        told.append(f"{status} at {_load(some[0])}" + (f" to {_load(some[-1])}" if len(some) > 1 else ""))
    return ", ".join(told)


def _at(row: Row, found: Capacity) -> float:
    return float(row[found.key])


_ORDER = {"holds": 0, "undecided": 1}


def _why(row: Row) -> str:
    return str(row["reason"]) or "no budget is judged"


def _tightest(row: Row) -> float:
    """Return the largest use of a budget at a point, 1 is all of it."""
    uses = [float(row[f"{kind}_use"]) for kind in ("delay", "energy")]
    return max((use for use in uses if not isnan(use)), default=float("inf"))


def _use(row: Row | None) -> dict[str, Any] | None:
    """Return how much of the tightest budget of each kind a point uses, with its interval, as JSON holds it."""
    if row is None:
        return None
    return {
        "status": row["status"],
        "reason": row["reason"],
        **{
            kind: {
                "budget": None if not isinstance(row[f"{kind}_budget"], str) else row[f"{kind}_budget"],
                **{part: float(row[f"{kind}_{part}"]) for part in ("use", "use_low", "use_high")},
            }
            for kind in ("delay", "energy")
        },
    }


def _load(at: float) -> str:
    return given(float(f"{at:.4g}")) if at % 1 else given(at)
