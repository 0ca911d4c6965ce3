"""A question that a sweep answers, beside its tables: one sentence, a page and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from scenarios.figures import Figure, Vector
    from scenarios.story.answer import Answer

__all__ = ["ANSWER", "PAGE", "Question"]

ANSWER, PAGE = "answer.json", "answer.html"

Tables = Mapping[str, "pd.DataFrame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How the tables of a sweep become an answer.

    Attributes:
        name: the command that asks it.
        answered: the answer, from the sweep's tables.
        drawn: its pictures, from the table `points`, the folder and the format for papers; None: those of a sweep.
        settings: what the answer depends on beside the points, as JSON holds it.
    """

    name: str
    answered: Callable[[Tables], Answer]
    drawn: Callable[[pd.DataFrame, Path, Vector | None], list[Figure]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
