"""Pictures of planners' questions: variants side by side, and the load at which a budget breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from scenarios.figures.responses import Response, is_wide, responses, span
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
    plain_numbers,
    rows_height_in,
    save,
)
from scenarios.story.numbers import number

__all__ = ["draw_capacity", "draw_variants"]

_STATUS = {"holds": GREEN, "undecided": ORANGE, "violated": BUDGET, "infeasible": GREY}
_SHAPES = {"holds": "o", "undecided": "D", "violated": "X"}  # told apart without colours too


def draw_variants(points: pd.DataFrame, folder: Path, *, vector: Vector | None = None) -> list[Figure]:
    """Draw accuracy, delay and energy of named variants with intervals and budget lines, a picture each.

    One wide picture of three would be too small to read on a narrow page.
    """
    with house_style(vector):
        return [_draw_variants(points, response, folder) for response in responses(points)]


def _draw_variants(points: pd.DataFrame, response: Response, folder: Path) -> Figure:
    names = points["variant"].astype(str).tolist()
    canvas, axes = new_canvas(rows_height_in(len(names), per_row_in=0.3))
    _draw_rows(axes, points, response)
    name_rows(axes, names)
    what = response.column.partition("_")[0]
    axes.set_title(f"{what.capitalize()} of each variant")
    for status, colour in _STATUS.items():
        if (points["status"] == status).any():
            axes.plot([], [], _SHAPES.get(status, "o"), color=colour, ms=5.5, label=status)
    legend_below(canvas, axes, columns=4)
    return save(
        canvas, folder, f"variants_{what}", alt=_variants_alt(points, response), caption=_VARIANTS[what == "accuracy"]
    )


_VARIANTS = (
    "The dashed line is the budget, a triangle at the right edge a figure without a bound.",
    "Each row is a variant; the first is the one that the others are compared with. Lines are the intervals of the "
    "figures, cut at the edges; colour and shape are the verdict of all budgets.",
)


def _draw_rows(axes: Axes, points: pd.DataFrame, response: Response) -> None:
    for row, point in enumerate(points.to_dict("records")):
        colour = _STATUS.get(point["status"], GREY)
        value, low, high = (response.scale * point[f"{response.column}{end}"] for end in ("", "_low", "_high"))
        if np.isposinf(value):
            axes.plot(0.98, row, marker=">", color=colour, transform=axes.get_yaxis_transform(), clip_on=False)
            continue
        if np.isfinite(low) and np.isfinite(high):
            axes.plot([low, high], [row, row], color=colour, linewidth=1.5, alpha=0.6)
        axes.plot(value, row, marker=_SHAPES.get(point["status"], "o"), markersize=5.5, color=colour)
    if response.bound is not None:
        axes.axvline(response.bound, color=BUDGET, linewidth=1.2, linestyle=(0, (4, 3)))
    if (ends := span(points, response)) is not None:
        axes.set_xlim(*ends)
    if is_wide(points, response):
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(response.words.replace("\n", " "))


def _variants_alt(points: pd.DataFrame, response: Response) -> str:
    values = (response.scale * points[response.column].to_numpy(dtype=float)).tolist()
    told = zip(points["variant"], values, points["status"], strict=True)
    words = ", ".join(f"{name} {number(v) if np.isfinite(v) else 'no bound'} ({status})" for name, v, status in told)
    return f"{response.words.replace(chr(10), ' ')} of {len(points)} variants: {words}."


def draw_capacity(
    points: pd.DataFrame,
    key: str,
    *,
    unit: str,
    holds: float | None,
    breaks: float | None,
    folder: Path,
    vector: Vector | None = None,
) -> Figure:
    """Draw the use of the budgets against the load, and the band in which one of them breaks."""
    folder.mkdir(parents=True, exist_ok=True)
    with house_style(vector):
        canvas, axes = new_canvas(3.6)
        x = points[key].to_numpy(dtype=float)
        for name, colour in (("delay", BLUE), ("energy", GREEN)):
            _draw_use(axes, x, points, name, colour)
        axes.axhline(100, color=BUDGET, linewidth=1.2, linestyle=(0, (4, 3)), label="budget")
        caption = _CAPACITY
        if holds is not None and breaks is not None:
            caption += _BAND
            axes.axvspan(holds, breaks, color=ORANGE, alpha=0.25, linewidth=0, label="between: not decided")
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
        values = points[["delay_use", "energy_use"]].to_numpy(dtype=float)
        known = [1.0, *values[np.isfinite(values) & (values > 0)].tolist()]
        wide = max(known) > 5
        axes.set_yscale("log" if wide else "linear")
        if wide:
            plain_numbers(axes.yaxis)
        axes.set_ylim(70 * min(known) if wide else 0, 130 * max(known))
        axes.grid(visible=True, axis="both")
        axes.set(xlabel=unit, ylabel="% of the tightest budget", title="How much load until a budget breaks")
        legend_below(canvas, axes, columns=4)
        return save(
            canvas,
            folder,
            "capacity",
            alt=_capacity_alt(unit, holds, breaks),
            caption=caption,
        )


_CAPACITY = (
    "Each dot is a load that was simulated, every one under the same chance, with the interval of its figure, "
    "cut at the upper edge; triangles there have no bound."
)
_BAND = " Left of the band every budget holds, right of it one is violated."


def _draw_use(axes: Axes, x: NDArray[np.float64], points: pd.DataFrame, name: str, colour: str) -> None:
    y, low, high = (100 * points[f"{name}_use{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    if np.isnan(y).all():
        return
    finite = np.isfinite(y)
    axes.plot(x[finite], y[finite], color=colour, marker="o", markersize=4, linewidth=1.2, label=name)
    known = finite & np.isfinite(low) & np.isfinite(high)
    axes.vlines(x[known], low[known], high[known], color=colour, alpha=0.35, linewidth=2.5)
    for place in x[np.isposinf(y)]:
        axes.plot(place, 0.97, marker="^", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)


def _capacity_alt(unit: str, holds: float | None, breaks: float | None) -> str:
    lower = "at no load tried does every budget hold" if holds is None else f"every budget holds up to {number(holds)}"
    upper = "none was seen to break" if breaks is None else f"one is violated from {number(breaks)}"
    return f"Use of the budgets against the load in {unit}: {lower}; {upper}."
