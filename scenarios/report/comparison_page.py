"""Several runs on one page: verdicts, metrics with intervals, paired differences, delays, energy, settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scenarios.figures import Figure
from scenarios.report import side_by_side
from scenarios.report.charts import comparison_charts
from scenarios.report.page import render_page, write_page
from scenarios.report.sentences import status_word
from scenarios.story.comparing import Comparison

__all__ = ["write_comparison"]


def write_comparison(
    comparison: Comparison, figures: Sequence[Figure], path: Path, *, interactive: bool = False
) -> None:
    """Write the page of several runs to `path` in one step."""
    stories = comparison.stories
    page = render_page(
        "comparison.html.j2",
        figures=figures,
        charts=comparison_charts(stories) if interactive else None,
        stories=stories,
        headline=_headline(comparison),
        pairing=_pairing(comparison),
        tables={
            "verdicts": side_by_side.verdicts(stories),
            "metrics": side_by_side.metrics(comparison),
            "differences": side_by_side.differences(comparison),
            "quantiles": side_by_side.quantiles(stories),
            "categories": side_by_side.categories(stories),
            "energies": side_by_side.energies(stories),
            "settings": side_by_side.settings(comparison),
        },
    )
    write_page(page, path)


def _pairing(comparison: Comparison) -> str:
    """Return what cancels in a difference between two runs of one seed, as the runs are simulated or recorded."""
    recorded = {story.recorded for story in comparison.stories.values()}
    if recorded == {False}:
        return (
            "Where two runs have the same seed, replication for replication they meet the same chance, and what it "
            "does to both cancels in the difference: a difference can be sure where the intervals above overlap."
        )
    other = "recordings" if recorded == {True} else "a recording and a simulation"
    return (
        f"Where {other} have the same seed, both were sent the same requests at the same instants, and what that does "
        "to both cancels in the difference. What real servers do differently from one time to the next does not."
    )


def _headline(comparison: Comparison) -> str:
    told = [
        f"{name}: {status_word(story.overall).lower() if story.verdicts else 'no budget'}"
        for name, story in comparison.stories.items()
    ]
    return "; ".join(told)
