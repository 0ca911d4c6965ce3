"""The letter of an option in what a model says, and in the probabilities of its first token."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["LETTERS", "letter_in", "letter_shares"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter_shares(top: Sequence[Mapping[str, Any]], n_options: int) -> list[float] | None:
    """Return each option's share among the letters in the first token's alternatives; None when none is a letter.

    >>> letter_shares([{"token": " B", "logprob": -0.5}, {"token": "the", "logprob": -1.0}], 2)
    [0.0, 1.0]
    """
    mass = [0.0] * n_options
    for entry in top:
        token = str(entry.get("token", "")).strip(" \t\n().:*").upper()
        if len(token) == 1 and token in LETTERS[:n_options]:
            mass[LETTERS.index(token)] += math.exp(float(entry["logprob"]))
    total = sum(mass)
    return [m / total for m in mass] if total > 0 else None


def letter_in(text: str, n_options: int) -> int:
    """Return the option that a text names, -1 for none: "answer is (C)", else its first free-standing letter.

    >>> letter_in("The answer is (C).", 4), letter_in("B", 4), letter_in("none of these", 4)
    (2, 1, -1)
    """
    letters = LETTERS[:n_options]
    named = re.search(rf"answer\s*(?:is|:)?\s*\(?([{letters}])\b", text, re.IGNORECASE)
    free = named or re.search(rf"(?<![A-Za-z])([{letters}])(?![A-Za-z'])", text)
    return LETTERS.index(free.group(1).upper()) if free else -1
