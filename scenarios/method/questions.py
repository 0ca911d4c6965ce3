"""The multiple-choice questions that are asked: read from a JSONL file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.method.letters import LETTERS

__all__ = ["Question", "read_questions"]

WRITE = "write one JSON object per line: id, category, question, options, answer (a letter)"
UNNAMED = "general"  # category of a question that names none


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One multiple-choice question."""

    id: int
    category: str
    text: str
    options: tuple[str, ...]
    gold: int  # 0-based


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a JSONL file: id, category, question, options, answer (a letter) on each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file of questions; {WRITE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable text file: {error}") from None
    questions = [_question(line, f"{path}, line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not questions:
        raise ValueError(f"{path}: no question; {WRITE}")
    double = [number for number, n in Counter(q.id for q in questions).items() if n > 1]
    if double:
        raise ValueError(f"{path}: id {double[0]} is used twice; ids must be unique")
    return questions


def _question(line: str, where: str) -> Question:
    try:
        found = json.loads(line)
        options, category = found["options"], found.get("category", UNNAMED)
        letter = str(found["answer"]).strip().upper()
        question = Question(
            id=_id(found["id"]),
            category=category if isinstance(category, str) else "",
            text=found["question"] if isinstance(found["question"], str) else "",
            options=tuple(str(o) for o in options if o is not None) if isinstance(options, list) else (),
            gold=LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS else -1,
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: not a question: {error!r}; needed: id (integer), question, options (a list), answer (a letter), "
            "and category if there are several"
        ) from None
    given = len(options) if isinstance(options, list) else 0
    told = question.text.strip() and question.category.strip()
    if not told or not 2 <= len(question.options) == given <= len(LETTERS) or not 0 <= question.gold < given:
        raise ValueError(
            f"{where}: needs a text, a category that is a text too if it has one, a list of 2 to 26 options, and an "
            "answer that is the letter of one of them"
        )
    return question


def _id(found: Any) -> int:
    """Return an id; ValueError for what is not a whole number of 64 bits."""
    number = int(found) if isinstance(found, (int, str)) and not isinstance(found, bool) else None
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError(f"id is {found!r}")
    return number
