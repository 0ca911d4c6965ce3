"""The tables of several runs side by side, a column or a row per run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from scenarios.figures.views import delay_table, device_table, floats, judged_requests, statistic_share
from scenarios.report.sentences import status_word, unequal
from scenarios.report.tables import Table, estimate_cell, interval_cell
from scenarios.story.comparing import METRICS, Comparison
from scenarios.story.numbers import DASH, Cell, bound, delay, interval, known, missing, number, percent, quantity
from scenarios.story.story import Story
from scenarios.verdicts.verdict import Verdict

__all__ = ["categories", "differences", "energies", "metrics", "quantiles", "settings", "verdicts"]


def verdicts(stories: Mapping[str, Story]) -> Table:
    """Return every budget, a row each, with its verdict in each run."""
    judged = {name: {v.label: v for v in story.verdicts} for name, story in stories.items()}
    labels = dict.fromkeys(label for of_run in judged.values() for label in of_run)
    rows = tuple((Cell(text=label), *(_verdict(of_run.get(label)) for of_run in judged.values())) for label in labels)
    overall = tuple(
        Cell(text=status_word(s.overall) if s.verdicts else "No budget", style="strong") for s in stories.values()
    )
    note = (
        "Below each verdict: what was found, its interval, and the budget. Intervals of one run hold together at 95 %."
    )
    return Table(
        caption="Every budget in every run", columns=("Budget", *stories), n_text=1 + len(stories), note=note,
        rows=((Cell(text="all budgets", style="strong"), *overall), *rows),
    )  # fmt: skip


def _verdict(verdict: Verdict | None) -> Cell:
    if verdict is None:
        return Cell(text=DASH, why="no such budget")
    between = interval_cell(verdict)
    found = estimate_cell(verdict)
    told = (
        verdict.note if found.text == DASH else found.text if between.text == DASH else f"{found.text} ({between.text})"
    )
    below = f"{told}; budget {bound(verdict.budget, verdict.unit)}"
    return Cell(text=status_word(verdict.status), below=below, style="prose")


def metrics(comparison: Comparison) -> Table:
    """Return every metric, a row each, with its value and interval in each run."""
    caption = f"Metrics, mean over {_times(comparison.stories)}s, with 95 % intervals of chance"
    growing = [name for name, s in comparison.stories.items() if any(v.note.startswith("unstable") for v in s.verdicts)]
    note = f"{', '.join(growing)}: a backlog grows, so delays depend on how long one looks." if growing else ""
    return _by_metric(comparison.metrics, tuple(comparison.stories), caption, sign=False, note=note)


def differences(comparison: Comparison) -> Table:
    """Return the paired difference of each metric to the first run."""
    first, *others = comparison.stories
    seeds = {story.seed for story in comparison.stories.values()}
    one = _times(comparison.stories)
    notes = [
        *(["The runs have different seeds: chance does not cancel, and the intervals are wide."] * (len(seeds) > 1)),
        *unequal((story.replications for story in comparison.stories.values()), one),
    ]
    caption = f"Difference to {first}, {one} by {one}, with 95 % intervals of chance"
    return _by_metric(comparison.differences, tuple(others), caption, sign=True, note=" ".join(notes))


def _by_metric(table: pd.DataFrame, runs: tuple[str, ...], caption: str, *, sign: bool, note: str = "") -> Table:
    at = {(str(row["run"]), str(row["metric"])): row for row in table.to_dict("records")}
    rows = []
    for metric, (words, unit) in METRICS.items():
        if any((run, metric) in at for run in runs):
            found = [at.get((run, metric)) for run in runs]
            rows.append((Cell(text=words), *(_figure(row, unit, sign=sign) for row in found)))
    return Table(caption=caption, columns=("Metric", *runs), rows=tuple(rows), note=note)


def _figure(row: Mapping[object, float] | None, unit: str, *, sign: bool) -> Cell:
    if row is None or math.isnan(row["value"]):
        return missing("not finite every time" if sign else "not known")
    value, low, high = row["value"], row["low"], row["high"]
    if math.isinf(value):
        return Cell(text="∞", why="at times too many requests are unanswered", style="number")
    points = sign and unit == "share"  # a difference of shares is in points: 10 % to 11 % is 1 point, and 10 % more
    scale, unit = (100.0, "points") if points else (1.0, unit)
    text = f"{'+' if sign and value > 0 else ''}{quantity(scale * value, unit)}"
    if math.isnan(low) or low == high:
        return Cell(text=text, style="number")
    high = min(high, 1.0) if unit == "share" else high  # a share is at most one, whatever t says
    ends = f"{number(scale * low)} to {number(scale * high)}"
    return Cell(text=text, below=ends if sign else interval(low, high, unit), style="number")


def _times(stories: Mapping[str, Story]) -> str:
    """Return what a run was done several times as: recordings where all are, else replications."""
    return "recording" if all(story.recorded for story in stories.values()) else "replication"


def quantiles(stories: Mapping[str, Story]) -> Table:
    """Return the distribution of delay over all judged requests of each run: the table of the curves."""
    rows = []
    for name, story in stories.items():
        seconds = np.sort(floats(judged_requests(story)["delay_s"]))
        n = len(seconds)
        shares = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
        ranks = [max(0, math.ceil(q * n) - 1) for q in shares]
        cells = [
            delay(float(seconds[r]), q) if n else missing("no request") for r, q in zip(ranks, shares, strict=True)
        ]
        share = percent(float(np.mean(np.isinf(seconds)))) if n else DASH
        rows.append((Cell(text=name), Cell(text=str(n), style="number"), Cell(text=share, style="number"), *cells))
    columns = ("Run", "Requests", "Unanswered", "p5", "p25", "Median", "p75", "p95", "p99")
    note = f"All {_times(stories)}s together; a verdict takes each by itself."
    return Table(caption="Delay of all judged requests", columns=columns, rows=tuple(rows), note=note)


def categories(stories: Mapping[str, Story]) -> Table:
    """Return the judged statistic of delay by category, a column per run, with the budget below."""
    found = {name: delay_table(story).set_index("category") for name, story in stories.items()}
    names = dict.fromkeys(str(c) for table in found.values() for c in table.index)
    rows = tuple(
        (Cell(text=c), *(_category(found[run], c, story.delay_statistic) for run, story in stories.items()))
        for c in names
    )
    statistics = ", ".join(dict.fromkeys(story.delay_statistic for story in stories.values()))
    return Table(caption=f"Delay by category ({statistics})", columns=("Category", *stories), rows=rows)


def _category(table: pd.DataFrame, category: str, statistic: str) -> Cell:
    if category not in table.index:
        return missing("no request")
    judged, budget_s = (float(table[name].to_dict()[category]) for name in ("judged_s", "budget_s"))
    cell = delay(judged, statistic_share(statistic))
    below = "" if math.isnan(budget_s) else f"budget {bound(budget_s, 's')}"
    return Cell(text=cell.text, why=cell.why, below=below, style=cell.style)


def energies(stories: Mapping[str, Story]) -> Table:
    """Return joules per request of every device in each run: the table of the energy bars."""
    found = {name: device_table(story).set_index("device") for name, story in stories.items()}
    devices = dict.fromkeys(str(d) for table in found.values() for d in table.index)
    rows = [(Cell(text=d), *(_device(table, d) for table in found.values())) for d in devices]
    sums = [float(table["all_j"].sum(skipna=False)) for table in found.values()]
    total = (Cell(text="all devices", style="strong"), *(known(joules, "J", "not known in full") for joules in sums))
    return Table(caption="Joules per request by device", columns=("Device", *stories), rows=(*rows, total))


def _device(table: pd.DataFrame, device: str) -> Cell:
    if device not in table.index:
        return Cell(text=DASH, why="off", style="number")
    cell = known(float(table["all_j"].to_dict()[device]), "J", "not known")
    return Cell(text=cell.text, why=cell.why, below=str(table["energy"].to_dict()[device] or ""), style="number")


def settings(comparison: Comparison) -> Table:
    """Return the keys of the scenarios that are not alike everywhere."""
    table = comparison.settings
    rows = tuple(tuple(_cells(row)) for row in table.to_dict("records"))
    return Table(
        caption="What is set otherwise", columns=("Key", *table.columns[1:]), rows=rows, n_text=len(table.columns)
    )


def _cells(row: Mapping[object, str]) -> Iterable[Cell]:
    return (Cell(text=str(text), style="prose" if len(str(text)) > 40 else "") for text in row.values())
