"""Replications performed: the runs of drawn loads, beside each other on the machine's cores, as tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from calibration.draws import drawn as drawn_profile
from scenarios.files.faults import faults_by_device
from scenarios.files.gateway import rules_of
from scenarios.files.schema import ScenarioFile
from scenarios.runs.replicating import AnyLoad, Assembly, Load
from scenarios.runs.workers import performed
from twin.gateway.rules import Rules
from twin.records.tables import Tables, joined, tabulate
from twin.servers.expert import Expert
from twin.servers.faults import Fault
from twin.world import Run, simulate, simulate_visits

__all__ = ["MAX_PROCESSES", "replicate"]

log = logging.getLogger(__name__)

MAX_PROCESSES = 2  # the machines this is built for have two cores


def replicate(
    assembly: Assembly,
    loads: Sequence[AnyLoad],
    console: Console,
    *,
    first: int = 0,
    drawn: bool = False,
    n_jobs: int = MAX_PROCESSES,
) -> Tables:
    """Return the tables of replications together, numbered from `first`, with a progress bar on `console` meanwhile.

    With `drawn` every replication has profiles of its own, their coefficients drawn from the profiles' evidence. Up to
    `n_jobs` run beside each other, in processes; ChildProcessError when these are killed again and again.
    """
    runs = _with_progress(_simulated(assembly, loads, drawn=drawn, n_jobs=n_jobs), len(loads), console, drawn=drawn)
    pool, router = (None, None) if (r := assembly.routing) is None else (r.pool, r.router)
    found = {i: tabulate(run, replication=first + i, pool=pool, router=router) for i, run in runs}
    tables = [found[i] for i in range(len(found))]
    n_requests = sum(len(table.requests) for table in tables)
    log.info("%d requests simulated%s", n_requests, ", with drawn profiles" if drawn else "")
    if assembly.replay is not None:
        played = assembly.replay.replications[first : first + len(tables)]
        tables = [replayed.tables(found) for replayed, found in zip(played, tables, strict=True)]
    return joined(tables)


def _simulated(assembly: Assembly, loads: Sequence[AnyLoad], *, drawn: bool, n_jobs: int) -> Iterator[tuple[int, Run]]:
    """Yield the runs with their numbers as they end; several run in processes beside each other, where that pays."""
    tasks = [_task(assembly, load, drawn=drawn) for load in loads]
    return performed(tasks, 1 if _is_soon_done(assembly, loads) else min(n_jobs, os.cpu_count() or 1))


_FEW = 20_000  # requests: at a tenth of a millisecond each they are done before two processes have started


def _is_soon_done(assembly: Assembly, loads: Sequence[AnyLoad]) -> bool:
    """Whether the runs are shorter than the start of processes: few requests, and nothing asks back meanwhile."""
    if assembly.engine != "compiled" or assembly.network.radio is not None or _rules(assembly) is not None:
        return False
    return sum(len(load.requests.arrived_s) if isinstance(load, Load) else _FEW for load in loads) < _FEW


def _task(assembly: Assembly, load: AnyLoad, *, drawn: bool) -> Callable[[], Run]:
    """Return the run to perform, with no more than what it needs: it may travel to another process."""
    file = assembly.file
    surroundings: dict[str, Any] = {
        "experts": _drawn_experts(assembly.experts, load.seed) if drawn else assembly.experts,
        "network": assembly.network,
        "drain_cap_s": file.drain_cap_s,
        "seed": load.seed,
        "engine": assembly.engine,
        "faults": _faults(assembly, load.seed),
        "rules": _rules(assembly),
    }
    if isinstance(load, Load):
        duration_s = _duration_s(file, load)
        return partial(simulate, requests=load.requests, legs=load.legs, duration_s=duration_s, **surroundings)
    assert assembly.routing is not None  # noqa: S101 - a drawn load is routed
    return partial(
        simulate_visits,
        visits=load.visits,
        pool=assembly.routing.pool,
        rows=assembly.routing.test_rows,
        router=assembly.routing.offering,
        prompt_prefix_tokens=getattr(file.load, "prompt_prefix_tokens", 0),
        duration_s=file.duration_s,
        **surroundings,
    )


def _faults(assembly: Assembly, seed: int) -> dict[str, list[Fault]]:
    file = assembly.file
    return faults_by_device(
        file.faults,
        file.power_switches,
        list(dict.fromkeys(e.device for e in assembly.experts)),
        seed=seed,
        stop_s=file.duration_s + file.drain_cap_s,
    )


def _rules(assembly: Assembly) -> Rules | None:
    """Return the gateway's rules; a recorded run went through its own gateway."""
    if assembly.replay is not None:
        return None
    k = None if assembly.routing is None else min(assembly.file.router.k, len(assembly.experts))
    return rules_of(assembly.file.gateway, k)


def _duration_s(file: ScenarioFile, load: Load) -> float:
    """Return the run's length; a recorded leg may be at its server a moment after the last user has sent."""
    return max(file.duration_s, float(np.nextafter(load.requests.arrived_s[-1], np.inf)))


def _drawn_experts(experts: Sequence[Expert], seed: int) -> tuple[Expert, ...]:
    return tuple(
        replace(
            e,
            profile=drawn_profile(e.profile, seed=seed),
            power_modes={mode: drawn_profile(profile, seed=seed) for mode, profile in e.power_modes.items()},
        )
        for e in experts
    )


def _with_progress(
    runs: Iterator[tuple[int, Run]], n: int, console: Console, *, drawn: bool
) -> Iterator[tuple[int, Run]]:
    if not console.is_terminal:
        yield from runs
        return
    from rich.progress import (  # noqa: PLC0415 - see docs/decisions/start.md
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    what = "simulating, with drawn profiles" if drawn else "simulating"
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(runs, total=n)
