"""A scenario made ready to run, and what its users do in each replication, under independent seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from calibration.draws import is_uncertain
from scenarios.files.loading import Scenario
from scenarios.files.loads import Drawn, RecordedRun, RequestsFile, TraceLoad, Waiting, draw_requests, scaled_trace
from scenarios.files.networking import build_network
from scenarios.files.plant import build_experts
from scenarios.files.schema import ScenarioFile
from scenarios.runs.routing import Routing, build_routing
from twin.gateway.routing import routed_legs
from twin.network import Network
from twin.servers.expert import Expert
from twin.users.load import Legs, Requests, with_users
from twin.users.visits import Visits
from twin.world import Engine

if TYPE_CHECKING:
    from scenarios.runs.replaying import Replay
    from twin.users.request_file import RequestFile

__all__ = ["AnyLoad", "Assembly", "Load", "assemble", "draw", "draw_loads", "seeds"]


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
