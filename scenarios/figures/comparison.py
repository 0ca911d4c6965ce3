"""Pictures of two runs beside each other: both distributions, and the error of every request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import PercentFormatter

from scenarios.figures.style import BLUE, INK, ORANGE, SKY, Figure, house_style, legend_below, new_canvas, save
from scenarios.story.numbers import count

__all__ = ["draw_comparison"]

_MOST_POINTS = 2000
_TITLES = {"ttft": "Time to the first token", "leg": "Time at the server", "e2e": "Time to the whole answer"}


def draw_comparison(pairs: pd.DataFrame, folder: Path) -> list[Figure]:
    """Draw two figures for each quantity in `pairs` (columns quantity, unit, real, twin; one row a pair)."""
    with house_style():
        return [
            figure
            for quantity, rows in pairs.groupby("quantity", sort=False)
            for figure in (_distributions(str(quantity), rows, folder), _errors(str(quantity), rows, folder))
        ]


def _distributions(quantity: str, rows: pd.DataFrame, folder: Path) -> Figure:
    """Draw the share of requests that took no longer, measured and simulated."""
    canvas, axes = new_canvas(3.2)
    unit = rows["unit"].iloc[0]
    for side, words, colour in (("real", "measured", INK), ("twin", "simulated", BLUE)):
        sns.ecdfplot(x=rows[side], ax=axes, color=colour, label=words, linewidth=1.8)
    axes.set(xlabel=f"{_TITLES[quantity].lower()}, {unit}", ylabel="share of requests")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(_TITLES[quantity])
    legend_below(canvas, axes, columns=2)
    medians = f"{rows['real'].median():.3g} {unit} measured and {rows['twin'].median():.3g} {unit} simulated"
    return save(
        canvas,
        folder,
        f"{quantity}_distribution",
        alt=f"Two rising curves, the shares of {len(rows)} requests by time; medians {medians}.",
        caption="Of what both runs served: where the curves lie on each other it took alike, gaps are the errors.",
    )


def _errors(quantity: str, rows: pd.DataFrame, folder: Path) -> Figure:
    """Draw the relative error of each request against its measured value."""
    canvas, axes = new_canvas(3.2)
    unit = rows["unit"].iloc[0]
    known = rows[rows["real"] > 0]
    errors = known["twin"] / known["real"] - 1.0
    shown = slice(None, None, -(-len(known) // _MOST_POINTS) or 1)  # in even steps: every one is a mark of the page
    sns.scatterplot(
        x=known["real"].iloc[shown],
        y=errors.iloc[shown],
        ax=axes,
        color=SKY,
        s=14,
        linewidth=0,
        alpha=0.7,
        label="one request",
        legend=False,
    )
    middle = float(errors.median()) if len(errors) else np.nan
    axes.axhline(0.0, color=INK, linewidth=1.0, label="no error")
    axes.axhline(middle, color=ORANGE, linewidth=1.6, linestyle="--", label="median error")
    axes.set(xlabel=f"measured, {unit}", ylabel="simulated against measured")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(f"{_TITLES[quantity]}: error of each request")
    legend_below(canvas, axes, columns=3)
    n, n_shown = len(known), len(errors.iloc[shown])
    some = f" {count(n_shown)} of {count(n)} are drawn, in even steps of their arrival." if n_shown < n else ""
    return save(
        canvas,
        folder,
        f"{quantity}_errors",
        alt=f"Scatter of the relative errors of {n} requests; the median is {middle:+.1%}.",
        caption=f"Each point is a request; above zero the simulation is slower than the measurement.{some}",
    )
