"""The report of one scenario's runs: verdict, delays, energy, accuracy, subset and where the figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scenarios.figures import Figure
from scenarios.report import tables
from scenarios.report.charts import run_charts
from scenarios.report.marks import WIDTH, marks
from scenarios.report.page import render_page, write_page
from scenarios.report.sentences import headline, lede, ranked
from scenarios.story import numbers
from scenarios.story.story import Story
from scenarios.verdicts.verdict import Verdict

__all__ = ["render", "verdict_rows", "write_report"]

PROVENANCE = (
    ("measured", "Fitted to recordings of this model on this hardware."),
    ("scaled", "Carried over from a measured model by the bytes of its weights; the error of doing so is stated."),
    ("composed", "Put together from parts of different sources, each named."),
    ("assumed", "No measurement is at hand: a stated value with a stated range. Measure it before relying on it."),
)


def write_report(story: Story, figures: Sequence[Figure], path: Path, *, interactive: bool = False) -> None:
    """Write the report to `path` in one step: a reader finds the whole page or none."""
    write_page(render(story, figures, interactive=interactive), path)


def render(story: Story, figures: Iterable[Figure], *, interactive: bool = False) -> str:
    """Return the report as text; with `interactive` its delays and its timeline can be explored."""
    return render_page(
        "report.html.j2",
        figures=figures,
        charts=run_charts(story) if interactive else None,
        story=story,
        headline=headline(story),
        lede=lede(story),
        rows=verdict_rows(story.verdicts),
        mark_width=WIDTH,
        tables=_tables(story),
        notes=tables.profile_notes(story),
        provenance=PROVENANCE,
    )


def verdict_rows(judged: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return what the table of budgets shows of each verdict, the one to look at first on top."""
    verdicts = ranked(judged)
    pairs = zip(verdicts, marks(verdicts), strict=True)
    return [
        {
            "verdict": verdict,
            "mark": mark,
            "estimate": tables.estimate_cell(verdict),
            "interval": tables.interval_cell(verdict),
            "budget": numbers.bound(verdict.budget, verdict.unit),
        }
        for verdict, mark in pairs
    ]


def _tables(story: Story) -> dict[str, tables.Table]:
    found = {
        "delays": tables.delays(story),
        "times": tables.times(story),
        "energies": tables.energies(story),
        "utilisations": tables.utilisations(story),
        "accuracies": tables.accuracies(story),
        "profiles": tables.profiles(story),
    }
    if story.radio:
        found["radio"] = tables.radio(story)
    if story.subset is not None:
        found["worst_cases"] = tables.worst_cases(story.subset)
        found["runners_up"] = tables.runners_up(story.subset)
        found["left_out"] = tables.left_out(story.subset)
    return found
