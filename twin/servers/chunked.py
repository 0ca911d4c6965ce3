"""The `chunked` scheduler: an iteration carries the running sequences and as many prompt tokens as still fit."""

from collections.abc import Generator

from simpy import Event

from twin.servers.leg import Leg
from twin.servers.server import Server, first_and_growth


class Chunked(Server):
    """Every running sequence gains a token in every iteration; prompts fill what is left of the token budget."""

    def admit(self) -> None:
        """Admit legs in the order of the queue while slots and memory allow."""
        while self.admits_head():
            self.admit_head()

    def carries_prompt(self) -> bool:
        """Prompts wait while the running sequences alone use up the budget."""
        return bool(self.prefilling) and len(self.running) < self.expert.token_budget

    def prefill(self) -> Generator[Event, None, None]:
        """Run one iteration that carries chunks of prompts beside the running sequences."""
        B, C = len(self.running), self.context_tokens
        noise = self.decode_factors / B if B else 1.0  # nothing runs: no factor to take a mean of
        decode_s, _ = first_and_growth(self.mixed_s, B, C, noise)
        decode_j, _ = first_and_growth(self.mixed_j, B, C, noise)
        chunks, lasted_s, spent_j, each_j = self.chunks(), decode_s, decode_j, []
        for leg, n, light in chunks:
            leg.start(self.clock.now)
            each_j.append(_chunk(self.prefill_j, self.decode_j, leg, n, light))
            lasted_s += _chunk(self.prefill_s, self.decode_s, leg, n, light)
            spent_j += each_j[-1]
        yield from self.iteration(lasted_s, spent_j)
        if B:
            self.pass_iterations(1, decode_j / B)
        for (leg, n, _), chunk_j in zip(chunks, each_j, strict=True):
            leg.energy_j += chunk_j if B else chunk_j + decode_j / len(chunks)
            leg.prefilled += n
            if leg.prefilled == leg.known_tokens:
                self.prefilled(leg)

    def chunks(self) -> list[tuple[Leg, int, int]]:
        """Return (leg, its tokens in the next iteration, those of them that ride along), in admission order.

        Tokens ride along at a decode token's cost while all tokens of the iteration stay within the knee.
        """
        tokens, chunks = len(self.running), []
        for leg in self.prefilling:
            n = min(self.expert.token_budget - tokens, leg.known_tokens - leg.prefilled)
            if n <= 0:
                break
            chunks.append((leg, n, max(0, min(n, self.knee_tokens - tokens))))
            tokens += n
        return chunks


def _chunk(
    prefill: tuple[float, float, float], decode: tuple[float, float, float], leg: Leg, n: int, light: int
) -> float:
    """Return the cost of `n` more prompt tokens of a leg, `light` of them at the cost of a decode token."""
    (_, b, c), (_, e, _), s = prefill, decode, leg.prefilled
    return (c * ((s + n) ** 2 - s**2) + (e * light + b * (n - light))) * leg.prefill_factor
