"""The work that the gateway believes an expert still has before it."""

from typing import Protocol

from twin.servers.expert import Expert, coefficients


class Work(Protocol):
    """A leg, of a server of the twin or of a real one."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        ...

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer."""
        ...


class Backlog:
    """Legs sent and not known to have ended, as if the expert served them one after the other, as fast as alone.

    The prediction knows the length of the answer, so routing by it is the best that predicting can do. A server of
    several slots works that many times as fast. Without a leg there is no work, however long one was thought to take.
    """

    def __init__(self, expert: Expert) -> None:
        self.costs = coefficients(expert.profile.seconds)
        self.n_slots = expert.max_batch
        self.free_s = 0.0  # when it will have done what it has
        self.legs: set[int] = set()

    def work_s(self, now_s: float) -> float:
        """Return the seconds of work before a leg that is sent now."""
        return max(self.free_s - now_s, 0.0)

    def add(self, leg: Work, now_s: float) -> None:
        """A leg is sent."""
        a, b, c, d, e, f, _ = self.costs
        P, n = leg.prompt_tokens, leg.output_tokens - 1
        alone_s = a + b * P + c * P * P + n * (d + e) + f * (n * P + n * (n + 1) / 2)
        self.free_s = max(self.free_s, now_s) + alone_s / self.n_slots
        self.legs.add(id(leg))

    def remove(self, leg: Work, now_s: float) -> None:
        """A leg has ended, or is given up."""
        self.legs.discard(id(leg))
        if not self.legs:
            self.free_s = now_s
