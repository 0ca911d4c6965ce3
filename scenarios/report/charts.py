"""The pictures of a page as Plotly draws them: plain JSON, with the same words and the same colours.

A colour that begins with "--" is one of the page's own, light or dark as the reader has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scenarios.figures.responses import Response, is_wide, responses, span
from scenarios.figures.style import BLUE, BUDGET, GREEN, ORANGE, PURPLE, SKY
from scenarios.figures.sweep import file_name, lines_of, pareto_front, places
from scenarios.figures.views import Floats, delay_table, floats, in_system, judged_requests
from scenarios.story.numbers import clock, number
from scenarios.story.story import Story

__all__ = ["Charts", "comparison_charts", "run_charts", "sweep_charts"]

Charts = Mapping[str, Mapping[str, Any]]
"""Key of a figure to its Plotly figure: data and layout."""

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, BUDGET, "--soft", "--ink")
CURVE_POINTS = 400
LOGARITHMIC_FROM = 300.0  # between the quickest answer and the last
_SECONDS = "seconds from asking to the whole answer"


def run_charts(story: Story) -> Charts:
    """Return the charts of one run: delay by category, delay curves by category, requests in the system over time."""
    return {
        "delay_by_category": _categories(story),
        "delay_curve": _curves({"all requests": judged_requests(story), **_by_category(story)}, hidden_from=3),
        "in_system": _in_system(story),
    }


def comparison_charts(stories: Mapping[str, Story]) -> Charts:
    """Return the chart that compares several runs: their delay curves."""
    return {"delay_curves": _curves({name: judged_requests(story) for name, story in stories.items()})}


def sweep_charts(points: pd.DataFrame, keys: Sequence[str]) -> Charts:
    """Return the charts of a sweep: the response to each key that varies, and the front of accuracy, delay, energy."""
    varied = [key for key in keys if points[key].nunique() > 1]
    charts = {f"response_{file_name(key)}": _response(points, key, varied) for key in varied}
    return {**charts, "pareto": _front(points, varied)} if varied else {}


def _by_category(story: Story) -> dict[str, pd.DataFrame]:
    """Return the judged requests of each category, the one that uses most of its budget first."""
    requests = judged_requests(story)
    return {c: requests[requests["category"] == c] for c in delay_table(story)["category"].astype(str)}


def _curves(groups: Mapping[str, pd.DataFrame], *, hidden_from: int = 99) -> dict[str, Any]:
    data = []
    for i, (name, requests) in enumerate(groups.items()):
        x, y = _curve(floats(requests["delay_s"]))
        line = {"color": COLOURS[i % len(COLOURS)], "width": 2.5 if i == 0 else 1.8, "shape": "hv"}
        shown = True if i < hidden_from else "legendonly"
        hover = "%{y:.1f} % within %{x:.3~g} s"
        data.append(_trace("scatter", name, x, y, mode="lines", line=line, visible=shown, hovertemplate=hover))
    ends = [trace["x"][place] for trace in data if trace["x"] for place in (0, -1)]
    log = {"type": "log" if ends and max(ends) > LOGARITHMIC_FROM * max(min(ends), 1e-9) else "linear"}
    return _chart(data, x=_SECONDS, y="% of requests answered", xaxis=log)


def _curve(delays_s: Floats) -> tuple[Floats, Floats]:
    """Return seconds and the percentage answered within them, thinned to what a screen shows."""
    answered = np.sort(delays_s[np.isfinite(delays_s)])
    percent = 100 * np.arange(1, answered.size + 1) / max(delays_s.size, 1)
    kept = np.unique(np.linspace(0, answered.size - 1, CURVE_POINTS).astype(int)) if answered.size else []
    return answered[kept], percent[kept]


def _categories(story: Story) -> dict[str, Any]:
    table = delay_table(story)
    names = table["category"].astype(str).tolist()
    quartiles = {"q1": "p25", "median": "p50", "q3": "p75", "lowerfence": "p5", "upperfence": "p95"}
    finite = {to: _finite(table[name]) for to, name in quartiles.items()}
    boxes = {"type": "box", "name": "5 % to 95 %, middle half", "y": names, "orientation": "h", **finite}
    judged = _marks(story.delay_statistic, _finite(table["judged_s"]), names, "diamond", BLUE)
    budget = _marks("budget", _finite(table["budget_s"]), names, "line-ns-open", BUDGET)
    data = [{**boxes, "marker": {"color": SKY}, "line": {"width": 1}}, judged, budget]
    return _chart(data, x=_SECONDS, y="", height=140 + 26 * len(names), yaxis={"autorange": "reversed"})


def _marks(name: str, x: list[float | None], y: list[str], symbol: str, colour: str) -> dict[str, Any]:
    marker = {"symbol": symbol, "size": 10, "color": colour, "line": {"width": 2, "color": colour}}
    return _trace("scatter", name, x, y, mode="markers", marker=marker, hovertemplate="%{x:.3~g} s")


def _in_system(story: Story) -> dict[str, Any]:
    unit_s, unit = clock(story.duration_s)
    data = [
        _trace("scatter", f"run {number_ + 1}", run["at_s"] / unit_s, run["n"], mode="lines", line={"width": 1.2})
        for number_, (_, run) in enumerate(in_system(story).groupby("replication", sort=True))
    ]
    return _chart(data, x=f"{unit} from the start", y="requests", colorway=list(COLOURS[:6]))


def _response(points: pd.DataFrame, key: str, varied: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, delay and energy over one key, above each other; a line for each combination of the others."""
    at, ticks = places(points[key])
    lines = list(lines_of(points, [k for k in varied if k != key]))
    data, shown = [], responses(points)
    for panel, response in enumerate(shown, start=1):
        for i, (label, rows) in enumerate(lines):
            data.append(_answer(points.iloc[rows], at[rows], response, label=label, i=i, panel=panel))
    axes: dict[str, Any] = {
        "grid": {"rows": len(shown), "columns": 1, "pattern": "coupled"},
        "showlegend": len(lines) > 1,
    }
    for panel, response in enumerate(shown, start=1):
        log, ends = is_wide(points, response), span(points, response)
        axes[f"yaxis{panel if panel > 1 else ''}"] = {
            "title": {"text": response.words.replace("\n", "<br>"), "font": {"size": 11}},
            "type": "log" if log else "linear",
            "range": ends and [float(f"{np.log10(v) if log else v:.5g}") for v in ends],
        }
    if ticks is not None:
        axes["xaxis"] = {"tickvals": list(range(len(ticks))), "ticktext": ticks}
    bounds = [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": f"y{panel if panel > 1 else ''}",
            "y0": response.bound, "y1": response.bound, "line": {"color": BUDGET, "dash": "dash", "width": 1.2},
        }
        for panel, response in enumerate(shown, start=1) if response.bound is not None
    ]  # fmt: skip
    return _chart(data, x=key, y=None, height=160 + 190 * len(shown), shapes=bounds, **axes)


