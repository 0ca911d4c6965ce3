"""The folder of a recording: the tables and verdicts of `moe2 run`, every send's lateness, and the journal itself."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from scenarios.recording.checking import slots_apart
from scenarios.recording.journal import Metered
from scenarios.recording.manifest import reports_in
from scenarios.recording.metering import energy_gap
from scenarios.recording.playing import LATE_S
from scenarios.recording.reasons import reasons
from scenarios.recording.recording import Recording, journal_of
from scenarios.recording.tabulating import sends, tables_of
from scenarios.running import JOURNAL, write_result
from scenarios.runs.folder import whole_folder
from scenarios.runs.result import Result
from scenarios.story.late import late_words
from scenarios.story.stolen import stolen_words
from scenarios.verdicts.estimate import look_level
from scenarios.verdicts.judging import Evidence, judge_budgets, n_budgets
from scenarios.verdicts.stability import growing_backlogs
from scenarios.verdicts.warmup import warmup_s
from twin.records.tables import joined

__all__ = ["MOST_LATE", "lateness", "result_of", "write_recording"]

MOST_LATE = 0.01
"""Share of sends that may be late before a recording is flagged."""


def result_of(recording: Recording) -> Result:
    """Return a recording judged as a run is; it is one of many that could have been, so its budgets have intervals."""
    assembly = recording.assembly
    file, tables = assembly.file, joined([tables_of(recorded) for recorded in recording.replications])
    found = warmup_s(tables.requests) if file.warmup_s == "auto" else file.warmup_s
    evidence = Evidence(
        experts=assembly.experts,
        tables=tables,
        drawn=None,
        warmup_s=file.duration_s / 2 if found is None else found,
        unstable=growing_backlogs(tables.legs, file.duration_s),
        random=True,
        level=look_level(n_budgets(file.budgets)),
        energy_gap=_energy_gap(recording),
    )
    wall_s = sum(recorded.horizon_s for recorded in recording.replications)
    return Result(assembly=assembly, evidence=evidence, verdicts=judge_budgets(file.budgets, evidence), wall_s=wall_s)


def write_recording(recording: Recording, out: Path, *, report: bool, console: Console) -> Result:
    """Judge a recording and write its folder, which appears whole or not at all; the journal moves into it."""
    result = result_of(recording)
    sent = pd.concat([sends(recorded) for recorded in recording.replications], ignore_index=True)
    journal, told = journal_of(out), _story(recording, result, sent, out)
    with whole_folder(out) as folder:
        sent.to_parquet(folder / "sends.parquet", index=False)
        write_result(
            result,
            folder,
            out=out,
            report=report,
            console=console,
            summary={"engine": "recorded", "recording": _about(recording, sent), "told": told},
            story=told,
        )
        shutil.copyfile(journal, folder / JOURNAL)
    journal.unlink()
    return result


def lateness(sent: pd.DataFrame) -> dict[str, Any]:
    """Return how late the sends were, in seconds, and whether more of them were late than a recording may have."""
    late_s = sent["late_s"]
    share = float((late_s > LATE_S).mean())
    return {
        "n": len(late_s),
        "median_s": float(late_s.median()),
        "p99_s": float(late_s.quantile(0.99)),
        "max_s": float(late_s.max()),
        "late_s": LATE_S,
        "late_share": share,
        "flagged": share > MOST_LATE,
    }


def steal_share(recording: Recording) -> float | None:
    """Return the share of the time of this machine's processors that its host took; None where it is not told."""
    told = [(r.stopped.steal_share, r.horizon_s) for r in recording.replications]
    known = [(share, seconds) for share, seconds in told if share is not None]
    lasted_s = sum(seconds for _, seconds in known)
    return sum(share * seconds for share, seconds in known) / lasted_s if lasted_s > 0 else None


def _about(recording: Recording, sent: pd.DataFrame) -> dict[str, Any]:
    manifest = recording.events.manifest
    return {
        **{key: manifest[key] for key in ("began_unix_s", "speed", "prompts", "endpoints")},
        "clock_began_unix_s": [event.unix_s for event in recording.events.began],
        "lateness": lateness(sent),
        "steal_share": steal_share(recording),
        "slots_apart": _slots_apart(recording),
        "interrupted": [r.replication for r in recording.replications if not r.stopped.whole],
        "meters": [_meter(event) for event in recording.events.metered],
    }


def _slots_apart(recording: Recording) -> list[str]:
    return slots_apart(recording.assembly.experts, reports_in(recording.events.manifest))


def _meter(event: Metered) -> dict[str, Any]:
    return {key: getattr(event, key) for key in ("replication", "device", "scope", "source", "reason")}


def _energy_gap(recording: Recording) -> str:
    devices = sorted({expert.device for expert in recording.assembly.experts})
    gaps = (energy_gap(devices, list(recorded.metered.values())) for recorded in recording.replications)
    return next((gap for gap in gaps if gap), "")


def _story(recording: Recording, result: Result, sent: pd.DataFrame, out: Path) -> dict[str, Any]:
    """Return what the report says of a recording in place of what it says of a simulation."""
    why = "; ".join(words.rstrip(".") for words in reasons(result.tables.legs))
    warnings = [f"{why}."] if why else []
    warnings += [f"{words}." for words in late_words(lateness(sent))]
    warnings += [f"{words}." for words in _slots_apart(recording)]
    warnings += [f"{words}: times are longer than its own." for words in stolen_words(steal_share(recording))]
    if recording.assembly.file.budgets.energy_j_per_request is not None and result.evidence.energy_gap:
        warnings.append(f"The energy budget is undecided: {result.evidence.energy_gap}.")
    for name, growth in result.evidence.unstable.items():
        warnings.append(f"{name} could not keep up: its backlog grew by {growth:.0%} of its load.")
    if interrupted := [r for r in recording.replications if not r.stopped.whole]:
        warnings.append(
            f"The recording was interrupted at {interrupted[-1].horizon_s:.3g} s; what came later is missing."
        )
    return {
        "warnings": warnings,
        "not_modelled": (
            "Servers, devices and their network were real; users, their arrivals and the way to them were not.",
            "Prompts were random tokens or given texts and their answers were not read.",
        ),
        "recorded": True,
        "command": shlex.join(["moe2", "record", str(out / "scenario.toml"), "--endpoints", "FILE", "--out", str(out)]),
    }
