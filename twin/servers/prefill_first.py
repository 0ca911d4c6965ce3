"""The `prefill_first` scheduler: a prompt is processed alone, as soon as it can be admitted."""

from collections.abc import Generator

from simpy import Event

from twin.servers.server import Server


class PrefillFirst(Server):
    """At every boundary the head of the queue is prefilled if it can be admitted, else all running legs decode."""

    def admit(self) -> None:
        """Admit the head of the queue if it fits."""
        if not self.prefilling and self.admits_head():
            self.admit_head()

    def carries_prompt(self) -> bool:
        """An admitted leg is prefilled at once."""
        return bool(self.prefilling)

    def prefill(self) -> Generator[Event, None, None]:
        """Run one prefill iteration for the admitted leg alone; the running sequences stall."""
        (leg,) = self.prefilling
        leg.start(self.clock.now)
        P = -(-leg.known_tokens // self.tile_tokens) * self.tile_tokens  # up to the next whole tile
        lasted_s = _prefill(self.prefill_s, P) * leg.prefill_factor
        spent_j = _prefill(self.prefill_j, P) * leg.prefill_factor
        yield from self.iteration(lasted_s, spent_j)
        leg.energy_j += spent_j
        self.prefilled(leg)


def _prefill(abc: tuple[float, float, float], P: int) -> float:
    a, b, c = abc
    return a + b * P + c * (P * P)
