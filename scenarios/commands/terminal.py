"""What the commands print: tables that fit 80 columns, plain text when piped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scenarios.story.numbers import DASH, MINUS, bound, interval, percent, quantity
from scenarios.verdicts.verdict import Verdict, overall

if TYPE_CHECKING:
    from scenarios.runs.result import Result

__all__ = ["overloaded", "plain_table", "print_accuracy", "print_categories", "print_scenarios", "print_verdicts"]

BUSY = 0.95  # an overloaded device is busier than this


def overloaded(result: Result) -> dict[str, float]:
    """Return the utilisation of each device that was always busy and whose backlog grew, the busiest first.

    Being busy alone is no overload: a server that batches is busy as long as it has one request.
    """
    from scenarios.verdicts.stability import growing_backlogs  # noqa: PLC0415 - see docs/decisions/start.md
    from twin.records.metrics import busiest  # noqa: PLC0415 - likewise

    busy = {device: share for device, share in busiest(result.tables.devices).items() if share > BUSY}
    if not busy:
        return {}
    assembly, growing = result.assembly, result.evidence.unstable
    if not result.evidence.random:  # whose verdicts are exact, and look at no backlog
        growing = growing_backlogs(result.tables.legs, assembly.file.duration_s)
    devices = {expert.device for expert in assembly.experts if expert.name in growing}
    return {device: share for device, share in busy.items() if device in devices}


def print_verdicts(name: str, verdicts: Sequence[Verdict], *, busy: Mapping[str, float]) -> None:
    """Print one line per budget, the notes behind them, and the overloaded devices with their utilisation."""
    console = Console(highlight=False, emoji=False)
    if verdicts:
        console.print(_verdicts(f"{name}: {overall(verdicts)}", verdicts))
    else:
        console.print(f"{escape(name)}: no budget to judge", style="bold")
    for note in dict.fromkeys(v.note for v in verdicts if v.note):
        labels = ", ".join(v.label.rpartition(", ")[2] for v in verdicts if v.note == note)
        console.print(f"{escape(labels)}: {escape(note)}")
    if verdicts and all(_is_exact(v) for v in verdicts):
        console.print("no randomness in this scenario: the figures are exact")
    elif len(verdicts) > 1:
        console.print("all intervals hold together at 95 %")
    for device, share in busy.items():
        console.print(f"{escape(device)} is busy {percent(share)} of the time: its queue grows as long as load comes")


def _verdicts(title: str, verdicts: Sequence[Verdict]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("budget")
    for column in ("allowed", "found", "interval"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for v in verdicts:
        table.add_row(v.label, bound(v.budget, v.unit), _found(v), _between(v), Text(v.status, _STYLES[v.status]))
    return table


def _found(v: Verdict) -> str:
    if v.estimate is None:
        return "unstable" if v.status == "violated" else "not known"
    return quantity(v.estimate, v.unit) if math.isfinite(v.estimate) else "∞"


def _is_exact(v: Verdict) -> bool:
    return v.low is not None and v.low == v.high and math.isfinite(v.low)


def _between(v: Verdict) -> str:
    if v.low is None or v.high is None or math.isinf(v.low):
        return DASH
    if _is_exact(v):
        return "exact"
    return interval(v.low, v.high, v.unit) if math.isfinite(v.high) else f"above {quantity(v.low, v.unit)}"


_STYLES = {"holds": "green", "violated": "red", "undecided": "yellow"}


def print_scenarios(questions: Mapping[str, str]) -> None:
    """Print the names of scenarios and what each asks."""
    table = plain_table("scenario", "question")
    for name, question in questions.items():
        table.add_row(name, escape(question))
    Console(highlight=False, emoji=False).print(table)


_ACCURACY = ("right, %", "− single", "− majority", "loss", "s", "J")
_REFERENCES = {"best_single": "best single", "majority": "majority", "plain": "plain majority"}


def print_accuracy(found: pd.DataFrame, *, costs_of: str) -> None:
    """Print accuracy, loss and costs of methods on the test split and their paired differences, in points."""
    table = plain_table("method", numbers=_ACCURACY)
    for row in found.to_dict("records"):
        table.add_row(row["method"].removeprefix("only "), *_accuracy(row))
    console = Console(highlight=False, emoji=False)
    console.print(table)
    console.print(
        f"{int(found['n'].iloc[0])} test questions; ± half of a 95 % interval. Differences are paired, in points, to "
        "the best single expert (by validation) and the majority vote of all. The oracle needs the right answer, "
        f"so it cannot be built. Loss: nats per question; {_costs(found, costs_of)}"
    )
    ratios = plain_table("ratio − 1, %", numbers=tuple(_REFERENCES.values()))
    for row in found[found["kind"] == "router"].to_dict("records"):
        ratios.add_row(row["method"], *(_ratio(row, name) for name in _REFERENCES))
    console.print(ratios)
    if found.filter(regex="^ratio_.*_low$").isna().any(axis=None):
        console.print(f"{DASH}: too few questions to tell; the reference may be right in none of them.")
    console.print("The plain majority's ties go to the lowest option, the majority's to the expert best on validation.")


def _costs(found: pd.DataFrame, costs_of: str) -> str:
    if found[["delay_s", "energy_j"]].isna().all(axis=None):
        return f"s and J are not known, as {costs_of} run none of these models (--scenario names others)."
    return f"s: mean of the slowest expert asked; J: mean sum of all those asked, both of {costs_of}, unloaded."


def print_categories(found: pd.DataFrame) -> None:
    """Print the router that asks the most experts, category by category."""
    router = found.loc[found["kind"] == "router", "method"].iloc[-1]
    table = plain_table(router, numbers=("questions", *_ACCURACY))
    for row in found[(found["method"] == router) & (found["category"] != "all")].to_dict("records"):
        table.add_row(escape(row["category"]), str(row["n"]), *_accuracy(row))
    Console(highlight=False, emoji=False).print(table)


def _accuracy(row: Mapping[Any, Any]) -> list[str]:
    return [
        f"{100 * row['accuracy']:.1f} ±{50 * (row['high'] - row['low']):.1f}",
        _difference(row["diff_vs_best_single"], row["diff_low"], row["diff_high"]),
        _difference(row["diff_vs_majority"], row["majority_low"], row["majority_high"]),
        f"{row['loss']:.3f}",
        DASH if math.isnan(row["delay_s"]) else f"{row['delay_s']:.1f}",
        DASH if math.isnan(row["energy_j"]) else f"{row['energy_j']:.0f}",
    ]


def _difference(points: float, low: float, high: float) -> str:
    return f"{100 * points:+.1f} ±{50 * (high - low):.1f}".replace("-", MINUS)


def _ratio(row: Mapping[Any, Any], reference: str) -> str:
    """Return the lead over a reference as a share of the reference's accuracy, with its interval."""
    low, high = row[f"ratio_{reference}_low"], row[f"ratio_{reference}_high"]
    if math.isnan(low):  # too few questions: in some resamples the reference is never right
        return DASH
    return f"{100 * row[f'ratio_vs_{reference}']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})".replace("-", MINUS)


def plain_table(*texts: str, numbers: Sequence[str] = ()) -> Table:
    """Return a table without lines, its columns of text left and those of numbers right."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for column in texts:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    return table
