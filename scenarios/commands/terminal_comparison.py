"""What a comparison prints: one line per group and quantity, as wide as 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scenarios.comparing.differences import COUNTS, OF_LEGS, OF_REQUESTS, OF_RUNS, STATISTICS, UNITS
from scenarios.story.numbers import DASH

__all__ = ["print_differences"]

_PARTS = (
    ("overall", "all", (*OF_LEGS, *OF_REQUESTS)),
    ("by_expert", "by expert", OF_LEGS),
    ("by_load", "others there", ("leg", "e2e")),
)
_WIDTHS = {"n": 5, "measured": 9, "KS": 5}
_SILENT = {(True, True): "both ∞", (False, True): "to ∞", (True, False): "from ∞"}  # measured, simulated
_WORDS = {"counts": "requests", "leg_counts": "legs", "energy_total": "energy, whole run"}


def print_differences(table: pd.DataFrame) -> None:
    """Print the relative errors of every quantity, then throughput, energy and counts, and how intervals were drawn."""
    console = Console(highlight=False)
    console.print("simulated / measured - 1, of the requests that are on both sides")
    for scope, title, quantities in _PARTS:
        rows = table[(table["scope"] == scope) & table["quantity"].isin(quantities) & (table["n"] > 0)]
        if not rows.empty:
            console.print(_spread(rows, title))
    for line in _lines(table):
        console.print(line)
    methods = table.loc[(table["statistic"] == "mean") & (table["scope"] == "overall"), ["quantity", "note"]]
    for method, rows in methods[methods["note"] != ""].groupby("note", sort=False):
        names = ", ".join(_WORDS.get(str(quantity), str(quantity)) for quantity in rows["quantity"])
        console.print(f"{names}: {escape(str(method))}")


def _spread(rows: pd.DataFrame, title: str) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column(title, max_width=12, overflow="ellipsis", no_wrap=True)
    for column in ("", "n", "measured", *STATISTICS[:4], "KS"):
        shown.add_column(column, justify="right", no_wrap=True, min_width=_WIDTHS.get(column, 6))
    last = None
    for (group, quantity), by in rows.groupby(["group", "quantity"], sort=False):
        found = {row["statistic"]: row for row in by.to_dict("records")}
        shown.add_row(
            escape(str(group)) if group != last else "",
            _WORDS.get(str(quantity), str(quantity)),
            str(by["n"].iloc[0]),
            _figure(by["real"].iloc[0], UNITS[str(quantity)]),
            *(_error(found[name]) for name in STATISTICS[:4]),
            DASH if math.isnan(ks := found["ks"]["difference"]) else f"{ks:.3f}",
        )
        last = group
    return shown


def _lines(table: pd.DataFrame) -> Iterator[str]:
    known = table["real"].notna() | table["twin"].notna()
    for row in table[table["quantity"].isin(OF_RUNS) & known].to_dict("records"):
        unit = (
            "tokens/s"
            if row["statistic"] == "output_tokens_per_s"
            else f"{'J' if 'energy' in row['quantity'] else '1/s'}"
        )
        name = f"{_WORDS.get(row['quantity'], row['quantity'])}{', ' + row['group'] if row['group'] else ''}"
        sides = f"{_figure(row['real'], unit)} measured, {_figure(row['twin'], unit)} simulated"
        yield escape(f"{name}: {sides}, {_error(row)}{_note(row)}")
    for row in table[table["quantity"].isin(COUNTS)].to_dict("records"):
        sides = f"{row['real']:.0f} measured, {row['twin']:.0f} simulated"
        yield escape(f"{_WORDS[row['quantity']]} {row['statistic']}: {sides}{_note(row)}")


def _note(row: dict[Any, Any]) -> str:
    return f" ({row['note']})" if row["note"] else ""


def _figure(value: float, unit: str) -> str:
    return DASH if math.isnan(value) else f"{value:.4g} {unit}"


def _error(row: Mapping[Any, Any]) -> str:
    """Return a difference; where a side has no end because requests were not answered, which one."""
    if silent := _SILENT.get((math.isinf(row["real"]), math.isinf(row["twin"]))):
        return silent
    return DASH if math.isnan(row["difference"]) else f"{row['difference']:+.1%}"
