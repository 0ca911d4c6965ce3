"""A run read back from its folder: what `moe2 run` wrote is enough to tell its story again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenarios.files.loading import load
from scenarios.runs.replicating import assemble
from scenarios.runs.result import Result
from scenarios.verdicts.judging import Evidence
from scenarios.verdicts.verdict import Verdict
from twin.records.tables import SCHEMAS, read_tables
from twin.world import ENGINES, engine_of

__all__ = ["read_result", "told_of"]


def read_result(folder: Path) -> Result:
    """Return the result of the run in a folder: its tables, and the verdicts of its summary, not judged anew.

    The replications with drawn coefficients are not kept in a folder, so `evidence.drawn` is None; what they did to
    the verdicts is in the verdicts. ValueError for a folder that no run wrote, or of which a part is missing.
    """
    needed = ("summary.json", "scenario.toml", *(f"{name}.parquet" for name in SCHEMAS))
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise ValueError(f"{folder}: there is no {missing[0]}; name a folder that `moe2 run --out` wrote")
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        verdicts = [_verdict(told) for told in summary["verdicts"]]
        engine = str(summary["engine"])  # "recorded" and "imported" are of no engine
        simulated = engine_of(engine) if engine in ENGINES else "compiled"
        assembly = assemble(load(folder / "scenario.toml"), engine=simulated)
        evidence = Evidence(
            experts=assembly.experts,
            tables=read_tables(folder),
            drawn=None,
            warmup_s=float(summary["warmup_s"]),
            unstable=summary["unstable"],
            random=assembly.random or engine == "recorded",  # a recording is one of many that could have been
            level=float(summary["interval_level"]),
        )
        return Result(assembly=assembly, evidence=evidence, verdicts=verdicts, wall_s=float(summary["wall_s"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        kind = type(error).__name__
        raise ValueError(f"{folder / 'summary.json'}: not a run's summary ({kind}: {error}); run it again") from None


def told_of(folder: Path) -> dict[str, Any]:
    """Return the fields of the story in which a recorded run tells something else than a simulated one."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    told: dict[str, Any] = summary.get("told", {})
    return {**told, "recorded": summary["engine"] == "recorded"}


def _verdict(told: Mapping[str, Any]) -> Verdict:
    """Return a verdict as the summary tells it: "inf" is a figure without a bound."""
    numbers = ("budget", "estimate", "low", "high", "chance", "inputs")
    plain: dict[str, Any] = {k: float(v) if k in numbers and v is not None else v for k, v in told.items()}
    return Verdict(**plain)
