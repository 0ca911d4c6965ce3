"""A comparison: both sides read, differences found, tolerances judged, and the files that show it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scenarios.comparing.differences import UNITS, differences
from scenarios.comparing.sides import Pairs, pair
from scenarios.comparing.tolerances import EXACT_COUNTS, Finding, Tolerance, judge_differences
from scenarios.runs.folder import check_replaceable, whole_folder
from twin.records.tables import Tables

__all__ = ["Comparison", "check_out", "compare", "write_comparison"]

_MARK = "comparison.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs beside each other: the paired rows, the table of differences, and what became of each tolerance."""

    pairs: Pairs
    table: pd.DataFrame
    findings: tuple[Finding, ...]

    @property
    def exit_status(self) -> int:
        """1 when a tolerance is exceeded, else 3 when one could not be judged, else 0."""
        found = {finding.status for finding in self.findings}
        return 1 if "exceeded" in found else 3 if "unknown" in found else 0

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values; null for what is not known, "inf" for what has no bound."""
        rows = [{k: _plain(v) for k, v in row.items()} for row in self.table.to_dict("records")]
        tolerances = [
            {"key": f.tolerance.name, "limit": f.tolerance.limit, "status": f.status, "words": f.words}
            for f in self.findings
        ]
        return {
            "exit_status": self.exit_status,
            "requests": len(self.pairs.requests),
            "legs": len(self.pairs.legs),
            "notes": list(self.pairs.notes),
            "tolerances": tolerances,
            "differences": rows,
        }


def compare(
    real: Tables, twin: Tables, tolerances: Sequence[Tolerance] = (EXACT_COUNTS,), *, notes: Sequence[str] = ()
) -> Comparison:
    """Return the comparison of a measured run with a simulated one; ValueError when no request is on both sides.

    `notes` are kept beside those of pairing.
    """
    pairs = pair(real, twin)
    pairs = replace(pairs, notes=(*pairs.notes, *notes))
    table = differences(pairs)
    return Comparison(pairs=pairs, table=table, findings=tuple(judge_differences(table, tolerances)))


def check_out(out: Path) -> None:
    """Raise ValueError unless the folder is new, empty, or an earlier comparison's."""
    check_replaceable(out, _MARK)


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write comparison.json, comparison.csv and the figures to a folder that appears whole or not at all."""
    from scenarios.figures.comparison import draw_comparison  # noqa: PLC0415 - drawing takes a second to load

    with whole_folder(out, _MARK) as folder:
        text = json.dumps(comparison.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / _MARK).write_text(text + "\n", encoding="utf-8")
        comparison.table.to_csv(folder / "comparison.csv", index=False, float_format="%.6g", lineterminator="\n")
        found = draw_comparison(_drawn(comparison.pairs), folder)
        names = [_MARK, "comparison.csv", *(figure.path.name for figure in found)]
    return [out / name for name in names]


def _drawn(pairs: Pairs) -> pd.DataFrame:
    """Return what is drawn, one row per pair and quantity that both sides know: quantity, real and twin."""
    parts = []
    for quantity, frame, end in (
        ("ttft", pairs.legs, "first_token_s"),
        ("leg", pairs.legs, "finished_s"),
        ("e2e", pairs.requests, "finished_s"),
    ):
        served = frame[(frame["status_real"] == "served") & (frame["status_twin"] == "served")]
        sides = {s: served[f"{end}_{s}"] - served[f"arrived_s_{s}"] for s in ("real", "twin")}
        parts.append(pd.DataFrame({"quantity": quantity, "unit": UNITS[quantity], **sides}).dropna())
    return pd.concat(parts, ignore_index=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else "inf" if value > 0 else "-inf"
    return value.item() if hasattr(value, "item") else value
