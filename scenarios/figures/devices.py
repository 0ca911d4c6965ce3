"""Pictures of the devices: their energy, how busy they are, and the requests in the system over time."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from scenarios.figures.following import paler
from scenarios.figures.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    RULE,
    Figure,
    hardware_colours,
    legend_below,
    name_rows,
    new_canvas,
    rows_height_in,
    save,
)
from scenarios.figures.views import Floats, device_table, floats, in_system
from scenarios.story.numbers import clock, quantity
from scenarios.story.story import Story


def draw_energy_by_device(story: Story, folder: Path) -> Figure:
    """Draw the joules per request of every device, busy, idle and overhead, with the provenance of the figure."""
    table = device_table(story)
    canvas, axes = new_canvas(rows_height_in(len(table), per_row_in=0.42))
    rows = np.arange(len(table))
    busy, idle, overhead = (np.nan_to_num(floats(table[name])) for name in ("busy_j", "idle_j", "overhead_j"))
    colours = _row_colours(story, table)
    axes.barh(rows, busy, height=0.62, color=colours, zorder=2)
    axes.barh(rows, idle, left=busy, height=0.62, color=[paler(c) for c in colours], zorder=2)
    if overhead.any():
        axes.barh(rows, overhead, left=busy + idle, height=0.62, color="white", edgecolor=INK, hatch="////", zorder=2)
    most = float((busy + idle + overhead).max(initial=0.0))
    _label_energy(axes, table, busy + idle + overhead)
    _energy_legend(axes, story, table, overhead=bool(overhead.any()))
    name_rows(axes, table["device"].astype(str).tolist())
    axes.set(xlim=(0, 1.5 * most or 1.0), xlabel="joules per request", title="Energy by device")
    if not most:  # nothing is known: there is nothing to read off a scale
        axes.set_xticks([])
    legend_below(canvas, axes, columns=2)
    return save(canvas, folder, "energy_by_device", alt=_energy_alt(table), caption=_ENERGY_CAPTION)


_ENERGY_CAPTION = (
    "The energy of each device in a run, divided by the requests it served, averaged over runs. Dark: while it "
    "works. Pale: while it waits for work, kept warm. The word beside a bar says where the figure comes from."
)


def _row_colours(story: Story, table: pd.DataFrame) -> list[str]:
    colours = hardware_colours(story.profiles["hardware"].astype(str).tolist())
    return [colours.get(str(kind), GREY) for kind in table["hardware"]]


def _label_energy(axes: Axes, table: pd.DataFrame, ends: Floats) -> None:
    known = ~np.isnan(floats(table["all_j"]))
    for row, end in enumerate(ends):
        provenance = table["energy"].iloc[row]
        missing = "more, not known in full" if end > 0 else "not known"
        words = f"{quantity(end, 'J')} · {provenance}" if known[row] else missing
        axes.annotate(words, (end, row), (5, 0), textcoords="offset points", va="center", fontsize=9, color=MUTED)


def _energy_legend(axes: Axes, story: Story, table: pd.DataFrame, *, overhead: bool) -> None:
    used = table["hardware"].dropna().astype(str).unique()
    colours = hardware_colours(story.profiles["hardware"].astype(str).tolist())
    for kind in used:
        axes.barh([np.nan], [np.nan], color=colours[kind], label=f"{kind}, busy")
        axes.barh([np.nan], [np.nan], color=paler(colours[kind]), label=f"{kind}, idle")
    if overhead:
        axes.barh([np.nan], [np.nan], color="white", edgecolor=INK, hatch="////", label="overhead")


def _energy_alt(table: pd.DataFrame) -> str:
    known = table[~np.isnan(floats(table["all_j"]))]
    if known.empty:
        return "The energy of no device is known."
    most = known.loc[known["all_j"].idxmax()]
    unknown = table.loc[table["all_j"].isna(), "device"].astype(str).tolist()
    tail = f" Not known: {', '.join(unknown)}." if unknown else ""
    return (
        f"Stacked bars of joules per request, busy and idle, for {len(table)} devices. Most: {most['device']} with "
        f"{quantity(float(most['all_j']), 'J')}.{tail}"
    )


def draw_utilisation(story: Story, folder: Path) -> Figure:
    """Draw the share of time that every device is busy, with one dot per run."""
    table = device_table(story)
    order = table["device"].astype(str).tolist()
    canvas, axes = new_canvas(rows_height_in(len(table), per_row_in=0.42))
    percent = 100 * floats(table["utilisation"])
    axes.barh(range(len(table)), np.nan_to_num(percent), height=0.62, color=_row_colours(story, table), zorder=2)
    runs = story.devices.assign(percent=100 * floats(story.devices["utilisation"]), device=story.devices["device"])
    if order:
        sns.stripplot(
            data=runs,
            x="percent",
            y="device",
            order=order,
            jitter=False,
            color=INK,
            size=4,
            alpha=0.7,
            ax=axes,
            zorder=3,
        )
    for row, value in enumerate(percent):
        axes.annotate(f"{value:.0f} %", (101, row), va="center", fontsize=9, color=MUTED, annotation_clip=False)
    name_rows(axes, order)
    axes.set(xlim=(0, 100), xlabel="% of the run in which the device works", ylabel="", title="Utilisation")
    words = ", ".join(f"{name} {value:.0f} %" for name, value in zip(order, percent, strict=True))
    alt = f"Bars of utilisation by device: {words}." if order else "There is no device to show."
    return save(canvas, folder, "utilisation", alt=alt, caption=_UTILISATION_CAPTION)


_UTILISATION_CAPTION = (
    "The share of a run in which a device works, warm-up included: the bar is the mean over runs, each dot one run. "
    "Above about 80 % queues grow quickly with a little more load."
)


def draw_in_system(story: Story, folder: Path) -> Figure:
    """Draw the number of requests in the system over time, each run a line, the warm-up shaded."""
    table, (unit_s, unit) = in_system(story), clock(story.duration_s)
    canvas, axes = new_canvas(3.2)
    if story.warmup_s > 0:
        axes.axvspan(0, story.warmup_s / unit_s, color=RULE, zorder=0, label="warm-up, not judged")
    for number, (_, run) in enumerate(table.groupby("replication", sort=True)):
        label = None if number else "each run"
        axes.plot(run["at_s"] / unit_s, run["n"], color=BLUE, alpha=0.6, linewidth=1, label=label)
    last_s = max(float(table["at_s"].max()) if len(table) else 0.0, 1.01 * story.duration_s)  # the line at the end too
    axes.set_xlim(0, last_s / unit_s)
    axes.grid(visible=True, axis="both")
    axes.axvline(story.duration_s / unit_s, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="arrivals stop")
    axes.set_ylim(0, None)
    axes.set(xlabel=f"{unit} from the start", ylabel="requests", title="Requests in the system")
    legend_below(canvas, axes, columns=3)
    most = float(table["n"].max()) if len(table) else 0.0
    alt = f"Lines of the number of requests in the system over time, one per run; the highest point is {most:.3g}."
    return save(canvas, folder, "in_system", alt=alt, caption=_SYSTEM_CAPTION)


_SYSTEM_CAPTION = (
    "Requests asked and not yet answered, averaged over short windows. Lines that stay level mean that the plant keeps "
    "up; lines that climb until arrivals stop mean that it does not: with a longer run the delays above would grow."
)
