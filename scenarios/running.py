"""`moe2 run`: a scenario simulated, judged, and written to a folder that appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console

from scenarios.files.loading import Scenario
from scenarios.runs.folder import check_replaceable, whole_folder
from scenarios.runs.replicating import AnyLoad, Assembly, assemble, draw
from scenarios.runs.result import Result, simulate_until_decided
from scenarios.runs.summary import summarise
from scenarios.steps import step
from twin.records.tables import being_written
from twin.world import Engine

__all__ = ["JOURNAL", "Plan", "perform", "prepare", "resolved", "write_result"]

JOURNAL = "journal.jsonl"
"""The file in a recording's folder that a run's does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A scenario whose every input was read and checked: nothing in it can be wrong any more."""

    assembly: Assembly
    loads: list[AnyLoad]
    out: Path


def prepare(scenario: Scenario, out: Path, *, engine: Engine = "compiled") -> Plan:
    """Return the scenario ready to perform; ValueError for anything wrong with its files or with `out`."""
    check_replaceable(out)
    if (out / JOURNAL).exists():
        raise ValueError(f"--out {out}: a recording is there, which nothing makes again; name another folder")
    load = scenario.file.load
    if load.process == "recorded" and (scenario.folder / load.path).resolve() == out.resolve():
        raise ValueError(f"--out {out}: it is the run that is played again; name another folder")
    assembly = assemble(scenario, engine=engine)
    return Plan(assembly=assembly, loads=draw(assembly), out=out)


def perform(plan: Plan, *, report: bool, console: Console) -> Result:
    """Simulate and judge, and write DESIGN's files to the plan's folder, which appears whole or not at all."""
    result = simulate_until_decided(plan.assembly, plan.loads, console)
    with whole_folder(plan.out) as folder:
        write_result(result, folder, out=plan.out, report=report, console=console)
    return result


def write_result(
    result: Result,
    folder: Path,
    *,
    out: Path,
    report: bool,
    console: Console,
    summary: Mapping[str, Any] | None = None,
    story: Mapping[str, Any] | None = None,
) -> None:
    """Write DESIGN's files of a result to `folder`, which is to be `out`.

    `summary` has keys of summary.json, `story` fields of the report's story that say something else than the twin's.
    """
    with step(console, "writing the tables"), being_written(result.tables, folder):
        summed_up = {**summarise(result), **(summary or {})}
    (folder / "scenario.toml").write_text(resolved(result.assembly.scenario), encoding="utf-8")
    if report:
        _write_report(result, folder, out, console, story or {})
    text = json.dumps(summed_up, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")


def resolved(scenario: Scenario) -> str:
    """Return the scenario as TOML with every default filled in and every path absolute."""
    data = scenario.file.model_dump(exclude_none=True)
    for expert in data["experts"]:
        for names, key in ((expert, "profile"), *((expert["power_modes"], mode) for mode in expert["power_modes"])):
            if names[key].endswith(".json"):
                names[key] = str(scenario.path(names[key]))
    if "path" in data["load"]:
        data["load"]["path"] = str(scenario.path(data["load"]["path"]))
    for section, key in ((data["users"], "positions"), (data["network"].get("access_points", {}), "path")):
        if key in section:
            section[key] = str(scenario.path(section[key]))
    for key in ("gate", "answers"):
        if data["router"][key] != "bundled":
            data["router"][key] = str(scenario.path(data["router"][key]))
    return tomli_w.dumps(data)


def _write_report(result: Result, folder: Path, out: Path, console: Console, changes: Mapping[str, Any]) -> None:
    # Drawing libraries take a second to load: only a run that draws pays for them.
    from scenarios.figures import draw_figures  # noqa: PLC0415
    from scenarios.report import write_report  # noqa: PLC0415
    from scenarios.story.telling import tell  # noqa: PLC0415

    with step(console, "drawing the report"):
        story = replace(tell(result, out=out), **changes)
        figures = draw_figures(story, folder / "figures")
        write_report(story, figures, folder / "report.html")
