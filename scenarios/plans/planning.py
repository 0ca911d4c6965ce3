"""Which experts to keep and how many to ask, so that answers are best and the budgets hold under load.

The selector's costs are those of an empty plant. Planning closes the loop: every subset and k whose unloaded costs fit
is a proposal, the best-valued first; the twin measures what queueing adds; a proposal that the twin refutes also rules
out those that load the same experts more or cost more; the first that holds is the plan. Proposals that would keep an
expert busy more than all the time need no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from moe2.selection import Problem
from moe2.selection.objective import Scorer
from scenarios.files.loading import Scenario
from scenarios.files.schema import Verdicts
from scenarios.runs.replicating import assemble, draw_loads
from scenarios.runs.result import Result, simulate_until_decided
from scenarios.verdicts.verdict import Status, Verdict, overall
from twin.expert import Expert

__all__ = ["Plan", "Proposal", "plan", "proposals"]

MAX_EXPERTS = 12
QUICK = 4  # replications of a first look
MORE = 8  # times the scenario's replications, until the verdict on a plan is given up as undecided
RUNNERS_UP = 8  # runs spent on runners-up
GAIN = 1e-3  # nats per prompt that a further expert must add to be worth a run


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A subset and a k, with what they would cost an empty plant and how much they would load each expert."""

    subset: tuple[int, ...]
    k: int
    value: float  # mean log-likelihood of the fused answer on validation prompts
    energy_j: float  # per request, without load; NaN when unknown
    delay_s: NDArray[np.float64]  # (C,) mean by category, each leg stretched by 1 / (1 - busy share of its expert)
    busy: NDArray[np.float64]  # (N,) share of the time that each expert works, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The best plan found, its result, the runner-ups, and everything that was tried."""

    best: Proposal | None
    result: Result | None  # the best plan's whole verdict
    status: Status  # of the best plan; violated when none holds or is undecided
    runners_up: tuple[Proposal, ...]
    doubtful: Proposal | None  # a better one that is undecided
    tried: pd.DataFrame  # k, experts, value, status, why
    n_runs: int
    n_proposals: int
    experts: tuple[str, ...]  # names, in the order of a proposal's indices

    def names(self, proposal: Proposal) -> list[str]:
        """Return the names of a proposal's experts."""
        return [self.experts[i] for i in proposal.subset]


def plan(
    scenario: Scenario, *, ks: Sequence[int] | None = None, max_runs: int = 40, console: Console | None = None
) -> Plan:
    """Return the best plan for a scenario whose router is free to choose; at most `max_runs` runs of the twin.

    `ks` are 1 to 4, or as many as there are experts, when None. Raises ValueError for a scenario whose load names its
    experts, for more than twelve experts, and for a k that is none of 1 to their number.
    """
    ks = range(1, min(4, len(scenario.file.experts)) + 1) if ks is None else ks
    search = _Search.of(scenario, ks, max_runs, console or Console(quiet=True))
    holding: list[tuple[Proposal, Result]] = []
    doubtful: list[tuple[Proposal, Result]] = []
    for proposal in search.queue:
        if len(holding) == 3 or search.n_runs + 2 > max_runs:
            break
        status, result = search.verdict(proposal)
        if result is not None and status != "violated":
            (holding if status == "holds" else doubtful).append((proposal, result))
        if len(holding) == 1 and status == "holds":
            max_runs = min(max_runs, search.n_runs + RUNNERS_UP)
    found = holding or doubtful
    best, result = found[0] if found else (None, None)
    return Plan(
        best=best,
        result=result,
        status="holds" if holding else "undecided" if doubtful else "violated",
        runners_up=tuple(p for p, _ in found[1:3]),
        doubtful=doubtful[0][0] if holding and doubtful and doubtful[0][0].value > found[0][0].value else None,
        tried=pd.DataFrame(search.tried, columns=["k", "experts", "value", "status", "why"]),
        n_runs=search.n_runs,
        n_proposals=len(search.queue),
        experts=search.names,
    )


