"""summary.json: the metrics with their intervals, every verdict, the subset, the provenance of each profile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pandas as pd

from calibration.versions import profile_sha256, version_of
from scenarios.runs.replicating import Assembly
from scenarios.runs.result import Result
from scenarios.verdicts.estimate import estimate, estimate_metric
from scenarios.verdicts.judging import energies_j, per_replication
from scenarios.verdicts.verdict import overall
from twin.radio.tables import by_site, radio_metrics
from twin.records.metrics import by_device, category_metrics, leg_energy_per_request_j, replications, request_metrics
from twin.records.tables import Tables

__all__ = ["radio_metrics_of", "summarise"]


def summarise(result: Result) -> dict[str, Any]:
    """Return the summary as plain JSON values: null where a figure is not known, "inf" where it has no bound."""
    assembly, tables, evidence = result.assembly, result.tables, result.evidence
    file, judged, random = assembly.file, evidence.requests(), assembly.random
    summary: dict[str, Any] = _plain(
        {
            "scenario": file.name,
            "version": version("moe2-twin"),
            "engine": assembly.engine,
            "seed": file.seed,
            "replications": int(tables.requests["replication"].nunique()),
            "warmup_s": evidence.warmup_s,
            "status": overall(result.verdicts),
            "interval_level": evidence.level,
            "inputs": "drawn" if evidence.drawn else "nominal",
            "verdicts": [asdict(v) for v in result.verdicts],
            "unstable": dict(evidence.unstable),
            "metrics": {
                "overall": _estimates([request_metrics(group) for _, group in replications(judged)], random),
                "by_category": {
                    name: _estimates(list(each.values()), random) for name, each in category_metrics(judged).items()
                },
                "energy": _energy(tables, random),
                "by_device": by_device(tables.devices, tables.legs).set_index("device").to_dict("index"),
            },
            "requests": {"arrived": len(tables.requests), **_counts(tables.requests["status"])},
            "subset": _subset(assembly),
            "profiles": [_profile(assembly, i) for i in range(len(assembly.all_experts))],
            "wall_s": result.wall_s,
            "requests_per_wall_s": len(tables.requests) / result.wall_s,
            **_trace(assembly),
            **_radio(result),
        }
    )
    return summary


def _estimates(rows: Sequence[Mapping[str, float]], random: bool) -> dict[str, Any]:
    """Return each metric's mean over the replications, a row each, with its interval."""
    names = rows[0] if rows else {}
    return {name: estimate_metric(name, [row[name] for row in rows], random=random).figures() for name in names}


def _counts(words: pd.Series[Any]) -> dict[str, int]:
    """Return how often each word stands there, the most frequent first; words that do not are left out."""
    return {str(word): int(n) for word, n in words.value_counts().items() if n}


def _energy(tables: Tables, random: bool) -> dict[str, Any]:
    legs = per_replication(tables.requests, leg_energy_per_request_j)
    return {
        "per_request_j": estimate(energies_j(tables), random=random).figures(),
        "per_request_legs_only_j": estimate(legs, random=random).figures(),
    }


def _subset(assembly: Assembly) -> dict[str, Any]:
    names = [e.name for e in assembly.experts]
    routing = assembly.routing
    if routing is None:
        how = "named by the load" if assembly.replay is None else "those of the recorded run"
        return {"experts": names, "how": how, "status": None}
    if routing.selection is None:
        return {"experts": names, "how": "named by the scenario", "status": None}
    found = routing.selection
    return {
        "experts": names,
        "how": found.method,
        "status": found.status,
        "value": found.value,
        "upper_bound": found.upper_bound,
        "gap": found.gap,
        "subsets_tried": found.n_evaluated,
    }


def _trace(assembly: Assembly) -> dict[str, Any]:
    """Return which recorded run was played again, if one was."""
    replay = assembly.replay
    return {} if replay is None else {"trace": {"path": str(replay.path), "sha256": replay.sha256}}


def radio_metrics_of(result: Result) -> dict[str, float]:
    """Return what the radio cost, over whole runs; nothing where users are on none."""
    file, tables = result.assembly.file, result.tables
    if tables.cells is None or tables.handovers is None:
        return {}
    users, duration_s = file.users.count, file.duration_s
    return radio_metrics(tables.cells, tables.handovers, tables.requests, n_users=users, duration_s=duration_s)


def _radio(result: Result) -> dict[str, Any]:
    if result.tables.cells is None:
        return {}
    sites = by_site(result.tables.cells).set_index("site").to_dict("index")
    return {"radio": {**radio_metrics_of(result), "by_site": sites}}


def _profile(assembly: Assembly, i: int) -> dict[str, Any]:
    expert = assembly.all_experts[i]
    profile = expert.profile
    return {
        "expert": expert.name,
        "kept": expert in assembly.experts,
        "profile": profile.name,
        "version": version_of(profile),
        "sha256": profile_sha256(profile),  # of the content used, added power included
        "model": profile.model,
        "provenance": asdict(profile.provenance),
        "energy_scope": profile.energy_scope,
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold.

    >>> _plain({"a": (math.nan, math.inf, 1.5)})
    {'a': [None, 'inf', 1.5]}
    """
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value.item() if hasattr(value, "item") else value
