"""A measured run beside a simulated one on one page: what became of the tolerances, figures, every difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scenarios.figures import Figure
from scenarios.report.page import render_page, write_page
from scenarios.report.tables import Table
from scenarios.story.numbers import THIN, Cell, count, missing, number, percent, quantity
from scenarios.story.unanswered import unanswered

__all__ = ["write_compare_page"]

WORDS = {
    "ttft": "Time to the first token",
    "tpot": "Time per further token",
    "leg": "Time at the server",
    "e2e": "Time to the whole answer",
    "energy": "Energy per request",
    "throughput": "Throughput",
    "energy_total": "Energy of the whole run",
    "counts": "Requests",
    "leg_counts": "Legs",
}
_BECAME = {"exceeded": "exceeded", "unknown": "not judged", "kept": "kept"}  # in the order of the page
_SPREADS = {
    "overall": "All that both runs have",
    "by_expert": "By expert",
    "by_load": "By how many other legs were at the server",
}
_RELATIVE = ("mean", "p50", "p95", "p99")
_UNITS = {"requests_per_s": "1/s", "output_tokens_per_s": "tokens/s", "per_request": "J per request", "per_device": "J"}


def write_compare_page(
    sentence: str,
    differences: pd.DataFrame,
    figures: Sequence[Figure],
    path: Path,
    *,
    status: str,
    findings: Sequence[tuple[str, str]],
    notes: Sequence[str],
    real: str,
    twin: str,
    units: Mapping[str, str],
) -> None:
    """Write the page of a comparison to `path` in one step; the sentence heads it.

    `status` is how it ended, in the words of a verdict; `findings` are each tolerance's status and sentence; `real` and
    `twin` name the two runs; `units` are those of the quantities in the table of differences.
    """
    page = render_page(
        "compare.html.j2",
        figures=figures,
        drawn=[figure.key for figure in figures],
        sentence=sentence,
        status=status,
        real=real,
        twin=twin,
        notes=notes,
        tables={"tolerances": _tolerances(findings), "differences": list(_differences(differences, units))},
    )
    write_page(page, path)


def _tolerances(findings: Sequence[tuple[str, str]]) -> Table:
    rows = tuple(
        (Cell(text=_BECAME[status], style="strong" if status == "exceeded" else ""), Cell(text=words, style="prose"))
        for status, words in sorted(findings, key=lambda one: list(_BECAME).index(one[0]))
    )
    return Table(caption="What became of each", columns=("", "Tolerance"), rows=rows, n_text=2)


def _differences(table: pd.DataFrame, units: Mapping[str, str]) -> Iterator[Table]:
    spread = table[table["quantity"].isin(units) & table["statistic"].isin([*_RELATIVE, "ks", "wasserstein"])]
    for scope, caption in _SPREADS.items():
        rows = spread[spread["scope"] == scope]
        if not rows.empty:
            yield _spread(rows, scope, caption, units)
    runs = table[table["statistic"].isin(_UNITS) & table["quantity"].isin({"throughput", "energy_total"})]
    yield Table(
        caption="Of the whole runs",
        columns=("", "Measured", "Simulated", "Difference"),
        rows=tuple(_of_runs(row) for row in _records(runs)),
    )
    counts = table[table["quantity"].isin({"counts", "leg_counts"})]
    yield Table(
        caption="What became of requests and legs",
        columns=("", "Measured", "Simulated"),
        rows=tuple(
            (
                Cell(text=f"{WORDS[row['quantity']]} {row['statistic']}", below=row["note"]),
                Cell(text=f"{row['real']:.0f}", style="number"),
                Cell(text=f"{row['twin']:.0f}", style="number"),
            )
            for row in _records(counts)
        ),
    )


def _spread(rows: pd.DataFrame, scope: str, caption: str, units: Mapping[str, str]) -> Table:
    shown = []
    for (group, name), of_one in rows.groupby(["group", "quantity"], sort=False):
        at = {row["statistic"]: row for row in _records(of_one)}
        mean, known = at["mean"], not math.isnan(at["mean"]["real"])
        if group and not known:  # said once, of all
            continue
        shown.append(
            (
                Cell(text=WORDS[str(name)], below=f"{_group(scope, str(group))}{_pairs(mean['n'])}", style="prose"),
                Cell(text=quantity(mean["real"], units[str(name)]), style="number") if known else missing(mean["note"]),
                *(_error(at[statistic]) for statistic in _RELATIVE),
                _distance(at["ks"], number),
                _distance(at["wasserstein"], percent),
            )
        )
    columns = ("", "Measured mean", *_RELATIVE, "Kolmogorov–Smirnov", "Wasserstein")
    note = "Below an error: its 90 % interval. The Wasserstein distance is a share of the measured mean."
    return Table(caption=caption, columns=columns, rows=tuple(shown), note=note)


def _group(scope: str, group: str) -> str:
    return {"overall": "", "by_expert": f"{group}, "}.get(scope, f"{group} other{'s' * (group != '1')} there, ")


def _pairs(n: int) -> str:
    return f"{count(n)} pair{'s' * (n != 1)}"


def _error(row: Mapping[str, Any]) -> Cell:
    if math.isnan(row["difference"]):
        return missing("not known")
    if silent := unanswered(row["real"], row["twin"]):
        return Cell(text="∞", below=silent, style="number")
    low, high = row["low"], row["high"]
    ends = "" if math.isnan(low) or low == high else f"{_signed(low).removesuffix(f'{THIN}%')} to {_signed(high)}"
    return Cell(text=_signed(row["difference"]), below=ends, style="number")


def _signed(value: float) -> str:
    return percent(value, sign=True) if math.isfinite(value) else "unanswered"


def _distance(row: Mapping[str, Any], words: Any) -> Cell:
    return (
        missing("not known") if math.isnan(row["difference"]) else Cell(text=words(row["difference"]), style="number")
    )


def _of_runs(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    unit = _UNITS[row["statistic"]]
    sides = (
        missing("not known") if math.isnan(value) else Cell(text=quantity(value, unit), style="number")
        for value in (row["real"], row["twin"])
    )
    return (Cell(text=WORDS[row["quantity"]], below=row["group"] or ""), *sides, _error(row))


def _records(rows: pd.DataFrame) -> Iterable[Mapping[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]
