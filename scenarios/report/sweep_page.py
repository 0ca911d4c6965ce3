"""A sweep on one page: its points, response curves, heat maps, the front, and the paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from scenarios.figures import Figure
from scenarios.figures.sweep import pareto_front
from scenarios.report.charts import sweep_charts
from scenarios.report.page import render_page, write_page
from scenarios.report.sentences import status_word, unequal
from scenarios.report.tables import Table
from scenarios.story.answer import Answer
from scenarios.story.numbers import DASH, Cell, interval, missing, number, percent, quantity

__all__ = ["write_sweep_page"]

_STATUS = {"infeasible": "Infeasible", "not judged": "No budget"}


def write_sweep_page(
    points: pd.DataFrame,
    metrics: pd.DataFrame,
    figures: Sequence[Figure],
    path: Path,
    *,
    name: str,
    description: str,
    keys: Sequence[str],
    answer: Answer | None = None,
    interactive: bool = False,
) -> None:
    """Write the page of a sweep to `path` in one step, from its tables `points` and `sweep`; its answer heads it."""
    counts = points["status"].value_counts()
    told = [f"{n} {'hold' if s == 'holds' and n > 1 else _words(str(s)).lower()}" for s, n in counts.items()]
    page = render_page(
        "sweep.html.j2",
        figures=figures,
        charts=sweep_charts(points, keys) if interactive and list(keys) != ["variant"] else None,
        drawn=[figure.key for figure in figures],
        name=name,
        description=description,
        keys=list(keys),
        answer=answer,
        headline=f"{len(points)} points: {', '.join(told)}",
        tables={
            "points": _points(points, keys, front=answer is None),
            # loads of a search differ by as much as it happened to try
            **({} if answer and list(keys) != ["variant"] else {"differences": _differences(points, metrics, keys)}),
        },
    )
    write_page(page, path)


def _words(status: str) -> str:
    return _STATUS.get(status, status_word(status))


def _points(points: pd.DataFrame, keys: Sequence[str], *, front: bool) -> Table:
    """Return every point: the table of all the figures; with `front` those that no other beats are marked."""
    rows = []
    for row, best in zip(points.to_dict("records"), pareto_front(points), strict=True):
        figures = (
            _figure(row, "accuracy", "share"),
            _figure(row, "delay_s", "s", used="delay"),
            _figure(row, "energy_j_per_request", "J", used="energy"),
        )
        front_words = "beaten by no other point" if best and front else ""
        mark = Cell(
            text=_words(row["status"]), below="; ".join(w for w in (row["reason"], front_words) if w), style="prose"
        )
        rows.append((*(Cell(text=str(row[key]), style="name") for key in keys), mark, *figures))
    statistic = points["delay_statistic"].iloc[0]
    columns = (*keys, "Verdict", "Accuracy", f"Delay {statistic}", "Energy per request")
    note = "Below a figure: its 95 % interval of chance (of accuracy Wilson's), and the share of the tightest budget."
    if front or list(keys) == ["variant"]:
        note += " The first point is the one that the others are compared with."
    return Table(caption="Every point", columns=columns, rows=tuple(rows), n_text=len(keys) + 1, note=note)


def _figure(row: Mapping[object, float], column: str, unit: str, *, used: str = "") -> Cell:
    value, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(value):
        return missing("not known")
    text = quantity(value, unit) if math.isfinite(value) else "∞"
    use = row[f"{used}_use"] if used else math.nan
    parts = [
        interval(low, high, unit) if math.isfinite(low) and math.isfinite(high) and low < high else "",
        "" if math.isnan(use) else f"{percent(use)} of budget" if use < 10 else "far over budget",
    ]
    return Cell(text=text, below=", ".join(p for p in parts if p), style="number")


def _differences(points: pd.DataFrame, metrics: pd.DataFrame, keys: Sequence[str]) -> Table:
    """Return the paired differences of accuracy, delay and energy to the first point."""
    statistic = points["delay_statistic"].iloc[0]
    shown = {"accuracy": (100, "points"), f"delay_{statistic}_s": (1, "s"), "energy_j_per_request": (1, "J")}
    of_all = metrics[metrics["category"] == "all"]
    at = {(row["point"], row["metric"]): row for row in of_all.to_dict("records")}
    rows = tuple(
        (
            *(Cell(text=str(row[key]), style="name") for key in keys),
            *(_difference(at.get((row["point"], metric)), *how) for metric, how in shown.items()),
        )
        for row in points.iloc[1:].to_dict("records")
    )
    columns = (*keys, "Accuracy", f"Delay {statistic}", "Energy per request")
    caption = "Difference to the first point, replication by replication, with 95 % intervals"
    dashed = any(cell.text == DASH for row in rows for cell in row)
    notes = [
        *unequal(of_all.loc[of_all["n"] > 0, "n"]),
        *([f"{DASH} A figure of one of the two points is not known or has no bound in some replication."] * dashed),
    ]
    return Table(caption=caption, columns=columns, rows=rows, n_text=len(keys), note=" ".join(notes))


def _difference(row: Mapping[object, float] | None, scale: float, unit: str) -> Cell:
    if row is None or math.isnan(row["difference"]):
        return Cell(text=DASH, style="number")
    value, low, high = (scale * row[f"difference{end}"] for end in ("", "_low", "_high"))
    below = "" if math.isnan(low) or low == high else f"{number(low)} to {number(high)}"
    return Cell(text=f"{'+' if value > 0 else ''}{quantity(value, unit)}", below=below, style="number")
