"""KV memory of a server of the `simpy` engine: reserved whole on admission, or grown block by block."""

from typing import Protocol

from twin.servers.expert import Expert
from twin.servers.leg import Leg


class Memory(Protocol):
    """What a server asks of its memory. Admitted legs are kept in the order of their admission.

    `grows` tells whether legs claim more as they decode.
    """

    admitted: list[Leg]
    grows: bool

    def fits(self, leg: Leg) -> bool:
        """Tell whether the leg can be admitted now."""

    def admit(self, leg: Leg) -> None:
        """Take what the leg needs on admission."""

    def free(self, leg: Leg) -> None:
        """Give back all that the leg holds."""

    def grow(self, iteration: int) -> bool:
        """Claim room for the newest token of every decoding leg, or nothing at all; tell whether there was room."""

    def grow_one(self, leg: Leg, iteration: int) -> bool:
        """Claim room for the newest token of one leg; tell whether there was room."""


class Reserved:
    """Every leg holds its prompt and whole output from admission to the end, so none has to grow."""

    grows = False

    def __init__(self, expert: Expert) -> None:
        self.free_tokens = expert.kv_capacity_tokens
        self.admitted: list[Leg] = []

    def fits(self, leg: Leg) -> bool:
        """Tell whether the leg's tokens are free."""
        return leg.tokens <= self.free_tokens

    def admit(self, leg: Leg) -> None:
        """Reserve the leg's tokens."""
        self.free_tokens -= leg.tokens

    def free(self, leg: Leg) -> None:
        """Give the leg's tokens back."""
        self.free_tokens += leg.tokens

    def grow(self, iteration: int) -> bool:  # noqa: ARG002
        """There is always room: it was reserved."""
        return True

    def grow_one(self, leg: Leg, iteration: int) -> bool:  # noqa: ARG002
        """There is always room: it was reserved."""
        return True


class Paged:
    """Legs hold blocks for the tokens whose KV is computed: all known ones on admission, then as they decode."""

    grows = True

    def __init__(self, expert: Expert) -> None:
        self.block_tokens = expert.block_tokens
        self.free_blocks = expert.n_blocks
        self.admitted: list[Leg] = []

    def fits(self, leg: Leg) -> bool:
        """Tell whether there are blocks for all known tokens."""
        return self._blocks_of(leg.known_tokens) <= self.free_blocks

    def admit(self, leg: Leg) -> None:
        """Claim blocks for all known tokens."""
        self.admitted.append(leg)
        leg.blocks = self._blocks_of(leg.known_tokens)
        self.free_blocks -= leg.blocks

    def free(self, leg: Leg) -> None:
        """Give back the leg's blocks."""
        self.admitted.remove(leg)
        self.free_blocks += leg.blocks
        leg.blocks = 0

    def grow(self, iteration: int) -> bool:
        """Claim a block for each decoding leg that needs one, or nothing at all."""
        lacking = [(leg, self._lacking(leg, iteration)) for leg in self.admitted if leg.last_iteration >= 0]
        if sum(n for _, n in lacking) > self.free_blocks:
            return False
        for leg, n in lacking:
            leg.blocks += n
            self.free_blocks -= n
        return True

    def grow_one(self, leg: Leg, iteration: int) -> bool:
        """Claim a block for a leg if it needs one; tell whether there was one."""
        n = self._lacking(leg, iteration)
        if n > self.free_blocks:
            return False
        leg.blocks += n
        self.free_blocks -= n
        return True

    def _lacking(self, leg: Leg, iteration: int) -> int:
        # The newest token's own KV is computed by the iteration that it enters, as the input of it.
        return self._blocks_of(leg.prompt_tokens + leg.generated_at(iteration)) - leg.blocks

    def _blocks_of(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)
