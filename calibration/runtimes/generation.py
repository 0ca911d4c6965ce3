"""One generation as its client saw it, and the protocol of what generates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

FORMULAS = {
    "ttft_s": "first_token_s - sent_s; the first token is the first chunk with text or reasoning that is not empty; of "
    "one forced token without text (a part of a character) it is the chunk that ends the answer",
    "tpot_s": "(finished_s - first_token_s) / (output_tokens - 1): the first token is the prefill's",
    "e2e_s": "finished_s - sent_s; finished is the chunk that gives the reason for the end",
    "output_tokens": "usage.completion_tokens of the server, never a count of chunks",
    "client_overhead_s": "ttft_s - the server's own prompt time, where the server tells it",
}
"""How durations follow from the recorded instants; stands in every recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One request: what was asked, instants of the monotonic clock in seconds, and what the server counted.

    `fault` is '' when the server did as asked, else what it did; None: not told or did not happen.
    """

    asked_prompt_tokens: int
    asked_output_tokens: int
    sent_s: float
    first_token_s: float | None
    finished_s: float | None
    chunk_s: tuple[float, ...]
    prompt_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    server_prefill_s: float | None
    server_decode_s: float | None
    fault: str

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token in seconds."""
        return None if self.first_token_s is None else self.first_token_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None with fewer than two."""
        if self.first_token_s is None or self.finished_s is None or (self.output_tokens or 0) < 2:
            return None
        return (self.finished_s - self.first_token_s) / ((self.output_tokens or 0) - 1)


class Runtime(Protocol):
    """What generates: an exact prompt of token ids in, a forced number of tokens out."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids that prompts may draw from."""
        ...

    def report(self) -> dict[str, Any]:
        """Return what the runtime says of itself: model, build, slots, context; ValueError when it is not ready."""
        ...

    def generate(self, prompt: Sequence[int], output_tokens: int) -> Generation:
        """Generate; faults are in the generation, never raised."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def judged(generation: Generation) -> str:
    """Return the fault in what a finished generation claims, '' for none.

    Counts must be those asked for, nothing may come from a cache, and there cannot be more chunks than tokens.
    """
    g = generation
    if g.prompt_tokens is None or g.output_tokens is None:
        return "no usage: the server did not count its tokens"
    claims = (
        (g.prompt_tokens != g.asked_prompt_tokens, f"usage: {g.prompt_tokens} prompt tokens counted, not as sent"),
        (g.output_tokens != g.asked_output_tokens, f"usage: {g.output_tokens} output tokens counted, not as forced"),
        (bool(g.cached_tokens), f"cached: {g.cached_tokens} prompt tokens came from a cache"),
        (len(g.chunk_s) > g.output_tokens, f"usage: {len(g.chunk_s)} chunks with text for {g.output_tokens} tokens"),
        (g.first_token_s is None or g.finished_s is None, "no text: no chunk had any, or none said why it ended"),
    )
    return next((fault for wrong, fault in claims if wrong), "")
