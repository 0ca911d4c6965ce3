"""The pool of prompts that requests are drawn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPool:
    """Prompts with known lengths, one row each.

    question_id (n,), category (n,) text, prompt_tokens (n,), output_tokens (n, experts): what each expert of
    the scenario, in its order, generates for the prompt.
    """

    question_id: NDArray[np.int64]
    category: NDArray[np.str_]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.question_id)
        for name in ("category", "prompt_tokens", "output_tokens"):
            found = len(getattr(self, name))
            if found != n:
                raise ValueError(f"prompt pool: {name} has {found} rows beside {n} question ids")
        if self.output_tokens.ndim != 2:
            raise ValueError(f"prompt pool: output_tokens has shape {self.output_tokens.shape}, needs two axes")
        for name in ("prompt_tokens", "output_tokens"):
            if n and (least := int(getattr(self, name).min())) < 1:
                raise ValueError(f"prompt pool: {name} holds {least}, must be at least 1 everywhere")

    def __len__(self) -> int:
        return len(self.question_id)
