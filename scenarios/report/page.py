"""A page put together: template, style, figures and numbers, written in one step."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from calibration.whole_file import write_whole
from scenarios.figures import Figure
from scenarios.figures.following import dark_rules
from scenarios.report.charts import Charts
from scenarios.report.sentences import status_word
from scenarios.story import numbers

__all__ = ["render_page", "write_page"]


def write_page(page: str, path: Path) -> None:
    """Write a page to `path` in one step: a reader finds the whole page or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page.encode())


def render_page(template: str, *, figures: Iterable[Figure], charts: Charts | None = None, **told: Any) -> str:
    """Return a page as text, figures embedded, everything that comes from a planner escaped.

    With `charts` the figures of the same keys are drawn by Plotly where scripts run, from the page alone; in print
    and without scripts the pictures stand. ModuleNotFoundError without the extra `interactive`.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_resource),
    )
    environment.filters.update(count=numbers.count, duration=numbers.duration, number=numbers.number, drawing=_drawing)
    environment.globals.update(status_word=status_word, bound=numbers.bound, known=numbers.known, value=_value)
    return environment.get_template(template).render(
        style=Markup(_resource("report.css").replace("/* figures */", dark_rules())),  # noqa: S704 - our own file
        figures={figure.key: figure for figure in figures},
        **_scripts(charts or {}),
        **told,
    )


def _scripts(charts: Charts) -> dict[str, Any]:
    """Return what the interactive part of a page needs; nothing without charts."""
    if not charts:
        return {"charts": {}}
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an optional extra of five megabytes
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "--interactive needs the extra `interactive`: pip install 'moe2-twin[interactive]'"
        ) from None
    data = json.dumps(charts, allow_nan=False).replace("<", "\\u003c")  # no text of a planner ends the script
    return {
        "charts": charts,
        "charts_json": Markup(data),  # noqa: S704 - escaped above
        "plotly": Markup(get_plotlyjs()),  # noqa: S704 - the library's own file
        "draw": Markup(_resource("interactive.js")),  # noqa: S704 - our own file
    }


def _value(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.4f}".replace("-", numbers.MINUS)


def _resource(name: str) -> str:
    return files("scenarios.report").joinpath(name).read_text(encoding="utf-8")


def _drawing(figure: Figure) -> Markup:
    return Markup(figure.svg)  # noqa: S704 - drawn here, its words escaped
