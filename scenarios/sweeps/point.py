"""One point of a sweep: a scenario simulated and judged, as plain values that a file or a network can carry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.console import Console

from scenarios.files.loading import Scenario
from scenarios.files.schema import Budgets
from scenarios.runs.replicating import assemble, draw
from scenarios.runs.result import Result, simulate_until_decided
from scenarios.verdicts.verdict import overall
from twin.records.metrics import MEASURED, busiest, energy_per_request_j, leg_energy_per_request_j, request_metrics
from twin.world import Engine

__all__ = ["ALL", "OTHERS", "measure", "value_of"]

ALL, OTHERS = "all", "other categories"
_NO_SUBSET = 'router.subset = "auto"'  # how routing says that the selector found nothing


def measure(scenario: Scenario, engine: Engine) -> dict[str, Any]:
    """Return what became of a scenario: status, reason, subset, every metric of every replication, verdicts.

    All values are JSON's own; infinite ones are the text "inf", unknown ones None. Where no subset of experts holds
    the budgets the status is "infeasible" and the reason says why; ValueError for any other wrong input.
    """
    try:
        assembly = assemble(scenario, engine=engine)
    except ValueError as error:
        if _NO_SUBSET not in str(error):
            raise
        reason = str(error).rpartition(f"{_NO_SUBSET}: ")[2]
        return {"status": "infeasible", "reason": reason, "random": False, "subset": [], "values": [], "verdicts": []}
    # points run beside each other, so the replications of one run in turn
    result = simulate_until_decided(assembly, draw(assembly), Console(quiet=True), n_jobs=1)
    return {
        "status": overall(result.verdicts) if result.verdicts else "not judged",
        "reason": "",
        "random": assembly.random,
        "subset": [e.name for e in assembly.experts],
        "values": [[c, m, [_plain(v) for v in values]] for (c, m), values in _values(result).items()],
        "verdicts": [{name: _plain(value) for name, value in asdict(v).items()} for v in result.verdicts],
    }


def value_of(plain: Any) -> float:
    """Return a number that was carried as JSON: "inf" is infinite, None is NaN."""
    return math.nan if plain is None else float(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


Values = dict[tuple[str, str], list[float]]
"""(category, metric) to its value in each replication."""


def _values(result: Result) -> Values:
    tables, found = result.tables, Values()
    n = tables.requests["replication"].nunique()
    judged = result.evidence.requests()[["replication", "category", *MEASURED]]  # few columns: groups cost less
    for replication, requests in judged.groupby("replication", sort=True):
        for category, group in _groups(requests, result.assembly.file.budgets):
            _put(found, category, request_metrics(group), int(str(replication)), n)
    for replication, devices in tables.devices.groupby("replication", sort=True):
        requests = tables.requests[tables.requests["replication"] == replication]
        _put(found, ALL, _of_devices(requests, devices), int(str(replication)), n)
    return found


def _put(found: Values, category: str, metrics: Mapping[str, float | None], replication: int, n: int) -> None:
    for metric, value in metrics.items():
        here = found.setdefault((category, metric), [math.nan] * n)  # NaN: no such request in a replication
        here[replication] = math.nan if value is None else float(value)


def _of_devices(requests: pd.DataFrame, devices: pd.DataFrame) -> dict[str, float | None]:
    return {
        "energy_j_per_request": energy_per_request_j(requests, devices),
        "leg_energy_j_per_request": leg_energy_per_request_j(requests),
        "busiest_utilisation": max(busiest(devices).values(), default=None),
    }


def _groups(requests: pd.DataFrame, budgets: Budgets) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield all requests, each category, and those of the categories without a budget of their own."""
    yield ALL, requests
    for category, group in requests.groupby("category", sort=True, observed=True):
        yield str(category), group
    named = [c for c in budgets.delay_by_category_s() if c != "default"]
    if named:
        yield OTHERS, requests[~requests["category"].isin(named)]
