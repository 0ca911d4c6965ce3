"""A sweep from Python: a scenario at every point of a grid, as pandas tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from scenarios.files.loading import Scenario
from scenarios.sweeps.cache import Cache
from scenarios.sweeps.sweeping import Backend, measured, prepare_sweep
from scenarios.sweeps.tables import tabulate_sweep

if TYPE_CHECKING:
    from twin.world import Engine

__all__ = ["Swept", "sweep"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Swept:
    """The tables of a sweep. Each begins with `point` and a column for every key that varies.

    Attributes:
        keys: the keys that vary.
        points: a row per point: status, subset, accuracy, delay, energy with intervals, the tightest budgets.
        metrics: a row per point, category and metric: value, low, high over the replications; seconds, joules.
        paired: likewise, without the first point: difference to it, replication by replication, with its interval.
        replications: a row per point, category, metric and replication.
        verdicts: a row per point and budget.
    """

    keys: tuple[str, ...]
    points: pd.DataFrame
    metrics: pd.DataFrame
    paired: pd.DataFrame
    replications: pd.DataFrame
    verdicts: pd.DataFrame


def sweep(
    scenario: str | Path | Scenario,
    vary: Mapping[str, Iterable[Any]],
    *,
    changes: Sequence[str] = (),
    jobs: int = 1,
    cache: str | Path | None = None,
    engine: Engine = "compiled",
) -> Swept:
    """Return what becomes of a scenario at every point of a grid, under the same chance; nothing is written.

    `vary` has the values of each key, the base point's first; a short key such as "k" stands for the one key that ends
    in it. `jobs` processes run beside each other. With `cache`, a folder, results are kept in it by content, and those
    it holds are not measured again. Raises ValueError for a wrong key, value or scenario.

    >>> from scenarios import load, sweep
    >>> short = load("testbed", ["duration_s=300.0", "warmup_s=0.0", "replications=2", "verdicts.max_replications=2"])
    >>> found = sweep(short, vary={"k": [1, 2]})
    >>> found.points["router.k"].tolist()
    [1, 2]
    >>> change = found.paired.query("category == 'all' and metric == 'energy_j_per_request'")
    >>> bool(change["difference"].item() > 0)  # a second expert per request costs energy
    True
    """
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: must be at least 1")
    asked = prepare_sweep(scenario, vary, changes, engine=engine)
    kept = None if cache is None else Cache(folder=Path(cache))
    results = measured(asked, cache=kept, backend=Backend(n_jobs=jobs), console=Console(quiet=True))
    tables = tabulate_sweep(asked, results)
    return Swept(
        keys=asked.keys,
        points=tables["points"],
        metrics=_part(tables["sweep"], "value"),
        paired=_part(tables["sweep"], "difference"),
        replications=tables["replications"],
        verdicts=tables["verdicts"],
    )


def _part(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the values of the metrics, or their paired differences to the first point, with their intervals."""
    known = table[table["metric"].notna()]
    if what == "value":
        return known.drop(columns=["difference", "difference_low", "difference_high"]).reset_index(drop=True)
    others = known[known["point"] > 0].drop(columns=["value", "low", "high"])
    names = {"difference_low": "low", "difference_high": "high"}
    return others.rename(columns=names).reset_index(drop=True)
