"""A comparison: both sides read, differences found, tolerances judged, and the files that show it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scenarios.comparing.differences import OF_LEGS, OF_REQUESTS, UNITS, differences
from scenarios.comparing.sides import Pairs, pair
from scenarios.comparing.tolerances import EXACT_COUNTS, Finding, Tolerance, judge_differences
from scenarios.runs.folder import check_replaceable, whole_folder
from scenarios.story.numbers import percent
from scenarios.story.unanswered import unanswered
from twin.records.tables import Tables

__all__ = ["Comparison", "check_out", "compare", "write_comparison"]

_MARK, _PAGE = "comparison.json", "comparison.html"
_HEADED = {"mean": "in the mean", "p95": "at p95"}
_STATUS = {0: "holds", 1: "violated", 3: "undecided"}


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

    @property
    def is_of_counts_only(self) -> bool:
        """Whether no tolerance was stated but the one that is always there: then nearness was not judged."""
        return {finding.tolerance for finding in self.findings} == {EXACT_COUNTS}

    @property
    def sentence(self) -> str:
        """Whether the twin is near enough, in one sentence, and how far off it is."""
        far, unknown = ([f.tolerance.name for f in self.findings if f.status == s] for s in ("exceeded", "unknown"))
        if far:
            told = f"The twin is too far off in {', '.join(dict.fromkeys(far))}"
        elif unknown:
            told = f"No tolerance is exceeded, and {', '.join(dict.fromkeys(unknown))} cannot be judged"
        elif self.is_of_counts_only:
            told = "As many requests ended alike on both sides, and no other tolerance was stated"
        else:
            told = "The twin is within every tolerance"
        return f"{told}: {self._of_e2e()}."

    def _of_e2e(self) -> str:
        rows = self.table[(self.table["scope"] == "overall") & (self.table["quantity"] == "e2e")]
        by = {row["statistic"]: row for row in rows.to_dict("records")}
        silent = unanswered(by["p95"]["real"], by["p95"]["twin"])
        off = {name: by[name]["difference"] for name in _HEADED if not (silent and name == "p95")}
        words = [f"{percent(off[name], sign=True)} {_HEADED[name]}" for name in off if np.isfinite(off[name])]
        told = f"the twin's E2E time is off by {' and '.join(words)}" if words else "no answer is on both sides"
        return f"{told}, and p95 is {silent}" if silent else told

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values; null for what is not known, "inf" for what has no bound."""
        rows = [{k: _plain(v) for k, v in row.items()} for row in self.table.to_dict("records")]
        tolerances = [
            {"key": f.tolerance.name, "limit": f.tolerance.limit, "status": f.status, "words": f.words}
            for f in self.findings
        ]
        return {
            "exit_status": self.exit_status,
            "answer": self.sentence,
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


def write_comparison(comparison: Comparison, out: Path, *, real: str, twin: str) -> list[Path]:
    """Write page, comparison.json, comparison.csv and the figures to a folder that appears whole or not at all.

    `real` and `twin` are what the page calls the two runs.
    """
    from scenarios.figures.comparison import draw_comparison  # noqa: PLC0415 - drawing takes a second to load
    from scenarios.report.compare_page import write_compare_page  # noqa: PLC0415 - likewise

    with whole_folder(out, _MARK) as folder:
        text = json.dumps(comparison.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / _MARK).write_text(text + "\n", encoding="utf-8")
        comparison.table.to_csv(folder / "comparison.csv", index=False, float_format="%.6g", lineterminator="\n")
        found = draw_comparison(_drawn(comparison.pairs), folder)
        write_compare_page(
            comparison.sentence,
            comparison.table,
            found,
            folder / _PAGE,
            status=_STATUS[comparison.exit_status or 3 * comparison.is_of_counts_only],
            findings=[(finding.status, finding.words) for finding in comparison.findings],
            notes=comparison.pairs.notes,
            real=real,
            twin=twin,
            units={name: UNITS[name] for name in (*OF_LEGS, *OF_REQUESTS)},
        )
        names = [_PAGE, _MARK, "comparison.csv", *(figure.path.name for figure in found)]
    return [out / name for name in names]


def _drawn(pairs: Pairs) -> pd.DataFrame:
    """Return what is drawn, one row per pair and quantity that both sides know: quantity, real and twin."""
    parts = []
    for quantity, frame, end in (
        ("e2e", pairs.requests, "finished_s"),
        ("ttft", pairs.legs, "first_token_s"),
        ("leg", pairs.legs, "finished_s"),
    ):
        served = frame[(frame["status_real"] == "served") & (frame["status_twin"] == "served")]
        sides = {s: served[f"{end}_{s}"] - served[f"arrived_s_{s}"] for s in ("real", "twin")}
        parts.append(pd.DataFrame({"quantity": quantity, "unit": UNITS[quantity], **sides}).dropna())
    return pd.concat(parts, ignore_index=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else "inf" if value > 0 else "-inf"
    return value.item() if hasattr(value, "item") else value
