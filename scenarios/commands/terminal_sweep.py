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

from scenarios.story.numbers import DASH, number, percent, quantity

__all__ = ["print_differences", "print_points"]

SHOWN = 40
_STYLES = {"holds": "green", "violated": "red", "undecided": "yellow", "infeasible": "red"}


def print_points(points: pd.DataFrame, keys: Sequence[str]) -> None:
    """Print the points with accuracy, delay, energy and verdict; what is infeasible with its reason once."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
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
        table.add_row(
            *(escape(str(row[k])) for k in keys), *figures, Text(row["status"], _STYLES.get(row["status"], ""))
        )
    console = Console(highlight=False)
    console.print(table)
    if len(points) > SHOWN:
        console.print(f"{len(points) - SHOWN} more points are in points.parquet")
    console.print(
        "used: the share of the budget that is nearest to breaking; every figure has its interval in the tables"
    )
    for reason in dict.fromkeys(points.loc[points["status"] == "infeasible", "reason"]):
        console.print(f"infeasible: {escape(reason)}")


def print_differences(table: pd.DataFrame, statistic: str) -> None:
    """Print each variant's paired difference to the first one, with half of its 95 % interval."""
    metrics = {"accuracy": ("accuracy", 100, "points"), f"delay_{statistic}_s": (f"delay {statistic}", 1, "s")}
    metrics["energy_j_per_request"] = ("energy", 1, "J per request")
    shown = Table(
        title="difference to the first, paired", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    shown.add_column("variant", max_width=26, overflow="fold")
    for words, _, unit in metrics.values():
        shown.add_column(f"{words}, {unit}", justify="right")
    of_all = table[table["category"] == "all"].to_dict("records")
    found = {(row["point"], row["metric"]): row for row in of_all}
    for point, variant in dict(zip(table["point"], table["variant"], strict=True)).items():
        if point > 0:
            cells = [_difference(found.get((point, m)), scale) for m, (_, scale, _) in metrics.items()]
            shown.add_row(escape(str(variant)), *cells)
    Console(highlight=False).print(shown)


def _difference(row: Mapping[Hashable, Any] | None, scale: float) -> str:
    if row is None or math.isnan(row["difference"]):
        return DASH
    sign = "+" if row["difference"] > 0 else ""
    half = (row["difference_high"] - row["difference_low"]) / 2
    spread = "" if math.isnan(half) else f" ±{number(scale * half)}"
    return f"{sign}{number(scale * row['difference'])}{spread}"


def _cell(value: float, unit: str) -> str:
    if math.isnan(value):
        return DASH
    return quantity(value, unit) if math.isfinite(value) else "∞"


def _use(share: float) -> str:
    if math.isnan(share) or math.isinf(share):
        return DASH if math.isnan(share) else "∞"
    return percent(share) if share < 10 else f"{share:.0f} ×"
