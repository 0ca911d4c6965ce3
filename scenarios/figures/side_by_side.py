"""Pictures of several runs side by side: their delay curves, delay by category, and energy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scenarios.figures.delays import curve, scale_seconds
from scenarios.figures.following import paler
from scenarios.figures.style import (
    BLUE,
    BUDGET,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    Figure,
    Vector,
    house_style,
    legend_below,
    name_rows,
    new_canvas,
    rows_height_in,
    save,
)
from scenarios.figures.views import delay_table, device_table, floats, judged_requests
from scenarios.story.numbers import number, quantity
from scenarios.story.story import Story

__all__ = ["draw_side_by_side"]

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY, INK)
_MARKERS = "osD^vPX"


def draw_side_by_side(stories: Mapping[str, Story], folder: Path, *, vector: Vector | None = None) -> list[Figure]:
    """Draw runs side by side as PNG files in `folder`, which is made where it is missing; same runs, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with house_style(vector):
        return [draw(stories, folder) for draw in (_draw_curves, _draw_categories, _draw_energy)]


def _draw_curves(stories: Mapping[str, Story], folder: Path) -> Figure:
    canvas, axes = new_canvas(4.0)
    delays_s = {name: floats(judged_requests(story)["delay_s"]) for name, story in stories.items()}
    answered = np.concatenate([d[np.isfinite(d)] for d in delays_s.values()])
    budgets_s = [b for story in stories.values() for b in story.delay_budgets_s.values()]
    right_s = 1.05 * max(float(np.quantile(answered, 0.995)) if answered.size else 0.0, *budgets_s, 1e-3)
    for i, (name, found) in enumerate(delays_s.items()):
        curve(axes, found, right_s, color=_COLOURS[i % len(_COLOURS)], width=2.4 if i == 0 else 1.7, label=name)
    axes.grid(visible=True, axis="both")
    axes.set(ylim=(0, 103), title="How many answers come within a given time", ylabel="% of requests answered")
    scale_seconds(axes, min([right_s, *budgets_s]), right_s)
    legend_below(canvas, axes, columns=2)
    words = ", ".join(f"{name} {100 * np.mean(np.isfinite(d)):.3g} %" for name, d in delays_s.items() if d.size)
    alt = f"Rising curves of the share of requests answered against seconds, one per run. They end at: {words}."
    return save(canvas, folder, "delay_curves", alt=alt, caption=_CURVES)


_CURVES = (
    "The share of judged requests answered within the seconds on the axis, all times that a run was made together. The "
    "curve further left and up is the quicker plant; one that ends below 100 % leaves the rest unanswered."
)


def _draw_categories(stories: Mapping[str, Story], folder: Path) -> Figure:
    found = {name: delay_table(story).set_index("category") for name, story in stories.items()}
    names = list(dict.fromkeys(c for table in found.values() for c in table.index.astype(str)))
    canvas, axes = new_canvas(max(2.8, rows_height_in(len(names), per_row_in=0.33)))
    seconds = np.array(
        [[table[c].get(n, np.nan) for c in ("judged_s", "budget_s")] for table in found.values() for n in names]
    )
    finite = seconds[np.isfinite(seconds) & (seconds > 0)]
    right_s = 1.1 * float(finite.max()) if finite.size else 1.0
    height = 0.5 / max(len(found), 1)
    for i, (name, table) in enumerate(found.items()):
        rows = np.arange(len(names)) + (i - (len(found) - 1) / 2) * height
        judged_s, budget_s = (floats(table[c].reindex(names)) for c in ("judged_s", "budget_s"))
        endless = np.isposinf(judged_s)
        axes.plot(
            np.where(endless, np.nan, judged_s),
            rows,
            _MARKERS[i % 7],
            color=_COLOURS[i % 7],
            ms=5.5,
            label=name,
            zorder=3,
        )
        if endless.any():  # no marks at all would leave the layout without a bound
            axes.plot(np.full(endless.sum(), right_s), rows[endless], ">", color=_COLOURS[i % 7], ms=6, clip_on=False)
        axes.plot(budget_s, rows, "|", color=BUDGET, ms=9, mew=2, label="budget" if i == 0 else None, zorder=2)
    name_rows(axes, names)
    axes.set_title("Delay by category")
    scale_seconds(axes, float(finite.min()) if finite.size else 1.0, right_s)
    legend_below(canvas, axes, columns=3)
    alt = f"Marks of delay in {len(names)} categories, one per run: {', '.join(found)}. The numbers are in the table."
    return save(canvas, folder, "delay_categories", alt=alt, caption=_CATEGORIES)


_CATEGORIES = (
    "The statistic that each run's budgets speak of, by category, and the budgets. A triangle at the right edge: more "
    "requests unanswered than the statistic leaves out. All times that a run was made are taken together."
)


def _draw_energy(stories: Mapping[str, Story], folder: Path) -> Figure:
    canvas, axes = new_canvas(max(2.8, rows_height_in(len(stories), per_row_in=0.5)))
    ends = []
    for row, story in enumerate(stories.values()):
        table, left = device_table(story), 0.0
        for part, colour in (("busy_j", BLUE), ("idle_j", paler(BLUE)), ("overhead_j", ORANGE)):
            width = float(np.nansum(floats(table[part])))
            axes.barh(
                row, width, left=left, height=0.6, color=colour, zorder=2, label=_PARTS[part] if row == 0 else None
            )
            left += width
        ends.append((left, bool(table["all_j"].notna().all())))
    for row, (end, whole) in enumerate(ends):
        words = quantity(end, "J") if whole else "more, not known in full"
        axes.annotate(words, (end, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
    name_rows(axes, list(stories))
    axes.set(xlim=(0, 1.25 * max(*(e for e, _ in ends), 1e-9)), xlabel="joules per request", title="Energy per request")
    legend_below(canvas, axes, columns=3)
    words = ", ".join(f"{name} {number(end)} J" for name, (end, _) in zip(stories, ends, strict=True))
    return save(canvas, folder, "energy_by_run", alt=f"Stacked bars of joules per request: {words}.", caption=_ENERGY)


_PARTS = {"busy_j": "busy", "idle_j": "idle, kept warm", "overhead_j": "overhead"}
_ENERGY = "The energy of all devices in a run, divided by the requests it served, averaged over all times it was made."
