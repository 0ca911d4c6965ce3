"""Picture of the accuracy of the router beside its baselines."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scenarios.figures.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    Figure,
    legend_below,
    name_rows,
    new_canvas,
    rows_height_in,
    save,
)
from scenarios.figures.views import floats, short_names
from scenarios.story.story import Story

_MARKS = {  # kind: (marker, colour, filled, words)
    "router": ("o", BLUE, True, "this scenario's router"),
    "baseline": ("s", ORANGE, True, "baseline"),
    "single expert": ("o", GREY, True, "single expert"),
    "unreachable": ("D", INK, False, "unreachable bound"),
}


def draw_accuracy(story: Story, folder: Path) -> Figure:
    """Draw the accuracy of every method with its 95 % interval, best on top; the oracle is hollow and dashed."""
    table = story.accuracy.sort_values("accuracy", ascending=False, kind="stable").reset_index(drop=True)
    canvas, axes = new_canvas(rows_height_in(len(table), per_row_in=0.33))
    for kind in dict.fromkeys(table["kind"].astype(str)):
        _draw_kind(axes, table, kind)
    reference = reference_accuracy(table)
    if reference is not None:
        axes.axvline(100 * reference, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="best single expert")
    name_rows(axes, _method_names(table))
    for label, kind in zip(axes.get_yticklabels(), table["kind"], strict=True):
        label.set_fontweight("bold" if kind == "router" else "normal")
        label.set_color(MUTED if kind == "unreachable" else INK)
    axes.set(xlabel="% of test questions answered rightly", title="Accuracy beside the baselines")
    legend_below(canvas, axes, columns=3)
    return save(canvas, folder, "accuracy", alt=_alt(table), caption=_CAPTION)


_CAPTION = (
    "Share of test questions answered rightly, with 95 % intervals. The oracle counts a question as right when any "
    "expert is, lucky guesses included: no router can reach it."
)


def reference_accuracy(table: pd.DataFrame) -> float | None:
    """Return the accuracy of the best single expert: the one that has no difference to itself; None if none has."""
    diff = floats(table["diff_vs_best_single"])
    rows = table[(table["kind"] == "single expert").to_numpy() & (np.isnan(diff) | (diff == 0))]
    return float(rows["accuracy"].iloc[0]) if len(rows) == 1 and rows["accuracy"].notna().all() else None


def _draw_kind(axes: Axes, table: pd.DataFrame, kind: str) -> None:
    marker, colour, filled, words = _MARKS.get(kind, ("^", GREY, True, kind))
    rows = np.flatnonzero((table["kind"] == kind).to_numpy())
    value, low, high = (100 * floats(table[name])[rows] for name in ("accuracy", "low", "high"))
    line = "solid" if filled else (0, (2, 2))
    known = ~np.isnan(low) & ~np.isnan(high)
    axes.hlines(rows[known], low[known], high[known], color=colour, linewidth=2, linestyle=line, zorder=2)
    face = colour if filled else "white"
    axes.plot(value, rows, marker, color=colour, markerfacecolor=face, ms=7, mew=1.6, label=words, zorder=3)


def _method_names(table: pd.DataFrame) -> list[str]:
    names = short_names(table["method"])
    return [
        f"{name} (unreachable)" if kind == "unreachable" else name
        for name, kind in zip(names, table["kind"], strict=True)
    ]


def _alt(table: pd.DataFrame) -> str:
    words = ", ".join(
        f"{name} {100 * value:.1f} %"
        for name, value in zip(_method_names(table), floats(table["accuracy"]), strict=True)
        if not np.isnan(value)
    )
    return f"Points with intervals, best on top: {words}."
