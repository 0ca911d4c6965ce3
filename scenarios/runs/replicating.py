"""Replications: the same scenario under independent seeds, side by side on the machine's cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from calibration.draws import drawn as drawn_profile
from calibration.draws import is_uncertain
from scenarios.files.faults import faults_by_device
from scenarios.files.gateway import rules_of
from scenarios.files.loading import Scenario
from scenarios.files.loads import Drawn, RecordedRun, RequestsFile, TraceLoad, Waiting, draw_requests, scaled_trace
from scenarios.files.networking import build_network
from scenarios.files.plant import build_experts
from scenarios.files.schema import ScenarioFile
from scenarios.runs.routing import Routing, build_routing
from scenarios.runs.workers import performed
from twin.gateway.routing import routed_legs
from twin.gateway.rules import Rules
from twin.network import Network
from twin.records.tables import Tables, joined, tabulate
from twin.servers.expert import Expert
from twin.servers.faults import Fault
from twin.users.load import Legs, Requests, with_users
from twin.users.visits import Visits
from twin.world import Engine, Run, simulate, simulate_visits

if TYPE_CHECKING:
    from scenarios.runs.replaying import Replay
    from twin.users.request_file import RequestFile

__all__ = ["AnyLoad", "Assembly", "Load", "assemble", "draw", "draw_loads", "replicate", "seeds"]

log = logging.getLogger(__name__)

MAX_PROCESSES = 2  # the machines this is built for have two cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A scenario made ready to run: its experts, its routing, and whether anything in it is left to chance."""

    scenario: Scenario
    experts: tuple[Expert, ...]  # those that run; the ones that the selector left out are switched off
    all_experts: tuple[Expert, ...]
    routing: Routing | None  # None when the load names the experts of each request
    request_file: RequestFile | None
    requests_per_s: float
    random: bool
    engine: Engine = "compiled"
    network: Network = field(default_factory=Network)
    replay: Replay | None = None  # the recorded run that is played again

    @property
    def file(self) -> ScenarioFile:
        """The checked scenario file."""
        return self.scenario.file

    @property
    def draws_inputs(self) -> bool:
        """Whether the errors of the profiles count in the verdict."""
        wanted = self.file.verdicts.inputs or ("drawn" if self.random else "nominal")
        return wanted == "drawn" and self.random and any(is_uncertain(e.profile) for e in self.experts)

    @property
    def n_replications(self) -> int:
        """Runs to perform: as many as are recorded; else, without randomness, one says it all."""
        if self.replay is not None:
            return len(self.replay.replications)
        return self.file.replications if self.random else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The requests of one replication, the legs that they become, and the seed of all its chance."""

    requests: Requests
    legs: Legs
    seed: int


def assemble(scenario: Scenario, *, engine: Engine = "compiled") -> Assembly:
    """Return the scenario made ready to run on an engine; ValueError names what in its files is wrong."""
    file = scenario.file
    experts = build_experts(scenario)
    if isinstance(file.load, RecordedRun):
        return _assemble_replay(scenario, experts, file.load, engine)
    rows = _request_file(scenario, experts)
    rate = len(rows.requests) / file.duration_s if rows is not None else _planned_per_s(scenario)
    named = rows is not None and rows.names_experts
    routing = None if named else build_routing(scenario, experts, requests_per_s=rate)
    kept = tuple(experts[i] for i in routing.kept) if routing else experts
    return Assembly(
        scenario=scenario,
        experts=kept,
        all_experts=experts,
        routing=routing,
        request_file=rows,
        requests_per_s=rate,
        random=routing is not None or any(e.noise for e in kept) or file.faults.mtbf_s is not None,
        engine=engine,
        network=Network() if routing is None else build_network(scenario),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLoad:
    """The visits of one replication: what they ask when depends on the answers. And the seed of all its chance."""

    visits: Visits
    seed: int


AnyLoad = Load | WaitingLoad


def draw(assembly: Assembly, *, first: int = 0, n: int | None = None) -> list[AnyLoad]:
    """Return what users do in n replications from the `first`; ValueError naming the scenario where one is empty."""
    load = assembly.file.load
    if not isinstance(load, Waiting):
        return list(draw_loads(assembly, first=first, n=n))
    last = first + (assembly.n_replications if n is None else n)
    drawn: list[AnyLoad] = []
    for seed in seeds(assembly.file.seed, last)[first:]:
        try:
            visits = load.visits(n_users=assembly.file.users.count, duration_s=assembly.file.duration_s, seed=seed)
        except ValueError as error:
            raise ValueError(f"{assembly.scenario.source}: [load]: {error}") from None
        drawn.append(WaitingLoad(visits=visits, seed=seed))
    return drawn


def draw_loads(assembly: Assembly, *, first: int = 0, n: int | None = None) -> list[Load]:
    """Return the loads of n replications from the `first`; ValueError naming the scenario where one is empty."""
    if isinstance(assembly.file.load, Waiting):
        raise ValueError(
            f"{assembly.scenario.source}: load.process = {assembly.file.load.process!r}: users wait for answers, so "
            "their requests are not known beforehand, which this needs; use another process, as 'poisson'"
        )
    last = first + (assembly.n_replications if n is None else n)
    return [_load(assembly, i, seed) for i, seed in enumerate(seeds(assembly.file.seed, last)) if i >= first]


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


def seeds(seed: int, n: int) -> list[int]:
    """Return the independent seeds of n replications; a longer list begins like a shorter one."""
    return [int(child.generate_state(1, np.uint64)[0]) for child in np.random.SeedSequence(seed).spawn(n)]


def _assemble_replay(scenario: Scenario, experts: tuple[Expert, ...], load: RecordedRun, engine: Engine) -> Assembly:
    from scenarios.runs.replaying import read_replay  # noqa: PLC0415 - see docs/decisions/start.md

    duration_s = scenario.file.duration_s
    names, devices = [e.name for e in experts], [e.device for e in experts]
    replay = read_replay(scenario.path(load.path), experts=names, devices=devices, duration_s=duration_s)
    kept = tuple(experts[i] for i in replay.kept)
    n = sum(len(replayed.recorded.requests) for replayed in replay.replications)
    return Assembly(
        scenario=scenario,
        experts=kept,
        all_experts=experts,
        routing=None,
        request_file=None,
        replay=replay,
        requests_per_s=n / len(replay.replications) / duration_s,
        random=any(e.noise for e in kept) or scenario.file.faults.mtbf_s is not None,
        engine=engine,
    )


def _load(assembly: Assembly, i: int, seed: int) -> Load:
    """Return the requests and legs of replication `i`; the gate decides on all of them at once."""
    if assembly.replay is not None:
        replayed = assembly.replay.replications[i]
        return Load(requests=replayed.requests, legs=replayed.legs, seed=seed)
    routing, rows = assembly.routing, assembly.request_file
    if routing is None:
        assert rows is not None, "a load without a router names its experts"  # noqa: S101
        requests, legs = rows.requests, rows.legs()
        return Load(requests=requests, legs=legs, seed=seed)
    if rows is not None:
        requests = rows.drawn(routing.pool, routing.test_rows, seed=seed)
        if assembly.network.radio is not None:
            requests = with_users(requests, n_users=assembly.file.users.count, seed=seed)
    else:
        requests = _drawn(assembly, routing, seed)
    return Load(requests=requests, legs=routed_legs(requests, routing.offering, routing.pool), seed=seed)


def _drawn(assembly: Assembly, routing: Routing, seed: int) -> Requests:
    file, scenario = assembly.file, assembly.scenario
    load = file.load
    assert not isinstance(load, RequestsFile | RecordedRun), "its rows were read before"  # noqa: S101
    try:
        return draw_requests(
            load,
            path=scenario.path(load.path) if isinstance(load, TraceLoad) else None,
            duration_s=file.duration_s,
            n_users=file.users.count,
            pool=routing.pool,
            rows=routing.test_rows,
            seed=seed,
        )
    except ValueError as error:
        raise ValueError(f"{scenario.source}: [load]: {error}") from None


def _simulated(assembly: Assembly, loads: Sequence[AnyLoad], *, drawn: bool, n_jobs: int) -> Iterator[tuple[int, Run]]:
    """Yield the runs with their numbers as they end; several run in processes beside each other."""
    tasks = [_task(assembly, load, drawn=drawn) for load in loads]
    return performed(tasks, min(n_jobs, os.cpu_count() or 1))


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


def _request_file(scenario: Scenario, experts: Sequence[Expert]) -> RequestFile | None:
    load = scenario.file.load
    if not isinstance(load, RequestsFile):
        return None
    from twin.users.request_file import read_request_file  # noqa: PLC0415 - see docs/decisions/start.md

    names = [e.name for e in experts]
    return read_request_file(scenario.path(load.path), experts=names, duration_s=scenario.file.duration_s)


def _planned_per_s(scenario: Scenario) -> float:
    """Return the mean requests per second of a load that is not read from a request file."""
    file = scenario.file
    load = file.load
    if isinstance(load, TraceLoad):
        try:
            return len(scaled_trace(scenario.path(load.path), load, file.duration_s).arrived_s) / file.duration_s
        except ValueError as error:
            raise ValueError(f"{scenario.source}: [load]: {error}") from None
    return load.planned_per_s(file.users.count) if isinstance(load, Drawn) else float("nan")
