"""Where the points of a sweep are measured: in processes on this machine, or on a Dask cluster."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scenarios.files.loading import Scenario
from scenarios.runs.workers import performed

if TYPE_CHECKING:
    from twin.world import Engine

__all__ = ["Task", "measured_here", "measured_on_dask"]

ANSWERS_WITHIN = "10s"  # a scheduler that is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One scenario to measure, under the digest that its result is kept by."""

    digest: str
    where: str  # the point in words, for messages
    scenario: Scenario
    engine: Engine


Outcome = tuple[str, dict[str, Any]]
"""The digest of a task and its result."""


def measured_here(tasks: Sequence[Task], n_jobs: int) -> Iterator[Outcome]:
    """Yield the results as they come, from `n_jobs` processes; ValueError names the point that cannot be run."""
    yield from (found for _, found in performed([functools.partial(_outcome, task) for task in tasks], n_jobs))


def measured_on_dask(tasks: Sequence[Task], scheduler: str) -> Iterator[Outcome]:
    """Yield the results as they come from the workers of a Dask scheduler.

    A worker that dies gives its points back to the others. The workers need this package in the same version, and
    the scenario's files under the same paths. ValueError when the scheduler does not answer.
    """
    try:
        distributed: Any = importlib.import_module("distributed")  # an optional extra
    except ModuleNotFoundError:
        raise ModuleNotFoundError("--backend dask needs the extra `dask`: pip install 'moe2-twin[dask]'") from None
    try:
        client = distributed.Client(scheduler, timeout=ANSWERS_WITHIN, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"--scheduler {scheduler}: no Dask scheduler answers there: {error}") from None
    with client:
        futures = [client.submit(_outcome, task, key=f"moe2-{task.digest}", pure=True) for task in tasks]
        for future in distributed.as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()


def _outcome(task: Task) -> Outcome:
    # Imported where it runs: a sweep whose every point is in the cache needs no simulator.
    from scenarios.sweeps.point import measure  # noqa: PLC0415

    try:
        return task.digest, measure(task.scenario, task.engine)
    except ValueError as error:
        raise ValueError(f"{task.where}: {error}") from None
