"""The server of one expert, event by event: what its two schedulers have in common.

The pages `server`, `prefill_first`, `chunked` and `memory` are the definition of the twin's server; the compiled
engine must agree with them. Source: DESIGN, "The server (twin): exact semantics".
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from simpy import Event, Interrupt

from twin.servers.expert import Expert, coefficients
from twin.servers.leg import Leg
from twin.servers.memory import Memory, Paged, Reserved

if TYPE_CHECKING:
    from twin.servers.device import Device


class Server(ABC):
    """Serves the legs that are submitted to it, in iterations for which its device gives it turns.

    The running set is never walked to advance it: sums over it are kept, and a leg's share of the decode energy is
    the difference of a running sum between the moments it joined and left.
    """

    def __init__(self, device: "Device", expert: Expert) -> None:
        """`device` tells what time it is and whose turn."""
        self.device = device
        self.clock = device.clock
        self.expert = expert
        self.tune(mode=None, pace=1.0)
        self.memory = _memory(expert)
        self.waiting: list[tuple[float, int, Leg]] = []  # heap: (arrival, rank, leg)
        self.preempted: list[Leg] = []  # they wait before all others; the last one first
        self.prefilling: list[Leg] = []  # admitted, prompt not in memory yet; in the order of admission
        self.running: list[tuple[int, int, Leg]] = []  # decoding; heap: (last iteration, rank, leg)
        self.n_iterations = 0  # that carried decoding legs, since the start
        self.context_tokens = 0  # of the running set; C
        self.decode_factors = 0.0  # sum over the running set; exact, see `noise_factors`
        self.decode_j_each = 0.0  # joules of a sequence that runs since the server was last empty
        self.busy_s = 0.0
        self.busy_energy_j = 0.0  # of iterations that are not lost
        self.cut_j = 0.0  # of the iteration that a crash cut short
        self.last_s = 0.0  # end of the last iteration

    def tune(self, *, mode: str | None, pace: float) -> None:
        """Take the costs of a power mode, iterations `pace` times as long."""
        profile = self.expert.profile_in(mode)
        seconds, joules = coefficients(profile.seconds, pace), coefficients(profile.joules, pace)
        self.prefill_s, self.decode_s, self.mixed_s = seconds[:3], seconds[3:6], (*seconds[3:5], seconds[6])
        self.prefill_j, self.decode_j, self.mixed_j = joules[:3], joules[3:6], (*joules[3:5], joules[6])
        self.knee_tokens = profile.knee_tokens
        self.tile_tokens = profile.seconds.tile_tokens

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
        """Let a leg arrive now: it waits, or ends at once on a device that is down or when it can never fit."""
        leg.arrived_s = self.clock.now
        if self.device.down is not None:
            leg.end("failed", self.device.down)
        elif (reason := self.expert.why_never(leg.prompt_tokens, leg.output_tokens)) is not None:
            leg.end("rejected", reason)
        else:
            heappush(self.waiting, (leg.arrived_s, leg.rank, leg))
            self.device.wake()

    def has_work(self) -> bool:
        """Tell whether an iteration could begin at a boundary now."""
        return bool(self.waiting or self.running or self.prefilling or self.preempted)

    def stop(self) -> None:
        """The run is over: legs that run keep the energy that they took."""
        for _, _, leg in self.running:
            leg.energy_j += self.decode_j_each - leg.joined_j

    def lose(self, reason: str) -> float:
        """Everything here fails; return the joules that were spent on it."""
        for _, _, leg in self.running:
            leg.energy_j += self.decode_j_each - leg.joined_j
        lost = [leg for _, _, leg in sorted(self.waiting)] + self.preempted + self.prefilling
        lost += [leg for _, _, leg in self.running]
        lost_j, self.cut_j = self.cut_j + sum(leg.energy_j for leg in lost), 0.0
        self.busy_energy_j -= lost_j
        self.waiting, self.preempted, self.prefilling, self.running = [], [], [], []
        self.context_tokens, self.decode_factors = 0, 0.0
        self.memory = _memory(self.expert)
        for leg in lost:
            leg.energy_j = 0.0
            leg.end("failed", reason)
        return lost_j

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
        began_s, began, last, k = self.clock.now, self.n_iterations, self.running[0][0] - self.n_iterations, 0
        device, memory, boundary = self.device, self.memory, self.device.boundaries()
        due, stop_s, shared, grows = device.due, device.stop_s, device.is_shared, memory.grows
        waiting, preempted, prefilling = self.waiting, self.preempted, self.prefilling
        try:
            for k in range(1, last + 1):
                yield boundary.at(end_s := began_s + (k * D + g * k * (k - 1) / 2))
                if k == last or end_s >= stop_s or due or (shared and device.calls(self)):
                    break
                if grows and not memory.grow(began + k):
                    break
                if waiting or preempted or prefilling:
                    self.admit()
                    if self.carries_prompt():
                        break
        except Interrupt:
            self._end_run(k - 1, D, g, noise)
            (lasts_s, _), (costs_j, _) = (
                first_and_growth(costs, B, self.context_tokens, noise) for costs in (self.decode_s, self.decode_j)
            )
            self.cut(lasts_s, costs_j, began_s + ((k - 1) * D + g * (k - 1) * (k - 2) / 2))
            raise
        self._end_run(k, D, g, noise)

    def _end_run(self, k: int, D: float, g: float, noise: float) -> None:
        """Note `k` iterations of D, D + g, D + 2g … seconds."""
        B, C = len(self.running), self.context_tokens
        first_j, growth_j = first_and_growth(self.decode_j, B, C, noise)
        spent_j = k * first_j + growth_j * k * (k - 1) / 2
        self.record(k * D + g * k * (k - 1) / 2, spent_j)
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

    def iteration(self, lasted_s: float, spent_j: float) -> Generator[Event, None, None]:
        """Run one iteration; a crash cuts it short."""
        began_s = self.clock.now
        try:
            yield self.device.boundary(began_s + lasted_s)
        except Interrupt:
            self.cut(lasted_s, spent_j, began_s)
            raise
        self.record(lasted_s, spent_j)

    def cut(self, lasts_s: float, costs_j: float, began_s: float) -> None:
        """End the iteration that began then and would have lasted and cost so much; its joules count pro rata."""
        self.cut_j = costs_j * (self.clock.now - began_s) / lasts_s
        self.record(self.clock.now - began_s, self.cut_j)

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
        leg.end("served")


def first_and_growth(decode: tuple[float, float, float], B: int, C: int, noise: float) -> tuple[float, float]:
    """Return the cost of the next decode iteration, and by how much each one after it costs more.

    Plain floats, where `Costs.decode_of` takes arrays: the same expression, many times a millisecond.
    """
    base, per_sequence, per_context_token = decode
    return (base + per_sequence * B + per_context_token * C) * noise, per_context_token * B * noise


def _memory(expert: Expert) -> Memory:
    return Paged(expert) if expert.kv == "paged" else Reserved(expert)
