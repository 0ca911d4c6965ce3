"""The result of a scenario: replications, added until every budget is decided, and their verdicts."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Console

from scenarios.files.loading import Scenario
from scenarios.files.schema import Budgets
from scenarios.runs.performing import MAX_PROCESSES, replicate
from scenarios.runs.replicating import AnyLoad, Assembly, assemble, draw
from scenarios.verdicts.estimate import look_level
from scenarios.verdicts.judging import Evidence, judge_budgets, n_budgets
from scenarios.verdicts.stability import growing_backlogs
from scenarios.verdicts.verdict import Verdict, overall, verdict_table
from scenarios.verdicts.warmup import warmup_s
from twin.records.tables import Tables, joined

__all__ = ["Result", "look_sizes", "run", "simulate_until_decided", "until_decided"]


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One performed run: what was set up, its tables, what they were judged on, its verdicts."""

    assembly: Assembly
    evidence: Evidence
    verdicts: list[Verdict]
    wall_s: float

    @property
    def tables(self) -> Tables:
        """The tables of all replications, with the profiles' own coefficients."""
        return self.evidence.tables

    @property
    def judged(self) -> pd.DataFrame:
        """The verdicts as a table, a row per budget."""
        return verdict_table(self.verdicts)


def run(scenario: Scenario) -> Result:
    """Return the result of a scenario, nothing written; ValueError for anything wrong with its files."""
    assembly = assemble(scenario)
    return simulate_until_decided(assembly, draw(assembly), Console(quiet=True))


def simulate_until_decided(
    assembly: Assembly, loads: list[AnyLoad], console: Console, *, n_jobs: int = MAX_PROCESSES
) -> Result:
    """Replicate until every budget is decided, or as often as the scenario allows; `loads` are the first ones.

    Up to `n_jobs` replications run beside each other.
    """
    started_s = time.perf_counter()
    tables: list[Tables] = []
    drawn: list[Tables] = []

    def extend(first: int, size: int, level: float) -> Evidence:
        more = draw(assembly, first=first, n=size - first) if first else loads
        tables.append(replicate(assembly, more, console, first=first, n_jobs=n_jobs))
        if assembly.draws_inputs:
            drawn.append(replicate(assembly, more, console, first=first, drawn=True, n_jobs=n_jobs))
        return _evidence(assembly, joined(tables), joined(drawn) if drawn else None, level)

    evidence, verdicts = until_decided(assembly.file.budgets, look_sizes(assembly), extend)
    return Result(assembly=assembly, evidence=evidence, verdicts=verdicts, wall_s=time.perf_counter() - started_s)


def until_decided(
    budgets: Budgets, sizes: Sequence[int], extend: Callable[[int, int, float], Evidence]
) -> tuple[Evidence, list[Verdict]]:
    """Judge at each look until every budget is decided, or only better profiles could decide it.

    The looks are fixed beforehand, and their number is paid for.

    `extend(first, size, level)` adds replications from `first` up to `size` in all and returns the evidence.
    """
    level = look_level(n_budgets(budgets), len(sizes))
    for first, size in itertools.pairwise((0, *sizes)):
        evidence = extend(first, size, level)
        verdicts = judge_budgets(budgets, evidence)
        log.info("%d replications: %s", size, overall(verdicts) if verdicts else "no budget to judge")
        if not any(v.needs_replications for v in verdicts):
            break
    return evidence, verdicts


def look_sizes(assembly: Assembly) -> list[int]:
    """Return the numbers of replications at which the budgets are judged: doubled up to the scenario's cap."""
    size = assembly.n_replications
    cap = assembly.file.verdicts.max_replications or size
    sizes = [size]
    while assembly.random and assembly.replay is None and sizes[-1] < cap:  # no more runs than are recorded
        sizes.append(min(2 * sizes[-1], cap))
    return sizes


def _evidence(assembly: Assembly, tables: Tables, drawn: Tables | None, level: float) -> Evidence:
    file = assembly.file
    found = warmup_s(tables.requests) if file.warmup_s == "auto" else file.warmup_s
    return Evidence(
        experts=assembly.experts,
        tables=tables,
        drawn=drawn,
        warmup_s=file.duration_s / 2 if found is None else found,  # no steady part in sight: judge what comes last
        unstable=growing_backlogs(tables.legs, file.duration_s) if assembly.random else {},
        random=assembly.random,
        level=level,
    )
