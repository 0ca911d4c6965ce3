"""The budgets of a scenario, judged on the tables of its replications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scenarios.plant import energy_gap
from scenarios.schema import Budgets, ScenarioFile
from scenarios.verdict import Estimate, Verdict, estimate, judge
from twin.expert import Expert
from twin.metrics import after_warmup, delay_percentile_s, energy_per_request_j, mean_delay_s, served_share
from twin.tables import Tables

__all__ = ["judge_budgets", "per_replication"]


def judge_budgets(file: ScenarioFile, experts: Sequence[Expert], tables: Tables, *, random: bool) -> list[Verdict]:
    """Return one verdict per budget: delay by category first, then energy."""
    requests = after_warmup(tables.requests, file.warmup_s)
    verdicts = [_delay(file.budgets, requests, label, mine, random) for label, mine in _groups(file.budgets, requests)]
    if file.budgets.energy_j_per_request is not None:
        verdicts.append(_energy(file.budgets.energy_j_per_request, experts, tables, random))
    return verdicts


def per_replication(table: pd.DataFrame, metric: Callable[[pd.DataFrame], float | None]) -> list[float]:
    """Return a metric of each replication, in order; NaN where it is not known."""
    found = [metric(group) for _, group in table.groupby("replication", sort=True)]
    return [float("nan") if value is None else value for value in found]


def _groups(budgets: Budgets, requests: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Return the groups of requests that a delay budget is for: each category named, then all others together."""
    named = [c for c in budgets.delay_by_category_s() if c != "default"]
    groups = [(c, requests["category"] == c) for c in named]
    if "default" in budgets.delay_by_category_s():
        groups.append(("default", ~requests["category"].isin(named)))
    return groups


def _delay(budgets: Budgets, requests: pd.DataFrame, label: str, mine: pd.Series, random: bool) -> Verdict:
    statistic = budgets.delay_statistic
    budget = budgets.delay_by_category_s()[label]
    group = requests[mine]
    complete = group["replication"].nunique() == requests["replication"].nunique()
    found = estimate(per_replication(group, _statistic(statistic)) if complete else [], random=random)
    words = f"delay {statistic}, {_words(label, budgets)}"
    verdict = judge(metric="delay_s", label=words, budget=budget, unit="s", found=found)
    if not complete:
        return replace(verdict, note="a replication has no such request after warm-up: simulate longer")
    return _with_share(verdict, budgets, group) if statistic == "mean" else verdict


def _words(label: str, budgets: Budgets) -> str:
    if label != "default":
        return label
    return "all categories" if len(budgets.delay_by_category_s()) == 1 else "other categories"


def _statistic(name: str) -> Callable[[pd.DataFrame], float]:
    if name == "mean":
        return mean_delay_s
    return lambda requests: delay_percentile_s(requests, int(name[1:]))


def _with_share(verdict: Verdict, budgets: Budgets, group: pd.DataFrame) -> Verdict:
    """A mean delay holds only where enough requests were served: refusing work never helps."""
    share = float(np.mean(per_replication(group, served_share)))
    if share >= budgets.served_share:
        return verdict
    note = f"{share:.1%} of the requests were served, {budgets.served_share:.1%} must be"
    return replace(verdict, status="violated", note=note)


def _energy(budget: float, experts: Sequence[Expert], tables: Tables, random: bool) -> Verdict:
    gap = energy_gap(experts)
    devices = dict(list(tables.devices.groupby("replication")))
    values = per_replication(tables.requests, lambda r: energy_per_request_j(r, devices[r["replication"].iloc[0]]))
    found = Estimate(value=None, low=None, high=None, n=len(values)) if gap else estimate(values, random=random)
    return judge(metric="energy_j", label="energy per request", budget=budget, unit="J", found=found, note=gap)
