"""Picture of what planning tried: every proposal by its worth, and what became of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scenarios.figures.style import (
    BLUE,
    BUDGET,
    GREEN,
    GREY,
    ORANGE,
    Figure,
    Vector,
    house_style,
    legend_below,
    name_rows,
    new_canvas,
    save,
)

__all__ = ["draw_tried"]

_MARKS = {  # status: (colour, marker, size)
    "ruled out": (GREY, ".", 7),
    "violated": (BUDGET, "x", 6),
    "undecided": (ORANGE, "D", 6),
    "holds": (GREEN, "o", 8),
}


def draw_tried(tried: pd.DataFrame, folder: Path, *, vector: Vector | None = None) -> Figure:
    """Draw the proposals of a plan, a row per k; `tried` has k, value, status, the plan is its best that holds."""
    folder.mkdir(parents=True, exist_ok=True)
    ks = sorted(tried["k"].unique())
    with house_style(vector):
        canvas, axes = new_canvas(1.7 + 0.5 * max(len(ks), 1))
        for status, (colour, marker, size) in _MARKS.items():
            rows = tried[tried["status"] == status]
            if len(rows):
                y = np.searchsorted(ks, rows["k"])
                axes.plot(rows["value"], y, marker, color=colour, ms=size, label=f"{status} ({len(rows)})", zorder=3)
        best = tried[tried["status"] == "holds"].sort_values("value").tail(1)
        if len(best):
            y = np.searchsorted(ks, best["k"])
            axes.plot(best["value"], y, "o", mfc="none", mec=BLUE, mew=1.8, ms=14, label="the plan", zorder=4)
        name_rows(axes, [f"k = {k}" for k in ks])
        axes.set(xlabel="worth: mean log-likelihood of the answer, nats per prompt", title="What was tried")
        legend_below(canvas, axes, columns=5)
        return save(canvas, folder, "tried", alt=_alt(tried), caption=_caption(tried))


def _caption(tried: pd.DataFrame) -> str:
    seen = set(tried["status"])
    return " ".join([_MARK, *(words for status, words in _KINDS.items() if status in seen)])


_MARK = (
    "Each mark is a proposal: experts to keep, how many to ask, and how the devices are set. Further right are better "
    "answers."
)
_KINDS = {
    "violated": "Crosses were simulated and broke a budget.",
    "ruled out": "Dots were ruled out by what a simulated one showed, without a run of their own.",
}


def _alt(tried: pd.DataFrame) -> str:
    counts = ", ".join(f"{n} {status}" for status, n in tried["status"].value_counts().items())
    return f"Marks of {len(tried)} proposals by their worth, a row for every number of experts asked: {counts}."
