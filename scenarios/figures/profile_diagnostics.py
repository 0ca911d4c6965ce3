"""A profile beside what it was fitted on: data, fit, 90 % band, residuals."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, NullLocator

from calibration.diagnostics import Fitted, Panel
from calibration.profile import file_name
from scenarios.figures.style import BLUE, DOTS_PER_IN, GREEN, ORANGE, PURPLE, house_style

_COLOURS = (ORANGE, BLUE, GREEN, PURPLE)
_WIDE = 20.0  # a range whose ends differ by more than this factor is drawn in the logarithm
_MOST_TICKS = 5


def draw_diagnostics(fitted: Fitted, folder: Path) -> Path:
    """Draw the diagnostics of a profile as PNG in `folder`, named as the profile's file is; returns the file."""
    path = folder / file_name(fitted.profile.name).replace(".json", ".png")
    with house_style():
        canvas = Canvas(figsize=(8, 6.5), dpi=DOTS_PER_IN, layout="constrained", facecolor="white")
        FigureCanvasAgg(canvas)
        title = f"{fitted.profile.name}\npoints: data · line: fit · shade: 90 % prediction interval"
        canvas.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
        grid = canvas.subplots(2, len(fitted.panels), sharex="col", height_ratios=(3, 2), squeeze=False)
        for upper, lower, panel in zip(*grid, fitted.panels, strict=True):
            _draw_fit(upper, panel)
            _draw_residuals(lower, panel)
        canvas.savefig(path, metadata={"Software": None})
    return path


def _draw_fit(axes: Axes, panel: Panel) -> None:
    """Draw values over their curves, each curve with its band."""
    unit, scale = _unit(panel)
    for series, colour in zip(panel.series, _COLOURS, strict=False):
        curve = series.curve / scale
        if panel.band is not None:
            low, high = ((1.0 + by) * curve for by in panel.band)
            axes.fill_between(series.curve_x, np.maximum(low, 0.05 * curve), high, color=colour, alpha=0.15, lw=0)
        axes.plot(series.curve_x, curve, color=colour, lw=1.4)
        axes.plot(series.x, series.measured / scale, "o", ms=4, mec="white", mew=0.4, color=colour, label=series.label)
    axes.set(title=panel.title, ylabel=unit)
    _scale(axes, "x", np.concatenate([series.x for series in panel.series]))
    _scale(axes, "y", np.concatenate([series.measured for series in panel.series]) / scale)
    if panel.band is None:
        axes.text(0.98, 0.03, "interval declined", transform=axes.transAxes, fontsize=8, ha="right")
    if len(panel.series) > 1:
        axes.legend(fontsize=8, handletextpad=0.2)


def _draw_residuals(axes: Axes, panel: Panel) -> None:
    axes.axhline(0.0, color="black", lw=0.8)
    if panel.band is not None:
        axes.axhspan(*(100 * by for by in panel.band), color=BLUE, alpha=0.1, lw=0)
    for series, colour in zip(panel.series, _COLOURS, strict=False):
        axes.plot(series.x, 100 * series.residuals, "o", ms=4, mec="white", mew=0.4, color=colour)
    axes.set(xlabel=panel.xlabel, ylabel="data / fit − 1, %")


def _unit(panel: Panel) -> tuple[str, float]:
    """Return the unit of an axis of seconds and how many seconds it is: milliseconds where all values are below 1 s."""
    values = np.concatenate([series.measured for series in panel.series])
    return ("milliseconds", 1e-3) if len(values) and values.max() < 1.0 else ("seconds", 1.0)


def _scale(axes: Axes, which: str, values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> None:
    """Make a wide range logarithmic, with at most five labelled ticks at 1, 2 and 5 so that none meets another."""
    if not len(values) or values.min() <= 0 or values.max() < _WIDE * values.min():
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(_ticks(float(values.min()), float(values.max()))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: _short(value))


def _short(value: float) -> str:
    """Return a tick's number in few letters.

    >>> _short(0.5), _short(200), _short(30_000), _short(1e6)
    ('0.5', '200', '30k', '1M')
    """
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:g}"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high, at most five, evenly in the logarithm.

    >>> _ticks(30, 9000), _ticks(0.1, 3)
    ([30.0, 100.0, 300.0, 1000.0, 3000.0], [0.1, 0.2, 0.5, 1.0, 2.0])
    """
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        found = [round(value, 9) for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) <= _MOST_TICKS:
            return found
    return found[:: -(-len(found) // _MOST_TICKS)]
