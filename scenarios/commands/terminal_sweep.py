"""What a sweep prints: one line per point, as wide as 80 columns."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scenarios.story.numbers import DASH, THIN, number, percent, quantity

__all__ = ["print_answer", "print_differences", "print_points"]

SHOWN = 40
REASONS = 12
_STYLES = {"holds": "green", "violated": "red", "undecided": "yellow", "infeasible": "red"}


def print_answer(answer: Mapping[str, Any]) -> None:
    """Print the answer to a question, then what else must be said."""
    console = Console(highlight=False, emoji=False)
    console.print(Text(str(answer["answer"]), "bold"))
    for note in answer["notes"]:
        console.print(Text(str(note)))


def print_points(points: pd.DataFrame, keys: Sequence[str]) -> None:
    """Print the points with accuracy, delay, energy and verdict; what is infeasible with its reason once."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for key in keys:
        table.add_column(
            escape(key.rpartition(".")[2]), justify="right", max_width=18 if len(keys) > 1 else 26, overflow="fold"
        )
    statistic = points["delay_statistic"].iloc[0]
    for column in ("accuracy", f"delay {statistic}", "used", "energy", "used"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in points.head(SHOWN).to_dict("records"):
        figures = (
            _cell(row["accuracy"], "share"),
            _cell(row["delay_s"], "s"),
            _use(row["delay_use"]),
            _cell(row["energy_j_per_request"], "J"),
            _use(row["energy_use"]),
        )
        table.add_row(*(_value(row[k]) for k in keys), *figures, Text(row["status"], _STYLES.get(row["status"], "")))
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print()
    if len(points) > SHOWN:
        console.print(f"{len(points) - SHOWN} more points are in points.parquet")
    console.print(
        "used: the share of the budget that is nearest to breaking; every figure has its interval in the tables"
    )
    _print_reasons(console, points.head(SHOWN), keys)


def _print_reasons(console: Console, points: pd.DataFrame, keys: Sequence[str]) -> None:
    """Print why points do not hold, each reason once with the points that share it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in points.to_dict("records"):
        if row["reason"]:
            groups.setdefault((str(row["status"]), str(row["reason"])), []).append(_place(row, keys))
    between = ", " if len(keys) == 1 else "; "
    for (status, reason), places in list(groups.items())[:REASONS]:
        console.print(Text.assemble((status, _STYLES.get(status, "")), f", {between.join(places)}: {reason}"))
    if len(groups) > REASONS:
        console.print(f"{len(groups) - REASONS} more reasons are in points.parquet")


def _place(row: Mapping[Any, Any], keys: Sequence[str]) -> str:
    """Return where a point is: the value of the one key, or each key's short name and value."""
    if len(keys) == 1:
        return str(row[keys[0]])
    return ", ".join(f"{key.rpartition('.')[2]} {row[key]}" for key in keys)


def print_differences(table: pd.DataFrame, statistic: str) -> None:
    """Print each variant's paired difference to the first one, with half of its 95 % interval."""
    metrics = {"accuracy": ("accuracy", 100, "points"), f"delay_{statistic}_s": (f"delay {statistic}", 1, "s")}
    metrics["energy_j_per_request"] = ("energy", 1, "J")
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    shown.add_column("variant", max_width=26, overflow="fold")
    for words, _, unit in metrics.values():
        shown.add_column(f"{words}, {unit}", justify="right")
    of_all = table[table["category"] == "all"].to_dict("records")
    found = {(row["point"], row["metric"]): row for row in of_all}
    for point, variant in dict(zip(table["point"], table["variant"], strict=True)).items():
        if point > 0:
            cells = [_difference(found.get((point, m)), scale) for m, (_, scale, _) in metrics.items()]
            shown.add_row(_value(variant), *cells)
    console = Console(highlight=False)
    console.print("\ndifference to the first, paired, with half of its 95 % interval\n")
    console.print(shown)


def _difference(row: Mapping[Hashable, Any] | None, scale: float) -> str:
    if row is None or math.isnan(row["difference"]):
        return DASH
    sign = "+" if row["difference"] > 0 else ""
    if row["difference"] == row["difference_low"] == row["difference_high"]:
        return f"{sign}{number(scale * row['difference'])}"
    half = (row["difference_high"] - row["difference_low"]) / 2
    spread = "" if math.isnan(half) else f" ±{number(scale * half)}"
    return f"{sign}{number(scale * row['difference'])}{spread}"


def _value(value: Any) -> str:
    return escape(str(value)).replace(" %", f"{THIN}%")  # so that no line breaks there


def _cell(value: float, unit: str) -> str:
    if math.isnan(value):
        return DASH
    return quantity(value, unit) if math.isfinite(value) else "∞"


def _use(share: float) -> str:
    if math.isnan(share) or math.isinf(share):
        return DASH if math.isnan(share) else "∞"
    return percent(share) if share < 10 else f"{share:.0f} ×"
