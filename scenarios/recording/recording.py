"""`moe2 record`: a scenario played on real endpoints, journalled as it happens, and written as `moe2 run` writes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.meters.protocol import Meter
from calibration.runtimes.async_endpoint import AsyncEndpoint, many_connections
from calibration.session.watching import stolen_of
from scenarios.files.gateway import rules_of
from scenarios.files.loading import Scenario
from scenarios.recording.checking import checked_servers, slots_apart
from scenarios.recording.endpoints import EndpointSpec, read_endpoints
from scenarios.recording.journal import Events, Journal, Metered, alone_with, read_journal
from scenarios.recording.manifest import digest, manifest_of, reports_in, scenario_of
from scenarios.recording.metering import metered, open_meters, sampling
from scenarios.recording.playing import Counts, Play
from scenarios.recording.prompts import Prompts, Served, read_questions
from scenarios.recording.scaling import sped_up
from scenarios.recording.tabulating import Recorded, busy_spans, legs_of, of_replication
from scenarios.runs.folder import check_replaceable
from scenarios.runs.replicating import Assembly, Load, assemble, draw_loads
from twin.gateway.backlog import Backlog
from twin.gateway.rules import Rules
from twin.network import Link

__all__ = ["Plan", "Recording", "dropped", "journal_of", "perform", "prepare", "recording_of"]


OPEN = ("poisson", "gamma", "mmpp", "diurnal", "trace", "requests")
"""Loads that can be recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recording of which everything was read, checked and asked: only the playing is left."""

    assembly: Assembly
    loads: list[Load]
    specs: tuple[EndpointSpec, ...]
    served: tuple[Served, ...]
    meters: dict[str, Meter]
    texts: dict[int, str] | None
    manifest: dict[str, Any]
    out: Path
    root: Path = Path("/")  # where this machine tells what its host takes from it

    @property
    def lasts_s(self) -> float:
        """How long the arrivals last, all replications together."""
        return self.assembly.file.duration_s * len(self.loads)

    @property
    def warnings(self) -> list[str]:
        """What makes the servers others than the scenario's, and can be put right before anything is sent."""
        file, told = self.assembly.file, slots_apart(self.assembly.experts, reports_in(self.manifest))
        if file.power_switches or file.faults.named_devices() or file.faults.mtbf_s or file.faults.lan_mtbf_s:
            told.append("the scenario's faults and power switches are not played: real servers have their own")
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a journal holds, with the scenario that it is of."""

    assembly: Assembly
    replications: tuple[Recorded, ...]
    events: Events


def journal_of(out: Path) -> Path:
    """Return where the journal of a recording into `out` is while it goes on."""
    return out.with_name(f"{out.name}.journal.jsonl")


def prepare(
    scenario: Scenario,
    out: Path,
    endpoints: Path,
    *,
    speed: float = 1.0,
    questions: Path | None = None,
    replications: int | None = None,
) -> Plan:
    """Return the recording ready to perform: servers answer, meters read, prompts fit.

    Raises ValueError for anything wrong with the scenario, the files, the servers, or an unfinished recording there.
    """
    _check_place(out)
    if (process := scenario.file.load.process) not in OPEN:
        raise ValueError(
            f"{scenario.source}: [load]: process = {process!r}: only requests whose instants do not depend on what "
            f"came of others can be recorded: {', '.join(OPEN)}"
        )
    assembly = assemble(sped_up(scenario, speed))
    loads = draw_loads(assembly, n=replications)
    names = [expert.name for expert in assembly.experts]
    specs = read_endpoints(endpoints, names, [expert.name for expert in assembly.all_experts])
    texts = None if questions is None else read_questions(questions)
    reports = checked_servers(specs, assembly.experts, loads)
    plan = Plan(
        assembly=assembly,
        loads=loads,
        specs=specs,
        served=tuple(Served(model=report["model"], vocabulary=report["vocabulary"]) for report in reports),
        meters=open_meters(specs, [expert.device for expert in assembly.experts]),
        texts=texts,
        manifest=manifest_of(assembly, loads, specs, reports, speed=speed, questions=questions),
        out=out,
    )
    for drawn in loads:
        _prompts(plan, drawn).check()
    return plan


def perform(plan: Plan, watch: Callable[[int, Counts], None]) -> bool:
    """Play every replication into the journal; False when it was interrupted (Ctrl-C), which keeps what ended."""
    with many_connections(), Journal(journal_of(plan.out), plan.manifest) as journal:
        for replication in range(len(plan.loads)):
            if not asyncio.run(_until_interrupted(_played(plan, replication, journal, watch))):
                return False
    return True


def dropped(out: Path) -> bool:
    """Remove the journal beside `out` if nothing was sent in its recording; returns whether it was removed."""
    journal = journal_of(out)
    if read_journal(journal).sent:
        return False
    journal.unlink()
    return True


def recording_of(out: Path) -> Recording:
    """Return the recording whose journal is beside `out`; ValueError where there is none or its scenario changed."""
    events = read_journal(journal_of(out))
    assembly = assemble(scenario_of(events.manifest))
    loads = draw_loads(assembly, n=len(events.manifest["load_sha256"]))
    for drawn, sha256 in zip(loads, events.manifest["load_sha256"], strict=True):
        if digest(drawn) != sha256:
            raise ValueError(
                f"{journal_of(out)}: the scenario does not draw the requests that were recorded; a file that it names "
                "(answers, gate, profile, requests) was changed since, or this is another version"
            )
    began = sorted({event.replication for event in events.sent})
    if not began:
        raise ValueError(f"{journal_of(out)}: nothing was sent before the recording ended; remove it and record again")
    return Recording(
        assembly=assembly,
        replications=tuple(_recorded(assembly, loads[n], events, n) for n in began),
        events=events,
    )


def _check_place(out: Path) -> None:
    """Raise ValueError unless a recording can be begun into `out`: no other goes on there, or was left unfinished."""
    if not out.name:
        raise ValueError(f"--out {out}: the folder you are in cannot be replaced; name another")
    check_replaceable(out)
    if (journal := journal_of(out)).exists():
        with alone_with(journal):
            raise ValueError(f"{journal}: a recording there was not finished; `moe2 record --resume` writes it")


async def _played(plan: Plan, replication: int, journal: Journal, watch: Callable[[int, Counts], None]) -> None:
    drawn, file = plan.loads[replication], plan.assembly.file
    requests, stop_s = drawn.requests, file.duration_s + file.drain_cap_s
    endpoints = [AsyncEndpoint(spec.url, stall_s=spec.timeout_s, key=spec.key) for spec in plan.specs]
    link, rules = _link(plan.assembly, drawn), _rules(plan.assembly)
    play = Play(
        replication=replication,
        prompts=_prompts(plan, drawn),
        comes_s=np.asarray(link.at_gateway_s(requests.arrived_s, requests.user_id, requests.prompt_tokens)),
        endpoints=endpoints,
        journal=journal,
        backlogs=[Backlog(expert) for expert in plan.assembly.experts],
        rules=rules,
        counts=Counts(total=len(requests) * rules.k if rules.k else len(drawn.legs)),
        duration_s=file.duration_s,
        stop_s=stop_s,
        watch=lambda counts: watch(replication, counts),
        ticks=partial(stolen_of, plan.root),
    )
    try:
        with sampling(plan.meters) as seen:
            began_s = await play.perform()
    finally:
        for endpoint in endpoints:
            await endpoint.close()
    if seen:
        found = _recorded(plan.assembly, drawn, read_journal(journal.path), replication)
        legs = legs_of(found)
        for device, readings in seen.items():
            spans = busy_spans(legs, device, found.horizon_s)
            joules = metered(readings, spans, began_s=began_s, horizon_s=found.horizon_s)
            journal.add(Metered(replication=replication, device=device, **joules))


async def _until_interrupted(playing: Coroutine[Any, Any, None]) -> bool:
    """Play; an interrupt hangs up what is under way and returns False."""
    task = asyncio.ensure_future(playing)
    loop = asyncio.get_running_loop()
    handles = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if handles else ()
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return False
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    return True


def _recorded(assembly: Assembly, drawn: Load, events: Events, replication: int) -> Recorded:
    return of_replication(
        events,
        replication,
        experts=assembly.experts,
        load=drawn,
        link=_link(assembly, drawn),
        pool=None if assembly.routing is None else assembly.routing.pool,
        rules=_rules(assembly),
    )


def _prompts(plan: Plan, drawn: Load) -> Prompts:
    routing = plan.assembly.routing
    known = routing is not None and bool(np.all(drawn.requests.prompt >= 0))
    question_id = routing.pool.question_id[drawn.requests.prompt] if routing is not None and known else None
    return Prompts(load=drawn, served=plan.served, question_id=question_id, texts=plan.texts)


def _link(assembly: Assembly, drawn: Load) -> Link:
    """Return the network between users and gateway, which a testbed does not have; its LAN is the real one."""
    file = assembly.file
    return assembly.network.begin(seed=drawn.seed, stop_s=file.duration_s + file.drain_cap_s)


def _rules(assembly: Assembly) -> Rules:
    """Return the gateway's rules; without any it asks all experts of a request at once and waits for every leg."""
    k = None if assembly.routing is None else min(assembly.file.router.k, len(assembly.experts))
    return rules_of(assembly.file.gateway, k) or Rules()