def _answer(rows: pd.DataFrame, x: Floats, response: Response, *, label: str, i: int, panel: int) -> dict[str, Any]:
    order = np.argsort(x, kind="stable")
    value, low, high = (
        response.scale * rows[f"{response.column}{end}"].to_numpy(dtype=float)[order] for end in ("", "_low", "_high")
    )
    colour = COLOURS[i % len(COLOURS)]
    bars = {"type": "data", "symmetric": False, "thickness": 1, "color": colour}
    error = {**bars, "array": _plain(high - value), "arrayminus": _plain(value - low)}
    status = rows["status"].to_numpy()[order].tolist()
    return _trace(
        "scatter", label or response.words.partition(",")[0], x[order], value, mode="lines+markers", error_y=error,
        line={"color": colour, "width": 1.6}, text=status, hovertemplate="%{x}: %{y:.3~g} (%{text})",
        legendgroup=label, showlegend=panel == 1, yaxis=f"y{panel if panel > 1 else ''}",
    )  # fmt: skip


def _front(points: pd.DataFrame, varied: Sequence[str]) -> dict[str, Any]:
    front = pareto_front(points)
    known = np.isfinite(points[["delay_s", "accuracy"]].to_numpy(dtype=float)).all(axis=1)
    shown = points[known]
    words = [
        "<br>".join(
            [*(f"{k} = {row[k]}" for k in varied), f"{row['status']}", f"{number(row['energy_j_per_request'])} J"]
        )
        for row in shown.to_dict("records")
    ]
    colour = {"color": _finite(shown["energy_j_per_request"]), "colorscale": "Viridis", "reversescale": True}
    bar = {"colorbar": {"title": {"text": "J per request"}, "thickness": 12}}
    rings = {"width": [2.5 if f else 0 for f in front[known]], "color": "--ink"}
    marks = {**colour, **bar, "size": 10, "line": rings}
    data = [
        _trace(
            "scatter", "points", shown["delay_s"], 100 * shown["accuracy"], mode="markers", marker=marks, text=words,
            hovertemplate="%{text}<br>%{x:.3~g} s, %{y:.1f} %", showlegend=False,
        )
    ]  # fmt: skip
    statistic = points["delay_statistic"].iloc[0]
    log = {"type": "log" if _spans(shown["delay_s"]) else "linear"}
    return _chart(data, x=f"delay {statistic} over all requests, s", y="accuracy, %", xaxis=log)


def _spans(values: pd.Series[float]) -> bool:
    """Whether a linear axis would squeeze most of the values into a corner."""
    known = [v for v in values.to_numpy(dtype=float).tolist() if np.isfinite(v) and v > 0]
    return bool(known) and max(known) > 20 * min(known)


def _trace(kind: str, name: str, x: Any, y: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "x": _plain(x), "y": _plain(y), **more}


def _chart(data: list[dict[str, Any]], *, x: str, y: str | None, height: int = 420, **more: Any) -> dict[str, Any]:
    axes: dict[str, Any] = {"xaxis": {"title": {"text": x}, **more.pop("xaxis", {})}}
    if y is not None:
        axes["yaxis"] = {"title": {"text": y}, "automargin": True, **more.pop("yaxis", {})}
    below = 18 * ((len(data) + 1) // 2 if len(data) > 6 else 2)  # pixels that the legend takes on a narrow screen
    legend = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0.01}
    margin = {"t": 36, "r": 20, "b": 50 + below}
    return {"data": data, "layout": {"height": height + below, "legend": legend, "margin": margin, **axes, **more}}


def _finite(values: pd.Series[float]) -> list[float | None]:
    return _plain(values.to_numpy(dtype=float, na_value=np.nan))


def _plain(values: Any) -> list[Any]:
    """Return values that JSON can hold; what is not finite is null, numbers have five digits."""
    return [
        (float(f"{v:.5g}") if np.isfinite(v) else None) if isinstance(v, float | np.floating) else v
        for v in (values.tolist() if hasattr(values, "tolist") else list(values))
    ]
