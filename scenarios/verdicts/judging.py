"""The budgets of a scenario, judged on the tables of its replications."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scenarios.files.plant import energy_gap
from scenarios.files.schema import Budgets
from scenarios.verdicts.estimate import Estimate, estimate
from scenarios.verdicts.stability import unstable_share
from scenarios.verdicts.verdict import Verdict, judge
from twin.records.metrics import (
    after_warmup,
    delay_percentile_s,
    energy_per_request_j,
    mean_delay_s,
    replications,
    served_share,
)
from twin.records.tables import Tables
from twin.servers.expert import Expert

__all__ = ["Evidence", "energies_j", "judge_budgets", "n_budgets", "per_replication"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the budgets of a scenario are judged on."""

    experts: Sequence[Expert]
    tables: Tables
    drawn: Tables | None  # the same replications with drawn coefficients; None when inputs do not count
    warmup_s: float
    unstable: Mapping[str, float]  # experts whose backlog grows, and by what share of their load
    random: bool
    level: float  # of each interval
    energy_gap: str | None = None  # why joules cannot be summed, '' when they can; None: as the profiles say

    def requests(self) -> pd.DataFrame:
        """Return the requests that are judged."""
        return after_warmup(self.tables.requests, self.warmup_s)

    def estimate(self, metric: Callable[[Tables], list[float]]) -> Estimate:
        """Return the estimate of a metric that is taken per replication."""
        drawn = () if self.drawn is None else metric(self.drawn)
        return estimate(metric(self.tables), drawn=drawn, random=self.random, level=self.level)


def n_budgets(budgets: Budgets) -> int:
    """Return the number of budgets that are judged."""
    return len(budgets.delay_by_category_s()) + (budgets.energy_j_per_request is not None)


def judge_budgets(budgets: Budgets, evidence: Evidence) -> list[Verdict]:
    """Return one verdict per budget: delay by category first, then energy."""
    verdicts = [_delay(budgets, label, evidence) for label in _labels(budgets)]
    if budgets.energy_j_per_request is not None:
        verdicts.append(_energy(budgets.energy_j_per_request, evidence))
    return verdicts


def per_replication(table: pd.DataFrame, metric: Callable[[pd.DataFrame], float | None]) -> list[float]:
    """Return a metric of each replication, in order; NaN where it is not known."""
    found = [metric(group) for _, group in replications(table)]
    return [float("nan") if value is None else value for value in found]


def energies_j(tables: Tables) -> list[float]:
    """Return the joules per request of each replication, idle devices included; NaN where one is not known."""
    devices = dict(replications(tables.devices))
    return per_replication(tables.requests, lambda r: energy_per_request_j(r, devices[r["replication"].iloc[0]]))


def _labels(budgets: Budgets) -> list[str]:
    """Return the groups of requests that a delay budget is for: each category named, then all others together."""
    return sorted(budgets.delay_by_category_s(), key=lambda label: label == "default")


def _of_group(requests: pd.DataFrame, label: str, budgets: Budgets) -> pd.DataFrame:
    if label != "default":
        return requests[requests["category"] == label]
    return requests[~requests["category"].isin(list(budgets.delay_by_category_s()))]


def _delay(budgets: Budgets, label: str, evidence: Evidence) -> Verdict:
    statistic, budget = budgets.delay_statistic, budgets.delay_by_category_s()[label]
    requests = evidence.requests()
    group = _of_group(requests, label, budgets)
    words = f"delay {statistic}, {_words(label, budgets)}"
    if group["replication"].nunique() < requests["replication"].nunique() or group.empty:
        nothing = Estimate(value=None, low=None, high=None, n=0)
        note = "a replication has no such request after warm-up: simulate longer"
        return judge(metric="delay_s", label=words, budget=budget, unit="s", found=nothing, note=note)

    def metric(tables: Tables) -> list[float]:
        judged = _of_group(after_warmup(tables.requests, evidence.warmup_s), label, budgets)
        return per_replication(judged, _statistic(statistic))

    verdict = judge(metric="delay_s", label=words, budget=budget, unit="s", found=evidence.estimate(metric))
    if statistic == "mean":
        verdict = _with_share(verdict, budgets, group)
    return _if_stable(verdict, statistic, group, evidence)


def _if_stable(verdict: Verdict, statistic: str, group: pd.DataFrame, evidence: Evidence) -> Verdict:
    """Take the figure away where a growing backlog means that it depends on how long one looks."""
    share = unstable_share(group, evidence.tables.legs, list(evidence.unstable))
    spared = 0.0 if statistic == "mean" else 1 - int(statistic[1:]) / 100
    if share <= spared:
        return verdict
    names = ", ".join(f"{name} ({100 * growth:.0f} % of its load)" for name, growth in evidence.unstable.items())
    note = f"unstable: a backlog grows as long as load comes, at {names}"
    bare = replace(verdict, estimate=None, low=None, high=None, chance=None, inputs=None)
    return replace(bare, status="violated", needs_replications=False, note=note)


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
    return replace(verdict, status="violated", needs_replications=False, note=note)


def _energy(budget: float, evidence: Evidence) -> Verdict:
    gap = energy_gap(evidence.experts) if evidence.energy_gap is None else evidence.energy_gap
    nothing = Estimate(value=None, low=None, high=None, n=0)
    found = nothing if gap else evidence.estimate(energies_j)
    return judge(metric="energy_j", label="energy per request", budget=budget, unit="J", found=found, note=gap)
