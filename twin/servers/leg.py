"""Legs, as the servers of the `simpy` engine see them."""

from dataclasses import dataclass, field
from math import isnan, nan

from simpy import Event


@dataclass(slots=True, eq=False, kw_only=True)
class Leg:
    """One request on one expert. Instants in seconds, NaN until they are reached.

    `rank` orders legs that arrive together; the factors are the noise on its prompt and on the iterations that it
    runs in. While it decodes, `last_iteration` is the server's iteration that makes its last token.
    """

    rank: int
    prompt_tokens: int
    output_tokens: int
    prefill_factor: float
    decode_factor: float
    done: Event
    arrived_s: float = nan
    started_s: float = nan
    first_token_s: float = nan
    finished_s: float = nan
    energy_j: float = 0.0
    status: str = "unfinished"
    reason: str | None = None
    generated: int = 0  # tokens, when it last began to wait or to decode
    prefilled: int = 0  # tokens of prompt (and output, after a preemption) that are in memory; `chunked` counts them
    last_iteration: int = -1  # -1: it does not decode
    blocks: int = 0  # that it holds, in paged memory
    joined_j: float = field(default=0.0, repr=False)  # the server's decode_j_each when it began to decode

    @property
    def tokens(self) -> int:
        """Prompt and whole output: the KV memory to reserve."""
        return self.prompt_tokens + self.output_tokens

    @property
    def known_tokens(self) -> int:
        """Tokens to prefill: the prompt, and after a preemption what was generated."""
        return self.prompt_tokens + self.generated

    def generated_at(self, iteration: int) -> int:
        """Return the tokens generated when the server has done so many iterations; the leg is decoding."""
        return self.output_tokens - (self.last_iteration - iteration)

    def start(self, at_s: float) -> None:
        """Note the first iteration that carries the prompt; a second start after a preemption changes nothing."""
        if isnan(self.started_s):
            self.started_s = at_s

    def end(self, status: str, reason: str | None = None) -> None:
        """Nothing more becomes of the leg here."""
        self.status, self.reason = status, reason
        self.done.succeed()

    def emit(self, at_s: float) -> None:
        """Count the token that a finished prefill makes."""
        self.generated += 1
        if isnan(self.first_token_s):
            self.first_token_s = at_s
