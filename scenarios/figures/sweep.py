"""Pictures of a sweep: response curves, heat maps of two keys, the Pareto front of accuracy, delay and energy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from scenarios.figures.questions import draw_variants
from scenarios.figures.responses import Response, is_wide, responses, span
from scenarios.figures.style import (
    BLUE,
    BUDGET,
    DOTS_PER_IN,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    WIDTH_IN,
    Figure,
    Vector,
    house_style,
    legend_below,
    new_canvas,
    plain_numbers,
    save,
)
from scenarios.story.numbers import number, percent

__all__ = ["draw_sweep", "file_name", "lines_of", "pareto_front", "places"]

MAX_LINES = 6
_LINE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, INK)


def draw_sweep(
    points: pd.DataFrame, keys: Sequence[str], folder: Path, *, vector: Vector | None = None
) -> list[Figure]:
    """Draw a sweep's points table as PNG files in `folder`, with `vector` in that format too.

    The same table gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    points = points.replace([np.inf, -np.inf], np.inf)
    if list(keys) == ["variant"]:
        return draw_variants(points, folder, vector=vector)
    varied = [k for k in keys if points[k].nunique() > 1]
    with house_style(vector):
        figures = [_draw_curves(points, key, varied, folder) for key in varied]
        figures += [_draw_heat_map(points, pair, varied, folder) for pair in itertools.combinations(varied, 2)]
        return [*figures, _draw_front(points, varied, folder)]


def _draw_curves(points: pd.DataFrame, key: str, varied: Sequence[str], folder: Path) -> Figure:
    """Draw accuracy, delay and energy against one key, a line for each combination of the others."""
    shown = responses(points)
    canvas = Canvas(figsize=(WIDTH_IN, 1 + 2.1 * len(shown)), dpi=DOTS_PER_IN, layout="constrained", facecolor="white")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(shown), sharex=True)
    at, ticks = places(points[key])
    lines = list(lines_of(points, [k for k in varied if k != key]))
    for axes, response in zip(panels, shown, strict=True):
        for colour, (label, rows) in zip(_LINE_COLOURS, lines[:MAX_LINES], strict=False):
            _draw_line(axes, at[rows], points.iloc[rows], response, colour=colour, label=label)
        _finish(axes, response, points)
    panels[-1].set_xlabel(key)
    if ticks is not None:
        panels[-1].set_xticks(range(len(ticks)), labels=ticks)
    elif _apart(values := np.unique(at)):
        panels[-1].set_xticks(values, labels=[f"{v:g}" for v in values])
    panels[0].set_title(f"What {key} changes")
    legend_below(canvas, panels[0], columns=2)
    left_out = f" {len(lines) - MAX_LINES} more lines are left out." if len(lines) > MAX_LINES else ""
    return save(
        canvas, folder, f"response_{file_name(key)}", alt=_curves_alt(points, key, shown), caption=_CURVES + left_out
    )


def _apart(values: NDArray[np.float64]) -> bool:
    """Return whether a label can stand at each value without touching its neighbours."""
    return len(values) > 1 and float(np.diff(values).min()) >= 0.09 * float(np.ptp(values))


_CURVES = (
    "Each panel is one answer of the sweep; the bands are the intervals of its figures, cut at the edge where they "
    "would dwarf them. The dashed line is the budget. A triangle at the upper edge is a figure without "
    "a bound; points without a mark are infeasible or not known."
)


def _draw_line(
    axes: Axes, x: NDArray[np.float64], rows: pd.DataFrame, response: Response, *, colour: str, label: str
) -> None:
    order = np.argsort(x, kind="stable")
    x = x[order]
    y, low, high = (
        response.scale * rows[f"{response.column}{end}"].to_numpy(dtype=float)[order] for end in ("", "_low", "_high")
    )
    finite = np.isfinite(y)
    axes.plot(x[finite], y[finite], color=colour, marker="o", markersize=4, linewidth=1.5, label=label or None)
    known = finite & np.isfinite(low) & np.isfinite(high)
    axes.fill_between(x[known], low[known], high[known], color=colour, alpha=0.15, linewidth=0)
    for place in x[np.isposinf(y)]:
        axes.plot(place, 0.97, marker="^", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)


