"""The page itself: template, style, figures and numbers put together and written in one step."""

import base64
import os
import tempfile
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scenarios.figures import Figure
from scenarios.report import tables
from scenarios.report.marks import WIDTH, marks
from scenarios.report.sentences import headline, lede, ranked, status_word
from scenarios.story import numbers
from scenarios.story.story import Story

PROVENANCE = (
    ("measured", "Fitted to recordings of this model on this hardware."),
    ("scaled", "Carried over from a measured model by the bytes of its weights; the error of doing so is stated."),
    ("composed", "Put together from parts of different sources, each named."),
    ("assumed", "No measurement is at hand: a stated value with a stated range. Measure it before relying on it."),
)


def write_report(story: Story, figures: Sequence[Figure], path: Path) -> None:
    """Write the report to `path` in one step: a reader finds the whole page or none."""
    page = render(story, figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as part:
            part.write(page)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def render(story: Story, figures: Iterable[Figure]) -> str:
    """Return the page as text, figures embedded, everything that comes from the story escaped."""
    template = _environment().from_string(_resource("report.html.j2"))
    return template.render(
        story=story,
        style=Markup(_resource("report.css")),  # noqa: S704 - our own file, not a planner's text
        headline=headline(story),
        lede=lede(story),
        rows=_verdict_rows(story),
        mark_width=WIDTH,
        figures={figure.key: figure for figure in figures},
        tables=_tables(story),
        notes=tables.profile_notes(story),
        provenance=PROVENANCE,
    )


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        count=numbers.count, duration=numbers.duration, number=numbers.number, data_uri=_data_uri
    )
    environment.globals.update(status_word=status_word, bound=numbers.bound, known=numbers.known, value=_value)
    return environment


def _value(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.4f}".replace("-", numbers.MINUS)


def _resource(name: str) -> str:
    return files("scenarios.report").joinpath(name).read_text(encoding="utf-8")


def _data_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(figure.path.read_bytes()).decode('ascii')}"


def _verdict_rows(story: Story) -> list[dict[str, Any]]:
    verdicts = ranked(story.verdicts)
    pairs = zip(verdicts, marks(verdicts), strict=True)
    return [
        {
            "verdict": verdict,
            "mark": mark,
            "estimate": tables.estimate_cell(verdict),
            "interval": tables.interval_cell(verdict),
            "budget": numbers.bound(verdict.budget, verdict.unit),
        }
        for verdict, mark in pairs
    ]


def _tables(story: Story) -> dict[str, tables.Table]:
    found = {
        "delays": tables.delays(story),
        "times": tables.times(story),
        "energies": tables.energies(story),
        "utilisations": tables.utilisations(story),
        "accuracies": tables.accuracies(story),
        "profiles": tables.profiles(story),
    }
    if story.subset is not None:
        found["worst_cases"] = tables.worst_cases(story.subset)
        found["runners_up"] = tables.runners_up(story.subset)
        found["left_out"] = tables.left_out(story.subset)
    return found
