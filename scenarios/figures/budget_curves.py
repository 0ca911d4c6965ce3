"""Picture of accuracy against a budget: a line per method, a panel per kind of budget."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scenarios.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Figure,
    house_style,
    new_canvas,
    save,
)
from scenarios.figures.views import floats

_WORDS = {
    "delay_s": ("delay budget, s (worst-case mean of the slowest category)", "Accuracy against the delay budget"),
    "energy_j": ("energy budget, J per request (worst case, idle included)", "Accuracy against the energy budget"),
}
_COLOURS = (ORANGE, GREY, SKY, GREEN, VERMILION, PURPLE, MUTED, INK)
_STYLES = [(colour, dashes) for dashes in ("-", "--", ":") for colour in _COLOURS]  # no two methods look alike


def draw_budget_curves(curves: pd.DataFrame, folder: Path) -> list[Figure]:
    """Draw one PNG per kind of budget in `folder`, which is made where it is missing; the gate's line is bold.

    `curves` is what moe2.curves.budget_curves returns. The same curves give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with house_style():
        return [_draw(curves[curves["kind"] == kind], str(kind), folder) for kind in dict.fromkeys(curves["kind"])]


def _draw(table: pd.DataFrame, kind: str, folder: Path) -> Figure:
    canvas, axes = new_canvas(4.2)
    names = [str(name) for name in dict.fromkeys(table["method"])]
    others = [name for name in names if name != "gate"]
    for name in [*others, *(n for n in names if n == "gate")]:
        style = (BLUE, "-") if name == "gate" else _STYLES[others.index(name) % len(_STYLES)]
        _line(axes, table[table["method"] == name], name, *style)
    label, title = _WORDS[kind]
    axes.set(xlabel=label, ylabel="% of test questions right", title=title)
    axes.grid(visible=True, axis="both")
    handles, labels = axes.get_legend_handles_labels()
    canvas.legend(handles[::-1], labels[::-1], loc="outside lower left", ncols=2)
    return save(canvas, folder, f"accuracy_by_{kind}", alt=_alt(table, title), caption=_CAPTION)


def _line(axes: Axes, rows: pd.DataFrame, name: str, colour: str, dashes: str) -> None:
    bold = name == "gate"
    width, layer = (2.8, 4) if bold else (1.4, 3)
    right = 100 * floats(rows["accuracy"])
    how = {"color": colour, "linestyle": dashes, "linewidth": width, "zorder": layer}
    axes.step(floats(rows["budget"]), right, where="post", label=name, **how)


_CAPTION = (
    "Each method with the experts, and the number of them per prompt, that fit the budget and served it best on "
    "validation prompts; scored on test prompts. Costs are those of an unloaded plant."
)


def _alt(table: pd.DataFrame, title: str) -> str:
    last = table[table["budget"] == table["budget"].max()]
    words = ", ".join(
        f"{row['method']} {100 * row['accuracy']:.1f} %"
        for row in last.to_dict("records")
        if not np.isnan(row["accuracy"])
    )
    return f"{title}; at the largest budget: {words}."
