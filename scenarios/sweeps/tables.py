"""The tables of a sweep, tidy: by metric, by point, by replication and by budget."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf, isnan
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scenarios.sweeps.point import ALL, value_of
from scenarios.sweeps.sweeping import Point, Sweep
from scenarios.verdicts.estimate import Estimate, estimate_metric
from scenarios.verdicts.pairing import paired
from scenarios.verdicts.verdict import reason

__all__ = ["tabulate_sweep", "written"]

Result = Mapping[str, Any]

_NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high")
_HEADLINES = ("accuracy", "delay_s", "energy_j_per_request")
_USE = ("use", "use_low", "use_high")
_TEXT, _INTEGER, _NUMBER = "string", "int64", "float64"
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "sweep": {
        **dict.fromkeys(("status", "reason", "category", "metric"), _TEXT), "n": _INTEGER,
        **dict.fromkeys(_NUMBERS, _NUMBER),
    },
    "points": {
        **dict.fromkeys(("status", "reason", "subset"), _TEXT),
        **dict.fromkeys(("n_experts", "replications"), _INTEGER),
        "delay_statistic": _TEXT,
        **{f"{m}{end}": _NUMBER for m in _HEADLINES for end in ("", "_low", "_high")},
        **{f"{b}_{u}": _NUMBER if u in _USE else _TEXT for b in ("delay", "energy") for u in ("budget", *_USE)},
    },
    "replications": {"category": _TEXT, "metric": _TEXT, "replication": _INTEGER, "value": _NUMBER},
    "verdicts": {
        **dict.fromkeys(("metric", "label", "unit"), _TEXT),
        **dict.fromkeys(("budget", "estimate", "low", "high"), _NUMBER),
        **dict.fromkeys(("status", "note"), _TEXT),
    },
}  # fmt: skip
"""The columns of each table, after `point` and the keys, and what they hold."""


def tabulate_sweep(sweep: Sweep, results: Sequence[Result]) -> dict[str, pd.DataFrame]:
    """Return the tables of a sweep; every one begins with `point` and a column for each key that varies.

    sweep: a row per point, category and metric, with its interval and the paired difference to the base point;
        an infeasible point has one row without a metric, and its reason.
    points: a row per point: status, accuracy, delay, energy, and the budget that is nearest to breaking.
    replications: a row per point, category, metric and replication.
    verdicts: a row per point and budget.

    Unknown figures are null. A difference is null where a replication of either point is infinite.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for point, result in zip(sweep.points, results, strict=True):
        mark = {"point": point.index, **dict(zip(sweep.keys, point.values, strict=True))}
        rows["sweep"] += _metric_rows(mark, result, results[0])
        rows["points"].append({**mark, **_headline(point, result)})
        rows["replications"] += _replication_rows(mark, result)
        rows["verdicts"] += _verdict_rows(mark, result)
    return {name: _frame(sweep, rows[name], columns) for name, columns in COLUMNS.items()}


def written(table: pd.DataFrame) -> bytes:
    """Return the table as Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None), buffer)
    return buffer.getvalue()


def _values(result: Result) -> dict[tuple[str, str], list[float]]:
    return {(c, m): [value_of(v) for v in values] for c, m, values in result["values"]}


def _metric_rows(mark: dict[str, Any], result: Result, base: Result) -> Iterator[dict[str, Any]]:
    head = {**mark, "status": result["status"], "reason": _reason(result)}
    values, of_base = _values(result), _values(base)
    if not values:
        yield {**head, "category": None, "metric": None, "n": 0, **dict.fromkeys(_NUMBERS)}
    for (category, metric), mine in values.items():
        found = estimate_metric(metric, mine, random=result["random"])
        change = paired(mine, of_base.get((category, metric), []), random=result["random"] or base["random"])
        yield {
            **head,
            "category": category,
            "metric": metric,
            "n": found.n,
            **_interval("value", found),
            **_interval("difference", change),
        }


def _interval(name: str, found: Estimate) -> dict[str, float | None]:
    ends = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    return {name: found.value, ends[0]: found.low, ends[1]: found.high}


def _replication_rows(mark: dict[str, Any], result: Result) -> Iterator[dict[str, Any]]:
    for (category, metric), mine in _values(result).items():
        for replication, value in enumerate(mine):
            yield {**mark, "category": category, "metric": metric, "replication": replication, "value": value}


def _verdict_rows(mark: dict[str, Any], result: Result) -> Iterator[dict[str, Any]]:
    numbers = ("budget", "estimate", "low", "high")
    for verdict in result["verdicts"]:
        words = {name: verdict[name] for name in ("metric", "label", "unit", "status", "note")}
        yield {**mark, **words, **{name: _number(verdict[name]) for name in numbers}}


def _reason(result: Result) -> str:
    """Return why a point is infeasible, or which budgets keep it from holding, and why."""
    judged = ((v["label"], v["status"], v["note"]) for v in result["verdicts"])
    return str(result["reason"]) or reason(str(result["status"]), judged)


def _number(plain: Any) -> float | None:
    return None if plain is None else value_of(plain)


def _headline(point: Point, result: Result) -> dict[str, Any]:
    values = _values(result)
    statistic = point.scenario.file.budgets.delay_statistic
    metrics = {
        "accuracy": (ALL, "accuracy"),
        "delay_s": (ALL, f"delay_{statistic}_s"),
        "energy_j_per_request": (ALL, "energy_j_per_request"),
    }
    row: dict[str, Any] = {
        "status": result["status"],
        "reason": _reason(result),
        "subset": "|".join(result["subset"]),
        "n_experts": len(result["subset"]),
        "replications": max((len(v) for v in values.values()), default=0),
        "delay_statistic": statistic,
    }
    for name, key in metrics.items():
        found = estimate_metric(key[1], values.get(key, []), random=result["random"])
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row | _tightest("delay", result, "delay_s") | _tightest("energy", result, "energy_j")


def _tightest(name: str, result: Result, metric: str) -> dict[str, Any]:
    """Return the budget of a kind that is nearest to breaking, or farthest beyond: its use, 1 is all of it."""
    parts = {"use": "estimate", "use_low": "low", "use_high": "high"}
    found = []
    for v in (v for v in result["verdicts"] if v["metric"] == metric):
        if v["estimate"] is not None:
            found.append((v["label"], [value_of(v[part]) / v["budget"] for part in parts.values()]))
        elif v["status"] == "violated":  # a backlog that grows: no figure, and no bound
            found.append((v["label"], [inf, inf, inf]))
    label, uses = max(found, key=lambda f: (f[1][0], -inf if isnan(f[1][1]) else f[1][1]), default=(None, [None] * 3))
    return {f"{name}_budget": label, **{f"{name}_{use}": value for use, value in zip(parts, uses, strict=True)}}


def _frame(sweep: Sweep, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows under the table's columns, which it has even when it has no row."""
    marks = pd.DataFrame({"point": pd.Series([row["point"] for row in rows], dtype="int64")})
    for key in sweep.keys:
        marks[key] = _typed([row[key] for row in rows])
    table = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in columns.items()})
    return pd.concat([marks, table], axis=1)


def _typed(texts: Sequence[str]) -> pd.Series[Any]:
    """Return values as integers or numbers where all of them are, else as the text that was given."""
    for kind in (int, float):
        with suppress(ValueError):
            return pd.Series([kind(text) for text in texts], dtype=f"{kind.__name__}64")
    return pd.Series(texts, dtype="string")
