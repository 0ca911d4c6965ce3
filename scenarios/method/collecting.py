"""From endpoints and questions to an answers table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from moe2.answers import Answers, split_of, text_key_of
from moe2.encoder import TEXT_FORMAT, embed, identity, prompt_text
from scenarios.method.asking import CHARS_PER_TOKEN, SAMPLES, TEMPLATE, ask_all
from scenarios.method.endpoints import Endpoint
from scenarios.method.questions import Question

__all__ = ["collect"]


def collect(
    endpoints: Sequence[Endpoint],
    questions: Sequence[Question],
    log: Path,
    *,
    encoder: Path | None = None,
    progress: Callable[[str, int], None] = lambda _model, _n: None,
) -> Answers:
    """Return the answers table of all endpoints; `log` holds what was answered and makes it resumable.

    `encoder` is a folder of sentence-transformers, the bundled encoder when None. Prompt tokens are the largest count
    that a server reported: the table has one figure per prompt.
    """
    vectors = embed([prompt_text(q.text, q.options) for q in questions], folder=encoder)  # before the long part
    found: list[list[dict[str, Any]]] = [
        ask_all(e, questions, log, progress=lambda n, model=e.model: progress(model, n))  # type: ignore[misc]
        for e in endpoints
    ]
    choice = np.array([[r["choice"] for r in records] for records in found], dtype=np.int8).T  # (n, N)
    keys = np.array([text_key_of(q.text) for q in questions], dtype=np.int64)
    return Answers(
        models=tuple(e.model for e in endpoints),
        question_id=np.array([q.id for q in questions], dtype=np.int64),
        text_key=keys,
        category=np.array([q.category for q in questions]),
        split=split_of(keys),
        prompt_tokens=np.array([max(r["prompt_tokens"] for r in row) for row in zip(*found, strict=True)]),
        n_options=np.array([len(q.options) for q in questions], dtype=np.int8),
        gold=np.array([q.gold for q in questions], dtype=np.int8),
        choice=choice,
        output_tokens=np.array([[r["output_tokens"] for r in records] for records in found]).T,
        embedding=vectors,
        encoder=identity(encoder),
        sources=_sources(endpoints, found, choice),
    )


def _sources(endpoints: Sequence[Endpoint], found: list[list[dict[str, Any]]], choice: Any) -> dict[str, str]:
    sources = {
        "answers": f"moe2 answers collect, {datetime.now(timezone.utc):%Y-%m-%d}",
        "prompt_template": TEMPLATE,
        "embedded_text": TEXT_FORMAT,
    }
    for i, (endpoint, records) in enumerate(zip(endpoints, found, strict=True)):
        sampled = sum(r["how"] == "sampled" for r in records)
        guessed = sum(r.get("counted") == "characters" for r in records)
        counts = f"; tokens of {guessed} counted as {CHARS_PER_TOKEN} characters each" if guessed else ""
        sources[f"model {endpoint.model}"] = (
            f"{endpoint.served_name} at {endpoint.url}, {endpoint.precision}, at most {endpoint.max_tokens} tokens; "
            f"{int((choice[:, i] < 0).sum())} of {len(records)} answers unparsed; {len(records) - sampled} by "
            f"log-probabilities, {sampled} by the most frequent of {SAMPLES} sampled letters{counts}"
        )
    return sources
