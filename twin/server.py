"""The server of one expert, event by event: what its two schedulers have in common.

The pages `server`, `prefill_first`, `chunked` and `memory` are the definition of the twin's server; the compiled
engine must agree with them. Source: DESIGN, "The server (twin): exact semantics".
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from heapq import heapify, heappop, heappush
from math import nan

from simpy import Event

from calibration.costs import Costs
from twin.clock import Clock
from twin.expert import Expert
from twin.leg import Leg
from twin.memory import Memory, Paged, Reserved


class Server(ABC):
    """Serves the legs that are submitted to it; its process is `serve`.

    The running set is never walked to advance it: sums over it are kept, and a leg's share of the decode energy is
    the difference of a running sum between the moments it joined and left.
    """

    def __init__(self, clock: Clock, expert: Expert, *, stop_s: float) -> None:
        """`stop_s` is the end of the drain: no iteration starts at or after it."""
        self.clock = clock
        self.expert = expert
        self.stop_s = stop_s
        self.prefill_s, self.decode_s = _coefficients(expert.profile.seconds)
        self.prefill_j, self.decode_j = _coefficients(expert.profile.joules)
        self.memory: Memory = Paged(expert) if expert.kv == "paged" else Reserved(expert)
        self.waiting: list[tuple[float, int, Leg]] = []  # heap: (arrival, rank, leg)
        self.preempted: list[Leg] = []  # they wait before all others; the last one first
        self.prefilling: list[Leg] = []  # admitted, prompt not in memory yet; in the order of admission
        self.running: list[tuple[int, int, Leg]] = []  # decoding; heap: (last iteration, rank, leg)
        self.arrival = clock.event()
        self.n_iterations = 0  # that carried decoding legs, since the start
        self.context_tokens = 0  # of the running set; C
        self.decode_factors = 0.0  # sum over the running set; exact, see `noise_factors`
        self.decode_j_each = 0.0  # joules of a sequence that runs since the server was last empty
        self.busy_s = 0.0
        self.busy_energy_j = 0.0
        self.last_s = 0.0  # end of the last iteration

    @abstractmethod
    def admit(self) -> None:
        """Admit legs that wait, at an iteration boundary."""

    @abstractmethod
    def carries_prompt(self) -> bool:
        """Tell whether the next iteration carries prompt tokens."""

    @abstractmethod
    def prefill(self) -> Generator[Event, None, None]:
        """Run one iteration that carries prompt tokens."""

    def submit(self, leg: Leg) -> None:
        """Let a leg arrive now: it waits, or is rejected when it can never fit. Its `done` tells the end."""
        leg.arrived_s = self.clock.now
        leg.reason = self.expert.why_never(leg.prompt_tokens, leg.output_tokens)
        if leg.reason is not None:
            leg.status = "rejected"
            leg.done.succeed()
            return
        heappush(self.waiting, (leg.arrived_s, leg.rank, leg))
        if not self.arrival.triggered:
            self.arrival.succeed()

    def serve(self) -> Generator[Event, None, None]:
        """Iterate for ever: at every boundary claim memory, admit, and run what there is to run."""
        while True:
            if not (self.waiting or self.preempted or self.prefilling or self.running):
                yield from self.sleep()
            if self.clock.now >= self.stop_s:
                break
            if not self.claim():
                self.admit()
            if self.carries_prompt():
                yield from self.prefill()
            elif self.running:
                yield from self.decode()
        for _, _, leg in self.running:  # unfinished: they keep the energy that they took
            leg.energy_j += self.decode_j_each - leg.joined_j

    def sleep(self) -> Generator[Event, None, None]:
        """Wait for the next arrival, and for all others of its instant."""
        self.arrival = self.clock.event()
        yield self.arrival
        yield self.clock.boundary(self.clock.now)

    def claim(self) -> bool:
        """Claim memory for the newest tokens, oldest leg first; return whether a leg was preempted for it."""
        if self.memory.grow(self.n_iterations):
            return False
        for leg in list(self.memory.admitted):
            while leg.last_iteration >= 0 and not self.memory.grow_one(leg, self.n_iterations):
                self._preempt(self.memory.admitted[-1])
        return True

    def head(self) -> Leg | None:
        """Return the leg that is to be admitted next; those behind it never overtake."""
        if self.preempted:
            return self.preempted[-1]
        return self.waiting[0][-1] if self.waiting else None

    def admits_head(self) -> bool:
        """Tell whether a leg waits and the first of them can be admitted."""
        if len(self.running) + len(self.prefilling) >= self.expert.max_batch:
            return False
        leg = self.head()
        return leg is not None and self.memory.fits(leg)

    def admit_head(self) -> None:
        """Give the head of the queue a slot and memory."""
        leg = self.preempted.pop() if self.preempted else heappop(self.waiting)[-1]
        self.memory.admit(leg)
        self.prefilling.append(leg)

    def decode(self) -> Generator[Event, None, None]:
        """Run decode iterations, one event each, while the running set stays as it is and no prompt is carried.

        The k-th ends k·D + f·B·k(k-1)/2 after the run began: the context grows by B tokens each time.
        """
        B, C = len(self.running), self.context_tokens
        noise = self.decode_factors / B
        D, g = first_and_growth(self.decode_s, B, C, noise)
        boundary, began_s, began, lasted_s, k = self.clock.boundary, self.clock.now, self.n_iterations, 0.0, 0
        last = self.running[0][0] - began
        for k in range(1, last + 1):
            lasted_s = k * D + g * k * (k - 1) / 2
            yield boundary(end_s := began_s + lasted_s)
            if k == last or end_s >= self.stop_s or not self.memory.grow(began + k):
                break
            if self.waiting or self.preempted or self.prefilling:
                self.admit()
                if self.carries_prompt():
                    break
        first_j, growth_j = first_and_growth(self.decode_j, B, C, noise)
        spent_j = k * first_j + growth_j * k * (k - 1) / 2
        self.record(lasted_s, spent_j)
        self.pass_iterations(k, spent_j / B)

    def pass_iterations(self, k: int, spent_j: float) -> None:
        """Give every running leg `k` tokens and `spent_j` joules; those that are complete leave."""
        self.decode_j_each += spent_j
        self.n_iterations += k
        self.context_tokens += k * len(self.running)
        while self.running and self.running[0][0] == self.n_iterations:
            self._leave_running(leg := heappop(self.running)[-1])
            self._finish(leg)

    def prefilled(self, leg: Leg) -> None:
        """The leg's prompt is in memory: it emits a token, and then decodes or is finished."""
        self.prefilling.remove(leg)
        leg.emit(self.clock.now)
        if leg.generated == leg.output_tokens:
            self._finish(leg)
            return
        if not self.running:
            self.decode_j_each = 0.0  # a small sum loses no digits
        leg.joined_j = self.decode_j_each
        leg.last_iteration = self.n_iterations + leg.output_tokens - leg.generated
        self.context_tokens += leg.known_tokens
        self.decode_factors += leg.decode_factor
        heappush(self.running, (leg.last_iteration, leg.rank, leg))

    def record(self, lasted_s: float, spent_j: float) -> None:
        """Note iterations that ended now."""
        self.busy_s += lasted_s
        self.busy_energy_j += spent_j
        self.last_s = self.clock.now

    def _preempt(self, leg: Leg) -> None:
        """Take a leg's memory away; it waits before all others, and what it generated is prefilled again."""
        if leg.last_iteration >= 0:
            self.running.remove((leg.last_iteration, leg.rank, leg))
            heapify(self.running)
            leg.generated = leg.generated_at(self.n_iterations)
            self._leave_running(leg)
        else:
            self.prefilling.remove(leg)
        leg.prefilled = 0
        self.memory.free(leg)
        self.preempted.append(leg)

    def _leave_running(self, leg: Leg) -> None:
        leg.energy_j += self.decode_j_each - leg.joined_j
        self.context_tokens -= leg.prompt_tokens + leg.generated_at(self.n_iterations)
        self.decode_factors -= leg.decode_factor
        leg.last_iteration = -1

    def _finish(self, leg: Leg) -> None:
        self.memory.free(leg)
        leg.finished_s = self.clock.now
        leg.status = "served"
        leg.done.succeed()


def first_and_growth(decode: tuple[float, float, float], B: int, C: int, noise: float) -> tuple[float, float]:
    """Return the cost of the next decode iteration, and by how much each one after it costs more.

    Plain floats, where `Costs.decode_of` takes arrays: the same expression, many times a millisecond.
    """
    base, per_sequence, per_context_token = decode
    return (base + per_sequence * B + per_context_token * C) * noise, per_context_token * B * noise


def _coefficients(costs: Costs | None) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return (a, b, c) and (base, per sequence, per context token); NaN when unknown.

    A lone sequence's base holds what it costs, so an unknown cost per sequence is 0.
    """
    if costs is None:
        return (nan, nan, nan), (nan, nan, nan)
    return costs.prefill, (costs.base, costs.per_sequence or 0.0, costs.per_context_token)
