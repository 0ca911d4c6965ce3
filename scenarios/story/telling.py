"""The story of a run: what the report tells, put together from the set-up, the tables and the verdicts."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.draws import is_uncertain
from moe2.evaluation import evaluate
from moe2.selection import Candidate, Problem, Selection
from moe2.selection.objective import Scorer
from scenarios.files.plant import energy_gap
from scenarios.files.schema import Budgets
from scenarios.runs.replicating import Assembly
from scenarios.runs.result import Result
from scenarios.runs.routing import Routing
from scenarios.runs.summary import radio_metrics_of
from scenarios.story.happenings import happenings, not_modelled
from scenarios.story.provenance import caveats, errors, source
from scenarios.story.story import ACCURACY_COLUMNS, FIXED_ACCESS, ON_THE_RADIO, Story, Subset
from scenarios.verdicts.verdict import overall
from twin.radio.tables import by_site
from twin.records.tables import Tables
from twin.servers.expert import Expert

__all__ = ["tell"]


def tell(result: Result, *, out: Path) -> Story:
    """Return everything that the report says about a run."""
    assembly, tables, evidence = result.assembly, result.tables, result.evidence
    file, routing = assembly.file, assembly.routing
    return Story(
        name=file.name,
        description=file.description,
        service_need=" ".join(file.budgets.need.split()),
        budgets_in_words=_budgets_in_words(file.budgets),
        facts=_facts(assembly),
        overall=overall(result.verdicts),
        verdicts=result.verdicts,
        delay_statistic=file.budgets.delay_statistic,
        delay_budgets_s=file.budgets.delay_by_category_s(),
        requests=tables.requests,
        legs=tables.legs,
        devices=tables.devices,
        accuracy=_accuracy(assembly, routing) if routing else pd.DataFrame(columns=list(ACCURACY_COLUMNS)),
        subset=_subset(assembly, routing) if routing else None,
        profiles=pd.DataFrame([_profile_row(e) for e in assembly.all_experts]),
        warnings=_warnings(result),
        not_modelled=_not_modelled(assembly, tables),
        radio=radio_metrics_of(result),
        cells=pd.DataFrame() if tables.cells is None else by_site(tables.cells),
        seed=file.seed,
        replications=int(tables.requests["replication"].nunique()),
        duration_s=file.duration_s,
        warmup_s=evidence.warmup_s,
        n_requests=len(evidence.requests()),
        wall_s=result.wall_s,
        version=version("moe2-twin"),
        command=shlex.join(["moe2", "run", str(out / "scenario.toml"), "--out", str(out)]),
    )


def _budgets_in_words(budgets: Budgets) -> list[str]:
    statistic = {"mean": "on average", "p50": "for half"}.get(budgets.delay_statistic)
    share = statistic or f"for {budgets.delay_statistic[1:]} %"
    delays = budgets.delay_by_category_s()
    words = [f"{c}: an answer within {s:g} s {share} of the requests" for c, s in delays.items() if c != "default"]
    if "default" in delays:
        rest = "other categories" if len(delays) > 1 else "every category"
        words.append(f"{rest}: an answer within {delays['default']:g} s {share} of the requests")
    if budgets.energy_j_per_request is not None:
        words.append(f"at most {budgets.energy_j_per_request:g} J per request, idle devices included")
    return words


def _not_modelled(assembly: Assembly, tables: Tables) -> list[str]:
    """Return what is not modelled; with a radio, users do move."""
    moving = tables.cells is not None
    return [ON_THE_RADIO if moving and text == FIXED_ACCESS else text for text in not_modelled(assembly.file)]


def _facts(assembly: Assembly) -> list[tuple[str, str]]:
    file = assembly.file
    kinds = pd.Series([e.profile.device for e in assembly.experts]).value_counts()
    facts = [
        ("Experts", f"{len(assembly.experts)} of {len(assembly.all_experts)} kept"),
        ("Devices", ", ".join(f"{n} × {kind}" for kind, n in kinds.items())),
        ("Load", f"{assembly.requests_per_s:.3g} requests per second"),
    ]
    arrivals = _ARRIVALS[file.load.process]
    facts.append(("Users", f"{file.users.count}, {arrivals}") if assembly.routing else ("Arrivals", arrivals))
    if prefix := getattr(file.load, "prompt_prefix_tokens", 0):
        facts.append(("Prompt prefix", f"{prefix} tokens before every prompt"))
    if assembly.routing:
        facts.append(("Experts asked", f"k = {file.router.k} per request"))
        way_s = file.network.access_delay_s + file.network.lan_delay_s
        beyond = "" if assembly.network.radio is None else ", after the radio"
        facts.append(("Network", f"{1000 * way_s:.3g} ms each way{beyond}"))
    return facts + happenings(file)


_ARRIVALS = {
    "poisson": "Poisson arrivals",
    "gamma": "bursty arrivals",
    "mmpp": "Markov-modulated arrivals",
    "diurnal": "arrivals by the time of day",
    "closed_loop": "users who ask, wait and think",
    "sessions": "sessions of several turns",
    "trace": "arrivals of a public trace",
    "requests": "arrivals from a file",
    "recorded": "arrivals of a recorded run",
}


def _accuracy(assembly: Assembly, routing: Routing) -> pd.DataFrame:
    """Return the accuracy on the test split of the router beside the baselines of the scenario's experts."""
    models = [e.profile.model for e in assembly.all_experts]
    k = min(assembly.file.router.k, len(routing.kept))
    found = evaluate(routing.answers, routing.gate, ks=[k], models=models, subset=routing.kept)
    return found[found["category"] == "all"]