@dataclass(slots=True, kw_only=True)
class _Search:
    """The queue of proposals, the runs spent, and what the refuted ones rule out."""

    scenario: Scenario
    names: tuple[str, ...]
    queue: list[Proposal]
    max_runs: int
    console: Console
    n_runs: int
    refuted: list[tuple[Proposal, list[Verdict]]]
    looked_at: list[Proposal]
    tried: list[tuple[int, str, float, str, str]]

    @classmethod
    def of(cls, scenario: Scenario, ks: Sequence[int], max_runs: int, console: Console) -> _Search:
        file = scenario.file.model_copy(
            update={
                "router": scenario.file.router.model_copy(update={"subset": [e.name for e in scenario.file.experts]})
            }
        )
        whole = assemble(replace(scenario, file=file))
        if whole.routing is None:
            raise ValueError(f"{scenario.source}: the load names the experts of each request: there is nothing to plan")
        if wrong := [k for k in ks if not 1 <= k <= len(whole.all_experts)]:
            raise ValueError(
                f"k = {wrong[0]}: must be between 1 and the {len(whole.all_experts)} experts of the scenario"
            )
        queue = proposals(whole.routing.problem, whole.all_experts, whole.requests_per_s, ks)
        return cls(
            scenario=scenario,
            names=tuple(e.name for e in whole.all_experts),
            queue=queue,
            max_runs=max_runs,
            console=console,
            n_runs=0,
            refuted=[],
            looked_at=[],
            tried=[],
        )

    def verdict(self, proposal: Proposal) -> tuple[Status, Result | None]:
        """Return a proposal's verdict: from one that it is worse than, a quick look, or the whole verdict."""
        for worse, verdicts in self.refuted:
            if why := _dominated(proposal, worse, verdicts):
                self._note(proposal, "ruled out", why)
                return "violated", None
        if any(set(p.subset) < set(proposal.subset) and p.value > proposal.value - GAIN for p in self.looked_at):
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
        file = self.scenario.file
        names = [self.names[i] for i in proposal.subset]
        most = max(file.verdicts.max_replications or 0, MORE * file.replications)
        verdicts = (
            Verdicts(inputs="nominal") if nominal else file.verdicts.model_copy(update={"max_replications": most})
        )
        router = file.router.model_copy(update={"subset": names, "k": proposal.k})
        changed = file.model_copy(update={"router": router, "replications": replications, "verdicts": verdicts})
        assembly = assemble(replace(self.scenario, file=changed))
        with self.console.status(f"run {self.n_runs} of at most {self.max_runs}: k = {proposal.k}, {', '.join(names)}"):
            return simulate_until_decided(assembly, draw_loads(assembly), Console(quiet=True))

    def _note(self, proposal: Proposal, status: str, why: str) -> None:
        experts = ", ".join(self.names[i] for i in proposal.subset)
        self.tried.append((proposal.k, experts, proposal.value, status, why))


def proposals(problem: Problem, experts: Sequence[Expert], requests_per_s: float, ks: Sequence[int]) -> list[Proposal]:
    """Return every subset and k whose expected unloaded costs fit and that keeps no expert busy all the time.

    The best value comes first; ties: smaller k, then fewer experts. Two k that ask the same experts count once.
    """
    n = len(problem.experts)
    if n > MAX_EXPERTS:
        raise ValueError(f"planning tries every subset: {n} experts found, at most {MAX_EXPERTS} are allowed")
    busy_s = _busy_s(problem, experts)
    found = []
    for k in sorted(set(ks)):
        scorer = Scorer.of(replace(problem, k=k, costs="expected"), "fused")
        for size in range(k, n + 1):
            found += [_proposal(scorer, s, k, busy_s, requests_per_s) for s in combinations(range(n), size)]
    fitting = [p for p in found if _fits(problem, p) and p.busy[list(p.subset)].min() > 0]  # every expert is asked
    return sorted(fitting, key=lambda p: (-p.value, p.k, len(p.subset)))


def _proposal(
    scorer: Scorer, subset: tuple[int, ...], k: int, busy_s: NDArray[np.float64], requests_per_s: float
) -> Proposal:
    problem = scorer.problem
    candidate = scorer.candidate(subset)
    kept = np.isin(scorer.order, subset)
    chosen_in_order = kept & (np.cumsum(kept, axis=1) <= k)
    chosen = np.zeros_like(kept)
    np.put_along_axis(chosen, scorer.order, chosen_in_order, axis=1)  # (n, N)
    busy = requests_per_s * (chosen * busy_s).mean(axis=0)
    stretch = 1 / np.maximum(1 - busy, 1e-3)
    slowest_s = np.where(chosen, problem.delay_s * stretch, 0.0).max(axis=1)
    n_categories = len(problem.categories)
    count = np.bincount(problem.category, minlength=n_categories)
    delay_s = np.bincount(problem.category, slowest_s, n_categories) / np.maximum(count, 1)
    return Proposal(subset=subset, k=k, value=candidate.value, energy_j=candidate.energy_j, delay_s=delay_s, busy=busy)


def _busy_s(problem: Problem, experts: Sequence[Expert]) -> NDArray[np.float64]:
    """Return the least time that each prompt keeps each expert busy, (n, N): its leg alone, shared by a whole batch."""
    return np.asarray(problem.delay_s / np.array([e.max_batch for e in experts], dtype=float))


def _fits(problem: Problem, proposal: Proposal) -> bool:
    if proposal.busy.max() >= 1:
        return False
    if problem.energy_budget_j is not None and not proposal.energy_j <= problem.energy_budget_j:
        return False
    return bool(np.all(proposal.delay_s <= problem.delay_budget_s))


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
    worst = [v for v in verdicts if v.status != "holds"]
    return "; ".join(f"{v.label}: {v.note or v.status}" for v in worst[:2])
