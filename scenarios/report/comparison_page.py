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


def _headline(comparison: Comparison) -> str:
    told = [
        f"{name}: {status_word(story.overall).lower() if story.verdicts else 'no budget'}"
        for name, story in comparison.stories.items()
    ]
    return "; ".join(told)
