"""The server of one expert: iterations one after another, a prompt first where one can be admitted.

This page is the definition of the twin's `prefill_first` scheduler with `reserve` memory; any faster engine
must agree with it. Source: DESIGN, "The server (twin): exact semantics".
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import nan

from simpy import Event

from calibration.costs import Costs
from twin.clock import Clock
from twin.expert import Expert


@dataclass(slots=True, eq=False, kw_only=True)
class Leg:
    """One request on one expert, as its server sees it. Instants in seconds, NaN until they are reached.

    `rank` orders legs that arrive together; `prefill_s` and `prefill_j` are the cost of its prompt, noise
    included; `decode_factor` is the noise that it brings to the iterations it runs in.
    """

    rank: int
    prompt_tokens: int
    output_tokens: int
    prefill_s: float
    prefill_j: float
    decode_factor: float
    done: Event
    arrived_s: float = nan
    started_s: float = nan
    first_token_s: float = nan
    finished_s: float = nan
    energy_j: float = 0.0
    status: str = "unfinished"
    reason: str | None = None
    joined_j: float = field(default=0.0, repr=False)  # the server's decode_j_each when it began to decode

    @property
    def tokens(self) -> int:
        """The KV memory that it reserves, in tokens."""
        return self.prompt_tokens + self.output_tokens


class Server:
    """Serves the legs that are submitted to it; its process is `serve`.

    The running set is never walked: sums over it are kept, and a leg's share of the decode energy is the
    difference of a running sum between the moments it joined and left.
    """

    def __init__(self, clock: Clock, expert: Expert, *, stop_s: float) -> None:
        """`stop_s` is the end of the drain: no iteration starts at or after it."""
        self.clock = clock
        self.expert = expert
        self.stop_s = stop_s
        self.decode_s = _decode_coefficients(expert.profile.seconds)
        self.decode_j = _decode_coefficients(expert.profile.joules)
        self.waiting: list[tuple[float, int, Leg]] = []  # heap: (arrival, rank, leg)
        self.running: list[tuple[int, int, Leg]] = []  # heap: (its last iteration, rank, leg)
        self.arrival = clock.event()
        self.n_iterations = 0  # of decode, since the start
        self.context_tokens = 0  # of the running set; C
        self.reserved_tokens = 0
        self.decode_factors = 0.0  # sum over the running set; exact, see `noise_factors`
        self.decode_j_each = 0.0  # joules of a sequence that runs since the server was last empty
        self.busy_s = 0.0
        self.busy_energy_j = 0.0
        self.last_s = 0.0  # end of the last iteration

    def submit(self, leg: Leg) -> None:
        """Let a leg arrive now: it waits, or is rejected when it can never fit. Its `done` tells the end."""
        leg.arrived_s = self.clock.now
        if leg.tokens > self.expert.kv_capacity_tokens:
            leg.status = "rejected"
            leg.reason = (
                f"needs {leg.tokens} tokens of KV memory, {self.expert.name} has {self.expert.kv_capacity_tokens}"
            )
            leg.done.succeed()
            return
        heappush(self.waiting, (leg.arrived_s, leg.rank, leg))
        if not self.arrival.triggered:
            self.arrival.succeed()

    def serve(self) -> Generator[Event, None, None]:
        """Iterate for ever: at every boundary a prefill if the head can be admitted, else a decode iteration."""
        while True:
            if not (self.waiting or self.running):
                yield from self.sleep()
            if self.clock.now >= self.stop_s:
                break
            if self.admits_head():
                yield from self.prefill()
            else:
                yield from self.decode()
        for _, _, leg in self.running:  # unfinished: they keep the energy that they took
            leg.energy_j += self.decode_j_each - leg.joined_j

    def sleep(self) -> Generator[Event, None, None]:
        """Wait for the next arrival, and for all others of its instant."""
        self.arrival = self.clock.event()
        yield self.arrival
        yield self.clock.boundary(self.clock.now)

    def admits_head(self) -> bool:
        """Tell whether a leg waits and the first of them can start; those behind it never overtake."""
        if not self.waiting or len(self.running) >= self.expert.max_batch:
            return False
        return self.reserved_tokens + self.waiting[0][-1].tokens <= self.expert.kv_capacity_tokens

    def prefill(self) -> Generator[Event, None, None]:
        """Run one prefill iteration for the head of the queue alone; the running sequences stall."""
        leg = heappop(self.waiting)[-1]
        self.reserved_tokens += leg.tokens
        leg.started_s = self.clock.now
        yield self.clock.boundary(leg.started_s + leg.prefill_s)
        leg.first_token_s = self.clock.now
        leg.energy_j += leg.prefill_j
        self._record(leg.prefill_s, leg.prefill_j)
        if leg.output_tokens == 1:
            self._finish(leg)
            return
        leg.joined_j = self.decode_j_each
        self.context_tokens += leg.prompt_tokens + 1
        self.decode_factors += leg.decode_factor
        heappush(self.running, (self.n_iterations + leg.output_tokens - 1, leg.rank, leg))

    def decode(self) -> Generator[Event, None, None]:
        """Run decode iterations, one event each, until a leg completes, the head is admitted or time is up.

        The k-th ends k·D + f·B·k(k-1)/2 after the run began: the context grows by B tokens each time.
        """
        B, C = len(self.running), self.context_tokens
        noise = self.decode_factors / B
        D, g = _first_and_growth(self.decode_s, B, C, noise)
        boundary, began_s, lasted_s, k = self.clock.boundary, self.clock.now, 0.0, 0
        for k in range(1, self.running[0][0] - self.n_iterations + 1):
            lasted_s = k * D + g * k * (k - 1) / 2
            yield boundary(end_s := began_s + lasted_s)
            if end_s >= self.stop_s or (self.waiting and self.admits_head()):
                break
        first_j, growth_j = _first_and_growth(self.decode_j, B, C, noise)
        spent_j = k * first_j + growth_j * k * (k - 1) / 2
        self._record(lasted_s, spent_j)
        self.decode_j_each += spent_j / B
        self.n_iterations += k
        self.context_tokens += k * B
        self._finish_completed()

    def _finish_completed(self) -> None:
        while self.running and self.running[0][0] == self.n_iterations:
            leg = heappop(self.running)[-1]
            leg.energy_j += self.decode_j_each - leg.joined_j
            self.context_tokens -= leg.tokens
            self.decode_factors -= leg.decode_factor
            self._finish(leg)
        if not self.running:
            self.decode_j_each = 0.0  # a small sum loses no digits

    def _finish(self, leg: Leg) -> None:
        self.reserved_tokens -= leg.tokens
        leg.finished_s = self.clock.now
        leg.status = "served"
        leg.done.succeed()

    def _record(self, lasted_s: float, spent_j: float) -> None:
        self.busy_s += lasted_s
        self.busy_energy_j += spent_j
        self.last_s = self.clock.now


def _decode_coefficients(costs: Costs | None) -> tuple[float, float, float]:
    """Return base, per sequence and per context token; NaN when unknown. A lone sequence's base holds it all."""
    if costs is None:
        return nan, nan, nan
    return costs.base, costs.per_sequence or 0.0, costs.per_context_token


def _first_and_growth(decode: tuple[float, float, float], B: int, C: int, noise: float) -> tuple[float, float]:
    """Return the cost of the next iteration, and by how much each one after it costs more.

    Plain floats, where `Costs.decode_of` takes arrays: the same expression, many times a millisecond.
    """
    base, per_sequence, per_context_token = decode
    return (base + per_sequence * B + per_context_token * C) * noise, per_context_token * B * noise
