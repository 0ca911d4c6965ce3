"""A plan on one page: the answer, the verdict of every budget, the runner-ups and what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scenarios.figures import Figure
from scenarios.report.marks import WIDTH
from scenarios.report.page import render_page, write_page
from scenarios.report.run_page import verdict_rows
from scenarios.report.sentences import status_word
from scenarios.report.tables import Table
from scenarios.story.answer import Answer
from scenarios.story.numbers import MINUS, Cell
from scenarios.verdicts.verdict import Verdict

__all__ = ["write_plan_page"]


def write_plan_page(
    answer: Answer,
    verdicts: Sequence[Verdict],
    tried: pd.DataFrame,
    figures: Sequence[Figure],
    path: Path,
    *,
    name: str,
    command: str,
) -> None:
    """Write the page of a plan to `path` in one step; `command` runs the plan, '' where there is none."""
    page = render_page(
        "plan.html.j2",
        figures=figures,
        name=name,
        status=str(answer.numbers["status"]),
        answer=answer,
        rows=verdict_rows(verdicts),
        mark_width=WIDTH,
        command=command,
        tables={"tried": _tried(tried)},
    )
    write_page(page, path)


def _tried(tried: pd.DataFrame) -> Table:
    """Return every proposal that was looked at, in the order of looking."""
    rows = tuple(
        (
            Cell(text=str(row["k"])),
            Cell(text="\n".join(str(row["experts"]).split(", ")), style="lines"),
            Cell(text=str(row["settings"]) or "as given", style="prose"),
            Cell(text=_word(str(row["status"])), below=str(row["why"]), style="prose"),
            Cell(text=f"{row['value']:.4f}".replace("-", MINUS), style="number"),
        )
        for row in tried.to_dict("records")
    )
    columns = ("k", "Experts", "Settings", "What became of it", "Worth, nats per prompt")
    return Table(caption="Proposals in the order they were tried", columns=columns, rows=rows, n_text=4)


def _word(status: str) -> str:
    return "Ruled out" if status == "ruled out" else status_word(status)