def _subset(assembly: Assembly, routing: Routing) -> Subset:
    names = tuple(e.name for e in assembly.experts)
    found, problem = routing.selection, routing.problem
    if found is None:
        return Subset(experts=names, how="The scenario names the subset; nothing was optimised.")
    return Subset(
        experts=names,
        how=_how(found),
        value=found.value,
        energy_j=None if np.isnan(found.energy_j) else found.energy_j,
        energy_budget_j=problem.energy_budget_j,
        worst_case=pd.DataFrame(
            {
                "category": problem.categories,
                "delay_s": found.delay_s,
                "budget_s": np.where(np.isinf(problem.delay_budget_s), np.nan, problem.delay_budget_s),
            }
        ),
        runners_up=pd.DataFrame(
            [_runner_up(problem, c, feasible=False) for c in found.refused]
            + [_runner_up(problem, c, feasible=True) for c in found.alternatives],
            columns=["experts", "value", "energy_j", "feasible", "why"],
        ),
        left_out=pd.DataFrame(
            [(e.name, _why_left_out(routing, e.name)) for e in assembly.all_experts if e not in assembly.experts],
            columns=["expert", "why"],
        ),
    )


def _how(found: Selection) -> str:
    fits = "that hold the budgets in the worst case, without load"
    if found.method == "exhaustive":
        return f"The best of all {found.n_evaluated} subsets {fits}; exhaustive search, status {found.status}."
    near = "" if found.status == "optimal" else f", at most {found.gap:.3g} nats per prompt below the best"
    return f"The best subset found of those {fits}; {found.method.replace('_', ' ')}, status {found.status}{near}."


def _runner_up(problem: Problem, candidate: Candidate, *, feasible: bool) -> dict[str, Any]:
    return {
        "experts": ", ".join(problem.experts[i] for i in candidate.subset),
        "value": candidate.value,
        "energy_j": candidate.energy_j,
        "feasible": feasible,
        "why": "less likely to answer right" if feasible else _broken(problem, candidate),
    }


def _broken(problem: Problem, candidate: Candidate) -> str:
    """Return the first budget that a subset breaks, in words; nothing where it breaks none."""
    for category, delay_s, budget_s in zip(problem.categories, candidate.delay_s, problem.delay_budget_s, strict=True):
        if delay_s > budget_s:
            return f"breaks the delay budget of {category}: {delay_s:.3g} s, allowed {budget_s:g} s"
    if problem.energy_budget_j is not None and candidate.energy_j > problem.energy_budget_j:
        return f"breaks the energy budget: {candidate.energy_j:.4g} J, allowed {problem.energy_budget_j:g} J"
    return ""


def _why_left_out(routing: Routing, name: str) -> str:
    """Return what adding one expert to the chosen subset would break, or that it would not help."""
    found, problem = routing.selection, routing.problem
    if found is None:
        return "not named by the scenario"
    i = problem.experts.index(name)
    if i in found.left_out:
        return "its energy is not known, so it cannot be shown to fit the energy budget"
    larger = Scorer.of(problem, "fused").candidate(tuple(sorted((*found.subset, i))))
    if broken := _broken(problem, larger):
        return f"adding it {broken}"
    return f"adding it makes right answers no likelier ({larger.value:.4f} against {found.value:.4f})"


def _profile_row(expert: Expert) -> dict[str, Any]:
    profile = expert.profile
    return {
        "expert": expert.name,
        "device": expert.device,
        "hardware": profile.device,
        "model": profile.model,
        "profile": profile.name,
        "latency": profile.provenance.latency,
        "energy": profile.provenance.energy,
        "energy_scope": profile.energy_scope,
        "source": source(profile),
        "errors": errors(profile),
        "notes": caveats(profile),
    }


def _warnings(result: Result) -> list[str]:
    assembly, warnings = result.assembly, []
    gap = energy_gap(assembly.experts)
    if gap and assembly.file.budgets.energy_j_per_request is not None:
        warnings.append(f"The energy budget is undecided: {gap}.")
    for name, growth in result.evidence.unstable.items():
        warnings.append(
            f"{name} cannot keep up: its backlog grows by {100 * growth:.0f} % of its load, for as long as load comes."
        )
    if not assembly.draws_inputs and any(is_uncertain(e.profile) for e in assembly.experts):
        warnings.append("The errors of the profiles are not in the verdicts' intervals.")
    return warnings
