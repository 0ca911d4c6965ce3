"""The answer to a planner's question: one sentence, the numbers behind it, and what else must be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a question comes to.

    Attributes:
        question: the question, in a planner's words.
        sentence: the answer, one sentence that stands alone.
        numbers: its figures with their intervals, plain values that JSON holds; None where not known or without bound.
        notes: what else must be said, a sentence each.
    """

    question: str
    sentence: str
    numbers: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the answer as values that JSON holds.

        >>> Answer(question="How much?", sentence="3 J.", numbers={"joules": 3.0, "high": float("inf")}).plain()
        {'question': 'How much?', 'answer': '3 J.', 'numbers': {'joules': 3.0, 'high': None}, 'notes': []}
        """
        return {
            "question": self.question,
            "answer": self.sentence,
            "numbers": _plain(self.numbers),
            "notes": list(self.notes),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value
