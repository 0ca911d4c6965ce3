"""Pictures of delay: by category against its budget, over all requests, and where the seconds go."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from scenarios.figures.style import (
    BLUE,
    BUDGET,
    GREY,
    INK,
    MUTED,
    PARTS,
    SKY,
    Figure,
    legend_below,
    name_rows,
    new_canvas,
    rows_height_in,
    save,
)
from scenarios.figures.views import (
    Floats,
    delay_table,
    floats,
    judged_requests,
    short_names,
    statistic_share,
    time_table,
)
from scenarios.story.numbers import quantity, unanswered
from scenarios.story.story import Story


def draw_delay_by_category(story: Story, folder: Path) -> Figure:
    """Draw the spread of delay in every category, tightest first, with the judged figure and the budget."""
    table = delay_table(story)
    canvas, axes = new_canvas(rows_height_in(len(table), per_row_in=0.33))
    right_s = _right_edge_s(table)
    rows = np.arange(len(table))
    low, high = (np.minimum(floats(table[q]), right_s) for q in ("p5", "p95"))
    axes.hlines(rows, low, high, color=GREY, linewidth=1.6, label="5 % to 95 %", zorder=2)
    low, high = (np.minimum(floats(table[q]), right_s) for q in ("p25", "p75"))
    axes.hlines(rows, low, high, color=SKY, linewidth=8, label="middle half", zorder=3)
    axes.plot(_inside(table["p50"], right_s), rows, "|", color=INK, ms=9, mew=2, label="median", zorder=4)
    judged = _inside(table["judged_s"], right_s)
    whole = {"clip_on": False, "in_layout": False}  # of a diamond at the edge too
    axes.plot(judged, rows, "D", color=BLUE, ms=6, label=story.delay_statistic, zorder=5, **whole)
    budget_s = floats(table["budget_s"])
    if np.isfinite(budget_s).any():
        axes.plot(budget_s, rows, "|", color=BUDGET, ms=17, mew=2.6, label="budget", zorder=6)
    _mark_unanswered(axes, table, right_s, story.delay_statistic)
    name_rows(axes, table["category"].tolist())
    axes.set_title("Delay by category")
    scale_seconds(axes, _left_edge_s(table), right_s)
    legend_below(canvas, axes, columns=5 if len(table) else 1)
    return save(canvas, folder, "delay_by_category", alt=_categories_alt(story, table), caption=_CATEGORY_CAPTION)


_CATEGORY_CAPTION = (
    "Each row is a category, the one that uses most of its budget on top. The diamond is the statistic that budgets "
    "speak of and should stay left of the budget mark; categories without a budget of their own share one and are "
    "judged together. All runs are shown as one; a verdict takes each run by itself."
)


def _left_edge_s(table: pd.DataFrame) -> float:
    seconds = table[["p5", "budget_s"]].to_numpy(dtype=float)
    positive = seconds[np.isfinite(seconds) & (seconds > 0)]
    return float(positive.min()) if positive.size else 1.0


def scale_seconds(axes: Axes, left_s: float, right_s: float) -> None:
    """Set the axis of seconds: linear from zero, logarithmic when it would squeeze the budgets into a corner."""
    words = "seconds from asking to the whole answer"
    if right_s < _LOGARITHMIC_FROM * left_s:
        axes.set(xlim=(0, right_s), xlabel=words)
        return
    axes.set(xscale="log", xlim=(0.8 * left_s, right_s), xlabel=f"{words}, logarithmic")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


_LOGARITHMIC_FROM = 60.0


def _right_edge_s(table: pd.DataFrame) -> float:
    seconds = table[["p95", "judged_s", "budget_s"]].to_numpy(dtype=float)
    finite = seconds[np.isfinite(seconds)]
    return 1.06 * float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def _inside(column: "pd.Series[float]", right_s: float) -> Floats:
    seconds = floats(column)
    return np.where(np.isfinite(seconds) & (seconds <= right_s), seconds, np.nan)


def _mark_unanswered(axes: Axes, table: pd.DataFrame, right_s: float, statistic: str) -> None:
    share = statistic_share(statistic)
    words = unanswered(share)
    for row in np.flatnonzero(np.isposinf(floats(table["judged_s"]))):
        axes.plot(right_s, row, ">", color=BLUE, ms=9, clip_on=False, zorder=6)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.annotate(
            words, (right_s, row), (-9, 0), textcoords="offset points", ha="right", va="center", color=BLUE, fontsize=9,
            bbox=box, zorder=5,
        )  # fmt: skip


def _categories_alt(story: Story, table: pd.DataFrame) -> str:
    if table.empty:
        return "No request arrived after warm-up, so there is no delay to show."
    first = table.iloc[0]
    judged = quantity(first["judged_s"], "s") if np.isfinite(first["judged_s"]) else "not finite"
    against = f" against a budget of {first['budget_s']:g} s" if np.isfinite(first["budget_s"]) else ", no budget"
    return (
        f"Horizontal ranges of delay in {len(table)} categories. Most of its budget is used by {first['category']}: "
        f"{story.delay_statistic} {judged}{against}. The numbers are in the table below."
    )


def draw_delay_curve(story: Story, folder: Path) -> Figure:
    """Draw the share of requests answered within a number of seconds: all of them, and the tightest category."""
    requests = judged_requests(story)
    canvas, axes = new_canvas(4.0)
    right_s = _curve_edge_s(story, requests)
    for number, (_, run) in enumerate(requests.groupby("replication", sort=True)):
        curve(axes, floats(run["delay_s"]), right_s, color=GREY, width=0.9, label="each run" if not number else None)
    curve(axes, floats(requests["delay_s"]), right_s, color=BLUE, width=2.4, label="all requests")
    _draw_tightest(axes, story, requests, right_s)
    axes.grid(visible=True, axis="both")
    axes.set(ylim=(0, 103), title="How many answers come within a given time", ylabel="% of requests answered")
    scale_seconds(axes, min([right_s, *story.delay_budgets_s.values()]), right_s)
    legend_below(canvas, axes, columns=2)
    return save(canvas, folder, "delay_curve", alt=_curve_alt(requests), caption=_CURVE_CAPTION)


_CURVE_CAPTION = (
    "The share of requests answered within the seconds on the axis. A curve that ends below 100 % leaves the rest "
    "unanswered. The grey curves are single runs: the closer they lie, the less chance matters."
)


def _curve_edge_s(story: Story, requests: pd.DataFrame) -> float:
    delays_s = floats(requests["delay_s"])
    answered = delays_s[np.isfinite(delays_s)]
    slow_s = float(np.quantile(answered, 0.995)) if answered.size else 0.0
    return 1.05 * max(slow_s, *story.delay_budgets_s.values(), 1e-3)


def curve(axes: Axes, delays_s: Floats, right_s: float, *, color: str, width: float, label: str | None) -> None:
    """Draw the share of requests answered within the seconds on the axis; +inf is never answered."""
    answered = np.sort(delays_s[np.isfinite(delays_s)])
    percent = 100 * np.arange(1, answered.size + 1) / max(delays_s.size, 1)
    x, y = np.r_[0, answered, right_s], np.r_[0, percent, percent[-1:] if percent.size else 0]
    inside = x <= right_s
    axes.plot(x[inside], y[inside], drawstyle="steps-post", color=color, linewidth=width, label=label)


def _draw_tightest(axes: Axes, story: Story, requests: pd.DataFrame, right_s: float) -> None:
    table = delay_table(story)
    if table.empty or np.isnan(table["budget_s"].iloc[0]):
        return
    category, budget_s = str(table["category"].iloc[0]), float(table["budget_s"].iloc[0])
    delays_s = floats(requests.loc[requests["category"] == category, "delay_s"])
    curve(axes, delays_s, right_s, color=INK, width=1.6, label=f"{category} (uses most of its budget)")
    axes.axvline(budget_s, color=BUDGET, linewidth=2, label=f"budget of {category}: {budget_s:g} s")
    share = statistic_share(story.delay_statistic)
    if share is not None:
        axes.axhline(100 * share, color=BUDGET, linewidth=1, linestyle=(0, (4, 3)))


def _curve_alt(requests: pd.DataFrame) -> str:
    delays_s = floats(requests["delay_s"])
    if not delays_s.size:
        return "No request arrived after warm-up, so there is no delay to show."
    share = 100 * float(np.mean(np.isfinite(delays_s)))
    return f"Rising curve of the share of requests answered against seconds; it ends at {share:.3g} % of all requests."


def draw_time_parts(story: Story, folder: Path) -> Figure:
    """Draw the mean seconds of each part of a request's slowest leg, and of every expert's legs."""
    table = time_table(story)
    names = _expert_rows(table)
    canvas, axes = new_canvas(rows_height_in(len(table), per_row_in=0.46))
    sns.despine(ax=axes, left=True)
    left: Floats = np.zeros(len(table))
    for part, colour in PARTS.items():
        seconds = np.nan_to_num(floats(table[part]))
        axes.barh(range(len(table)), seconds, left=left, height=0.62, color=colour, label=part, zorder=2)
        left = left + seconds
    for row, (end_s, share) in enumerate(zip(left, floats(table["slowest"]), strict=True)):
        words = quantity(end_s, "s") if np.isnan(share) else f"{quantity(end_s, 's')} · last in {100 * share:.0f} %"
        axes.annotate(words, (end_s, row), (5, 0), textcoords="offset points", va="center", fontsize=9, color=MUTED)
    name_rows(axes, names)
    axes.set(xlim=(0, 1.45 * max(left.max(initial=0.0), 1e-6)), xlabel="seconds, mean", title="Where the time goes")
    legend_below(canvas, axes, columns=4)
    return save(canvas, folder, "time_parts", alt=_parts_alt(table), caption=_PARTS_CAPTION)


_PARTS_CAPTION = (
    "A request is answered when its slowest leg is. The first row follows that leg; the others show all legs of one "
    "expert. Wait is time in the expert's queue; prefill reads the prompt; decode writes the answer. “Last in "
    "40\u202f%” says that 40\u202f% of the requests waited for this expert."
)


def _expert_rows(table: pd.DataFrame) -> list[str]:
    names = short_names(table["expert"])
    devices = table["device"].astype(str)
    pairs = zip(names, devices, strict=True)
    return ["a request's\nslowest leg" if not name else f"{name}\n{device}" for name, device in pairs]


def _parts_alt(table: pd.DataFrame) -> str:
    if table.empty:
        return "No request was answered after warm-up, so there is no time to divide."
    parts = ", ".join(f"{name} {quantity(table[name].iloc[0], 's')}" for name in PARTS)
    return f"Stacked bars of mean seconds. For the leg that a request waits for: {parts}; below, one bar per expert."
