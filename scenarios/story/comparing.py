"""Several runs side by side: their metrics, where their settings differ, and paired differences to the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scenarios.runs.result import Result
from scenarios.story.reading import told_of
from scenarios.story.story import Story
from scenarios.story.telling import tell
from scenarios.verdicts.estimate import Estimate, estimate_metric
from scenarios.verdicts.judging import energies_j
from scenarios.verdicts.pairing import paired
from twin.records.metrics import request_metrics

__all__ = ["Comparison", "compare"]

METRICS = {  # metric: (its words, its unit)
    "accuracy": ("accuracy", "share"),
    "delay_mean_s": ("mean delay", "s"),
    "delay_p50_s": ("delay p50", "s"),
    "delay_p95_s": ("delay p95", "s"),
    "delay_p99_s": ("delay p99", "s"),
    "energy_j_per_request": ("energy per request", "J"),
    "served_share": ("served", "share"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Several runs by name, the first of which the others are compared with.

    Attributes:
        stories: name of the run to its story.
        metrics: run, metric, and the columns of its estimate: value, low, high; NaN where not known.
        differences: likewise for the difference to the first run, replication by replication. Runs of one seed share
            their chance, which then cancels; those of another seed do not, and their intervals are wider.
        settings: a row per key of the scenario that is not alike everywhere, a column per run, as text.
    """

    stories: Mapping[str, Story]
    metrics: pd.DataFrame
    differences: pd.DataFrame
    settings: pd.DataFrame


def compare(results: Mapping[str, Result], folders: Mapping[str, Path]) -> Comparison:
    """Return runs side by side; ValueError for fewer than two."""
    if len(results) < 2:
        raise ValueError("one run compares with nothing: name at least two folders")
    first, *others = results
    values = {name: _values(result) for name, result in results.items()}
    metrics = [
        {"run": name, "metric": metric, **_figures(estimate_metric(metric, of_each, random=result.evidence.random))}
        for name, result in results.items()
        for metric, of_each in values[name].items()
    ]
    differences = [
        {
            "run": name,
            "metric": metric,
            **_figures(paired(found, values[first][metric], random=results[name].evidence.random)),
        }
        for name in others
        for metric, found in values[name].items()
    ]
    columns = ["run", "metric", "value", "low", "high"]
    return Comparison(
        stories={
            name: replace(tell(result, out=folders[name]), **told_of(folders[name])) for name, result in results.items()
        },
        metrics=pd.DataFrame(metrics, columns=columns),
        differences=pd.DataFrame(differences, columns=columns),
        settings=_settings(results),
    )


def _figures(found: Estimate) -> dict[str, float]:
    return {k: np.nan if v is None else v for k, v in zip(("value", "low", "high"), _ends(found), strict=True)}


def _ends(found: Estimate) -> tuple[float | None, float | None, float | None]:
    return found.value, found.low, found.high


def _values(result: Result) -> dict[str, list[float]]:
    """Return every metric of each replication."""
    groups = [request_metrics(g) for _, g in result.evidence.requests().groupby("replication", sort=True)]
    found = {metric: [row[metric] for row in groups] for metric in METRICS if groups and metric in groups[0]}
    return {**found, "energy_j_per_request": energies_j(result.tables)}


def _settings(results: Mapping[str, Result]) -> pd.DataFrame:
    told = {name: dict(_keys(result.assembly.file.model_dump(exclude_none=True))) for name, result in results.items()}
    keys = dict.fromkeys(key for settings in told.values() for key in settings)
    rows = [{"key": key, **{name: settings.get(key, "—") for name, settings in told.items()}} for key in keys]
    different = [row for row in rows if len({row[name] for name in told}) > 1 and row["key"] not in _WORDS]
    return pd.DataFrame(different, columns=["key", *told])


_WORDS = ("name", "description", "budgets.need")


def _keys(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key with its value as text; experts by their names."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _keys(inner, f"{path}.{name}" if path else str(name))
    elif _named(value):
        yield f"{path}", ", ".join(item["name"] for item in value)
        for item in value:
            yield from _keys({k: v for k, v in item.items() if k != "name"}, f"{path}[{item['name']}]")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield path, ", ".join(str(item) for item in value)
    else:
        yield path, str(value)


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "name" in v for v in value)
