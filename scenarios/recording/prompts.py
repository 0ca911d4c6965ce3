"""What is sent for a leg: random token ids of its exact length, or the text of its question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.runtimes.stream import request_body
from scenarios.runs.replicating import Load

__all__ = ["Prompts", "Served", "read_questions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server says of its model: the name it goes by and how many token ids it has."""

    model: str | None
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of one replication; `question_id` (n requests) is None where the load has none."""

    load: Load
    served: Sequence[Served]  # of each expert
    question_id: NDArray[np.int64] | None = None
    texts: Mapping[int, str] | None = None

    def body(self, leg: int) -> tuple[bytes, int | None]:
        """Return the request body of a leg and the prompt tokens in it, None for a text.

        Random ids are of (seed, request): a request asks its experts the same, and no two requests share a prefix
        that a server could have kept.
        """
        legs = self.load.legs
        request, expert = int(legs.request[leg]), self.served[int(legs.expert[leg])]
        output_tokens, n = int(legs.output_tokens[leg]), int(legs.prompt_tokens[leg])
        if self.texts is not None and self.question_id is not None:
            return request_body(expert.model, self.texts[int(self.question_id[request])], output_tokens), None
        low = min(100, expert.vocabulary // 4)  # the first ids are control tokens in many vocabularies
        chance = np.random.default_rng([self.load.seed, request])
        return request_body(expert.model, chance.integers(low, expert.vocabulary, n).tolist(), output_tokens), n

    def check(self) -> None:
        """Raise ValueError unless every question of the load has its text."""
        if self.texts is None:
            return
        if self.question_id is None:
            raise ValueError("--questions: this load draws no questions, so its prompts are token ids; leave it out")
        if missing := sorted(set(self.question_id.tolist()) - set(self.texts)):
            raise ValueError(f"--questions: {len(missing)} questions of the load have no text, {missing[0]} among them")


def read_questions(path: Path) -> dict[int, str]:
    """Return the texts of a JSONL file by question: one object per line, with question_id and prompt.

    Raises ValueError naming the file, the line and what is wrong with it.
    """
    texts: dict[int, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read as questions ({why})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key, text = row["question_id"], row["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: needs a JSON object with question_id and prompt ({error})"
            ) from None
        if not isinstance(key, int) or not isinstance(text, str) or not text:
            raise ValueError(
                f"{path}, line {number}: question_id must be an integer and prompt a text that is not empty"
            )
        texts[key] = text
    if not texts:
        raise ValueError(f"{path}: holds no question; write one JSON object per line, with question_id and prompt")
    return texts
