"""Which experts to keep, how many to ask and how to set each device, so that the best answers hold under load.

The selector's costs are those of an empty plant. Planning closes the loop: every subset and k whose costs fit as a
queue predicts them, each with the settings that promise most, is a proposal, the best-valued first; the twin measures
what queueing really adds; a proposal that the twin refutes also rules out those that load the same experts more or
cost more; the first that holds is the plan. Proposals that would keep an expert busy all the time need no run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from scenarios.files.loading import Scenario, load
from scenarios.files.schema import ExpertSpec, Verdicts
from scenarios.plans.certifying import Certified, certify
from scenarios.plans.modes import Mode
from scenarios.plans.plant import Plant
from scenarios.plans.proposing import Proposal, proposals
from scenarios.runs.replicating import assemble, draw
from scenarios.runs.result import Result, simulate_until_decided
from scenarios.verdicts.verdict import Status, Verdict, overall, reason, verdict_table
from twin.records.tables import Tables
from twin.servers.expert import Expert

__all__ = ["Plan", "plan"]

log = logging.getLogger(__name__)

QUICK = 4  # replications of a first look
MORE = 8  # times the scenario's replications, until the verdict on a plan is given up as undecided
RUNNERS_UP = 8  # runs spent on runners-up
GAIN = 1e-3  # nats per prompt that a further expert must add to be worth a run


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The best plan found, its result, the runner-ups, and everything that was tried."""

    scenario: Scenario
    best: Proposal | None
    result: Result | None  # the best plan's whole verdict
    status: Status  # of the best plan; violated when none holds or is undecided
    runners_up: tuple[Proposal, ...]
    doubtful: Proposal | None  # a better one that is undecided
    tried: pd.DataFrame  # k, experts, settings, value, status, why
    n_runs: int
    n_proposals: int
    plant: Plant  # what could be set
    certificates: tuple[Certified, ...]  # without load: in the plan's modes and those of the runner-ups; in any

    @property
    def chosen(self) -> Scenario | None:
        """The scenario with the plan written into it, ready to run; None when nothing holds or is undecided."""
        return None if self.best is None else planned(self.scenario, self.best)

    @property
    def tables(self) -> Tables | None:
        """The requests, legs and devices of the plan's own runs."""
        return None if self.result is None else self.result.tables

    @property
    def verdicts(self) -> pd.DataFrame:
        """The plan's verdicts, a row per budget."""
        return verdict_table([] if self.result is None else self.result.verdicts)


def plan(
    scenario: str | Path | Scenario,
    *,
    changes: Sequence[str] = (),
    ks: Sequence[int] | None = None,
    max_batches: Sequence[int] | None = None,
    max_runs: int = 40,
    console: Console | None = None,
) -> Plan:
    """Return the best plan for a scenario whose router is free to choose; at most `max_runs` runs of the twin.

    `ks` are 1 to 4, or as many as there are experts, when None. `max_batches` are the largest batches that a device
    may be set to where its profile has batch terms, beside the scenario's own: half, twice and four times that when
    None. Raises ValueError for a scenario whose load names its experts, for more than twelve experts, for a k that is
    none of 1 to their number, and for a batch below 1.

    >>> from scenarios import plan
    >>> found = plan("tight-energy", changes=["duration_s=600.0", "replications=4"], ks=[1])
    >>> found.chosen.file.router.k, found.n_runs <= 40
    (1, True)
    """
    scenario = load(scenario, changes)
    ks = range(1, min(4, len(scenario.file.experts)) + 1) if ks is None else ks
    if wrong := [b for b in max_batches or () if b < 1]:
        raise ValueError(f"max_batch = {wrong[0]}: must be at least 1")
    search = _Search.of(scenario, ks, max_batches, max_runs, console or Console(quiet=True))
    search.look()
    return search.plan()


TRIED = ("k", "experts", "settings", "value", "status", "why")