def _finish(axes: Axes, response: Response, points: pd.DataFrame) -> None:
    if is_wide(points, response):
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    if (ends := span(points, response)) is not None:
        axes.set_ylim(*ends)
    if response.bound is not None:
        axes.axhline(response.bound, color=BUDGET, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_ylabel(response.words, fontsize=9)
    axes.grid(visible=True, axis="y")
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def places(values: pd.Series[Any]) -> tuple[NDArray[np.float64], list[str] | None]:
    """Return where the values stand on an axis, and their names where they are no numbers."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=float), None
    names = list(dict.fromkeys(values.astype(str)))
    return np.array([names.index(str(v)) for v in values], dtype=float), [
        n if len(n) < 24 else f"{n[:22]}…" for n in names
    ]


def lines_of(points: pd.DataFrame, others: Sequence[str]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield a label and the rows of each combination of the other keys."""
    if not others:
        yield "", np.arange(len(points))
        return
    for values, rows in points.groupby(list(others), sort=False).indices.items():
        parts = values if isinstance(values, tuple) else (values,)
        yield ", ".join(f"{_short(k)} = {v}" for k, v in zip(others, parts, strict=True)), np.asarray(rows)


def _curves_alt(points: pd.DataFrame, key: str, shown: Sequence[Response]) -> str:
    words = []
    for response in shown:
        values = response.scale * points[response.column].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            name = response.words.replace("\n", " ")
            words.append(f"{name} from {number(float(values.min()))} to {number(float(values.max()))}")
    return f"Lines over {key} at {len(points)} points: {'; '.join(words) or 'nothing is known'}."


def _draw_heat_map(points: pd.DataFrame, pair: tuple[str, str], varied: Sequence[str], folder: Path) -> Figure:
    """Draw how much of its tightest budget every pair of values uses; the other keys stay at their base."""
    base = points.iloc[0]
    here = points
    for key in varied:
        here = here if key in pair else here[here[key] == base[key]]
    (rows, row_at), (columns, column_at) = (_levels(here[key]) for key in pair)
    use = 100 * _worst_use(here)
    grid = np.full((len(rows), len(columns)), np.nan)
    grid[row_at, column_at] = use
    canvas, axes = new_canvas(1.6 + 0.42 * len(rows))
    axes.imshow(np.clip(grid, 0, 200), cmap=_PALE, vmin=0, vmax=200, aspect="auto")
    for r, c, value, status in zip(row_at, column_at, use, here["status"], strict=True):
        axes.text(c, r, _cell(value, str(status)), ha="center", va="center", fontsize=8, color=_ON_PALE)
    axes.set_xticks(range(len(columns)), labels=columns)
    axes.set_yticks(range(len(rows)), labels=rows)
    axes.grid(visible=False)
    axes.set(xlabel=pair[1], ylabel=pair[0], title="Use of the tightest budget, %")
    key = f"heat_{file_name(pair[0])}_{file_name(pair[1])}"
    n_hold = int((here["status"] == "holds").sum())
    alt = f"A grid of {pair[0]} by {pair[1]}: at {n_hold} of {len(here)} points every budget holds."
    return save(canvas, folder, key, alt=alt, caption=_HEAT)


# The cells are pale on every page, so what is written in them stays dark.
_PALE = ListedColormap(0.25 + 0.75 * mpl.colormaps["RdYlGn_r"](np.linspace(0, 1, 256))[:, :3])
_ON_PALE = "#1f2934"
_HEAT = (
    "Each cell is a point: how much of the budget that is nearest to breaking it uses, in percent, and its verdict "
    "(✓ holds, ✗ violated, ? undecided). Above 100 the budget is broken; ∞ has no bound; other keys are at their base."
)
_MARKS = {"holds": "✓", "violated": "✗", "undecided": "?"}


def _cell(use: float, status: str) -> str:
    if status == "infeasible":
        return "none fits"
    text = "–" if np.isnan(use) else "∞" if np.isinf(use) else f"{use:.0f}" if use < 1000 else f"{use:.1e}"
    return f"{text} {_MARKS.get(status, '')}".strip()


def _worst_use(points: pd.DataFrame) -> NDArray[np.float64]:
    return points[["delay_use", "energy_use"]].max(axis=1).to_numpy(dtype=float)


def _levels(values: pd.Series[Any]) -> tuple[list[str], NDArray[np.intp]]:
    names = list(dict.fromkeys(values.astype(str)))
    return names, np.array([names.index(str(v)) for v in values], dtype=np.intp)


def pareto_front(points: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which points no other beats: at least as accurate, as quick and as sparing, and better in one.

    A point with an unknown or infinite figure is not on the front; energy counts where all the others know it.

    >>> pareto_front(pd.DataFrame({"accuracy": [0.5, 0.4, 0.3], "delay_s": [9.0, 2.0, 3.0],
    ...     "energy_j_per_request": [5.0, 5.0, 5.0]})).tolist()
    [True, True, False]
    """
    costs = np.stack(
        [
            -points["accuracy"].to_numpy(float),
            points["delay_s"].to_numpy(float),
            points["energy_j_per_request"].to_numpy(float),
        ],
        axis=1,
    )
    if np.isnan(costs[:, 2]).all():
        costs[:, 2] = 0.0
    known = np.isfinite(costs).all(axis=1)
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)  # [i, j]: i is no worse than j
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    beaten = (no_worse & better & known[:, None]).any(axis=0)
    return np.asarray(known & ~beaten)


def _draw_front(points: pd.DataFrame, varied: Sequence[str], folder: Path) -> Figure:
    """Draw accuracy against delay, energy as colour; what no other point beats has a ring and a name."""
    canvas, axes = new_canvas(4.2)
    x, y = (points[c].to_numpy(dtype=float) for c in ("delay_s", "accuracy"))
    energy = points["energy_j_per_request"].to_numpy(dtype=float)
    known = np.isfinite(x) & np.isfinite(y)
    front = pareto_front(points)
    plain = known & ~np.isfinite(energy)
    axes.scatter(x[plain], 100 * y[plain], s=26, color=GREY, zorder=2)
    coloured = known & np.isfinite(energy)
    if coloured.any():
        marks = axes.scatter(x[coloured], 100 * y[coloured], c=energy[coloured], cmap="viridis_r", s=30, zorder=3)
        marks.set(edgecolors=MUTED, linewidths=0.6)  # the darkest and the palest are seen on any page
        canvas.colorbar(marks, ax=axes, label="energy, J per request", shrink=0.8)
    axes.scatter(x[front], 100 * y[front], s=90, facecolors="none", edgecolors=INK, linewidths=1.2, zorder=4)
    for i in np.flatnonzero(front)[:12]:
        words = ", ".join(f"{_short(k)} {points[k].iloc[i]}" for k in varied)
        axes.annotate(words, (x[i], 100 * y[i]), (6, 5), textcoords="offset points", fontsize=7.5, color=MUTED)
    if known.any() and x[known].max() > 20 * x[known].min() > 0:
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    statistic = points["delay_statistic"].iloc[0]
    axes.grid(visible=True, axis="both")
    axes.set(xlabel=f"delay {statistic} over all requests, s", ylabel="accuracy, %", title="Accuracy, delay and energy")
    alt = f"Accuracy against delay at {int(known.sum())} points; {int(front.sum())} of them are beaten by no other."
    if front.any():
        best = points[front].sort_values("accuracy").iloc[-1]
        alt += f" The most accurate has {percent(float(best['accuracy']))} at {number(float(best['delay_s']))} s."
    return save(canvas, folder, "pareto", alt=alt, caption=_FRONT)


_FRONT = (
    "Each dot is a point of the sweep. A ring marks those that no other point beats in accuracy, delay and energy at "
    "once; which of them is best is a choice. Points without a bounded delay are not drawn."
)


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def file_name(key: str) -> str:
    """Return a key as part of the name of a file.

    >>> file_name("experts[0].max_batch")
    'experts_0__max_batch'
    """
    return "".join(c if c.isalnum() else "_" for c in key).strip("_")