def planned(scenario: Scenario, proposal: Proposal) -> Scenario:
    """Return a scenario with a proposal's experts, k and settings written into it."""
    file = scenario.file
    router = file.router.model_copy(update={"subset": proposal.names, "k": proposal.k})
    settings = {proposal.experts[i].name: proposal.experts[i] for i in proposal.subset}
    experts = [_set(e, settings[e.name], proposal.modes[e.device]) if e.name in settings else e for e in file.experts]
    return replace(scenario, file=file.model_copy(update={"router": router, "experts": experts}))


def _set(spec: ExpertSpec, expert: Expert, mode: Mode) -> ExpertSpec:
    profile = spec.profile if mode is None else spec.power_modes[mode]
    return spec.model_copy(update={"max_batch": expert.max_batch, "profile": profile})


@dataclass(slots=True, kw_only=True)
class _Search:
    """The queue of proposals, the runs spent, and what the refuted ones rule out."""

    scenario: Scenario
    plant: Plant
    ks: Sequence[int]
    queue: list[Proposal]
    max_runs: int
    console: Console
    n_runs: int = 0
    holding: list[tuple[Proposal, Result]] = field(default_factory=list)
    doubtful: list[tuple[Proposal, Result]] = field(default_factory=list)
    refuted: list[tuple[Proposal, list[Verdict]]] = field(default_factory=list)
    looked_at: list[Proposal] = field(default_factory=list)
    tried: list[tuple[int, str, str, float, str, str]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        ks: Sequence[int],
        max_batches: Sequence[int] | None,
        max_runs: int,
        console: Console,
    ) -> _Search:
        router = scenario.file.router.model_copy(update={"subset": [e.name for e in scenario.file.experts]})
        whole = assemble(replace(scenario, file=scenario.file.model_copy(update={"router": router})))
        if whole.routing is None:
            raise ValueError(f"{scenario.source}: the load names the experts of each request: there is nothing to plan")
        if wrong := [k for k in ks if not 1 <= k <= len(whole.all_experts)]:
            raise ValueError(
                f"k = {wrong[0]}: must be between 1 and the {len(whole.all_experts)} experts of the scenario"
            )
        plant = Plant.of(whole, max_batches)
        queue = proposals(plant, ks)
        return cls(scenario=scenario, plant=plant, ks=ks, queue=queue, max_runs=max_runs, console=console)

    def look(self) -> None:
        """Judge the proposals in their order, until three hold or the runs are spent; few are for runners-up."""
        most = self.max_runs
        for proposal in self.queue:
            if len(self.holding) == 3 or self.n_runs + 2 > most:
                break
            if any((p.subset, p.k) == (proposal.subset, proposal.k) for p, _ in self.holding):
                continue  # the same answers, set otherwise
            status, result = self.verdict(proposal)
            if result is not None and status != "violated":
                (self.holding if status == "holds" else self.doubtful).append((proposal, result))
            if len(self.holding) == 1 and status == "holds":
                most = min(most, self.n_runs + RUNNERS_UP)

    def plan(self) -> Plan:
        """Return the best of what holds, of what is undecided where nothing holds, and what it was chosen from."""
        found = self.holding or self.doubtful
        best, result = found[0] if found else (None, None)
        doubtful = self.doubtful[0][0] if self.doubtful else None
        better = best is not None and doubtful is not None and doubtful.value > best.value
        return Plan(
            scenario=self.scenario,
            best=best,
            result=result,
            status="holds" if self.holding else "undecided" if self.doubtful else "violated",
            runners_up=tuple(p for p, _ in found[1:3]),
            doubtful=doubtful if self.holding and better else None,
            tried=pd.DataFrame(self.tried, columns=list(TRIED)),
            n_runs=self.n_runs,
            n_proposals=len(self.queue),
            plant=self.plant,
            certificates=self.certificates([p for p, _ in found[:3]]),
        )

    def certificates(self, plans: Sequence[Proposal]) -> tuple[Certified, ...]:
        """Return what fits best without load in the modes of each plan, and where there is a choice in any modes."""
        if not plans:
            return ()
        chosen = [{d: m for d, m in p.modes.items() if m is not None} for p in plans]
        found = [certify(self.plant, at, self.ks) for i, at in enumerate(chosen) if at not in chosen[:i]]
        choice = any(len(names) > 1 for names in self.plant.modes.values())
        return (*found, *([certify(self.plant, None, self.ks)] if choice else []))

    def verdict(self, proposal: Proposal) -> tuple[Status, Result | None]:
        """Return a proposal's verdict: from one that it is worse than, a quick look, or the whole verdict."""
        for worse, verdicts in self.refuted:
            if why := _dominated(proposal, worse, verdicts):
                self._note(proposal, "ruled out", why)
                return "violated", None
        if any(_no_better(proposal, p) for p in self.looked_at):
            self._note(proposal, "ruled out", "answers no better than a part of it that was tried")
            return "violated", None
        self.looked_at.append(proposal)
        quick = self._run(proposal, replications=QUICK, nominal=True)
        if overall(quick.verdicts) == "violated":
            self.refuted.append((proposal, quick.verdicts))
            self._note(proposal, "violated", _why(quick.verdicts))
            return "violated", quick
        result = self._run(proposal, replications=self.scenario.file.replications, nominal=False)  # the whole verdict
        status = overall(result.verdicts)
        if status == "violated":
            self.refuted.append((proposal, result.verdicts))
        self._note(proposal, status, _why(result.verdicts))
        return status, result

    def _run(self, proposal: Proposal, *, replications: int, nominal: bool) -> Result:
        self.n_runs += 1
        at = planned(self.scenario, proposal)
        most = max(at.file.verdicts.max_replications or 0, MORE * at.file.replications)
        verdicts = (
            Verdicts(inputs="nominal") if nominal else at.file.verdicts.model_copy(update={"max_replications": most})
        )
        changed = at.file.model_copy(update={"replications": replications, "verdicts": verdicts})
        assembly = assemble(replace(at, file=changed))
        where = f"k = {proposal.k}, {', '.join(proposal.names)}"
        with self.console.status(f"run {self.n_runs} of at most {self.max_runs}: {where}"):
            return simulate_until_decided(assembly, draw(assembly), Console(quiet=True))

    def _note(self, proposal: Proposal, status: str, why: str) -> None:
        experts, settings = ", ".join(proposal.names), ", ".join(proposal.set_otherwise(self.plant.given))
        self.tried.append((proposal.k, experts, settings, proposal.value, status, why))
        told = "; ".join(part for part in (f"k = {proposal.k}, {experts}", settings) if part)
        log.info("%s: %s%s", told, status, f" ({why})" if why else "")


def _no_better(proposal: Proposal, part: Proposal) -> bool:
    """Whether a part of a proposal that was tried, set alike, answers as well: the further expert only costs."""
    alike = all(part.experts[i] is proposal.experts[i] for i in part.subset)
    return alike and set(part.subset) < set(proposal.subset) and part.value > proposal.value - GAIN


def _dominated(proposal: Proposal, refuted: Proposal, verdicts: Sequence[Verdict]) -> str:
    """Return why a proposal cannot hold where a refuted one did not; nothing where it might."""
    broken = {v.metric for v in verdicts if v.status == "violated"}
    if "energy_j" in broken and proposal.energy_j >= refuted.energy_j:
        return f"needs as much energy as k = {refuted.k} of a refuted subset"
    if (
        "delay_s" in broken
        and np.all(proposal.delay_s >= refuted.delay_s)
        and proposal.busy.max() >= refuted.busy.max()
    ):
        return f"slower and busier than k = {refuted.k} of a refuted subset"
    return ""


def _why(verdicts: Sequence[Verdict]) -> str:
    return reason(overall(verdicts), ((v.label, v.status, v.note) for v in verdicts))
