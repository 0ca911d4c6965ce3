"""A device of the `compiled` engine in a world that answers back: to the gateway it is like `servers/device.py`."""

from collections.abc import Generator, Sequence
from math import inf, nan, nextafter

import numpy as np
from numpy.typing import NDArray
from simpy import Event

from twin.engines.compiled_device import CompiledDevice, CompiledServer
from twin.engines.machine import LEG
from twin.servers.clock import Clock
from twin.servers.course import Account
from twin.servers.expert import Expert
from twin.servers.faults import Crash, Step, crash_reason, down_reason
from twin.servers.leg import Leg

_FEW = 64


class LiveServer:
    """A compiled server whose legs come one by one."""

    def __init__(self, device: "LiveDevice", expert: Expert) -> None:
        self.device = device
        self.expert = expert
        self.rows: NDArray[np.void] = np.zeros(_FEW, dtype=LEG)
        self.legs: list[Leg] = []
        self.n_told = 0
        self.server = CompiledServer(expert, self.rows[:0], stop_s=device.stop_s, n_legs=expert.max_batch)

    def submit(self, leg: Leg) -> None:
        """Let a leg arrive now: it waits, or ends at once on a device that is down or when it can never fit."""
        leg.arrived_s = self.device.clock.now
        if self.device.down is not None:
            leg.end("failed", self.device.down)
        elif (reason := self.expert.why_never(leg.prompt_tokens, leg.output_tokens)) is not None:
            leg.end("rejected", reason)
        else:
            self._queue(leg)
            self.device.wake()

    def tell(self) -> None:
        """Tell the legs that finished since it was last asked, in the order of their ranks."""
        n = int(self.server.now["n_finished"])
        if n == self.n_told:
            return
        rows = self.rows["finished"][self.n_told : n].tolist()
        self.n_told = n
        for row in sorted(rows, key=lambda row: self.legs[row].rank):
            self._note(row)
            self.legs[row].end("served")

    def lose(self, rows: Sequence[int], reason: str) -> None:
        """Legs in these rows were lost in a crash."""
        for row in rows:
            self._note(row)
            self.legs[row].end("failed", reason)

    def close(self) -> None:
        """Note how far the legs came that are unfinished."""
        for row, leg in enumerate(self.legs):
            if leg.status == "unfinished":
                self._note(row)

    def _note(self, row: int) -> None:
        leg, found = self.legs[row], self.rows[row]
        leg.started_s, leg.first_token_s = float(found["started_s"]), float(found["first_token_s"])
        leg.finished_s, leg.energy_j = float(found["finished_s"]), float(found["energy_j"])

    def _queue(self, leg: Leg) -> None:
        n, legs = len(self.legs), self.legs
        if n == len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros(n, dtype=LEG)])
        i, first = n, int(self.server.now["next"])
        legs.append(leg)
        while i > first and legs[i - 1].arrived_s == leg.arrived_s and legs[i - 1].rank > leg.rank:
            legs[i], self.rows[i] = legs[i - 1], self.rows[i - 1]
            i -= 1
        legs[i] = leg
        ends, lengths = (nan, nan, nan, 0.0, 0.0), (leg.prompt_tokens, leg.output_tokens, 0, 0)
        self.rows[i] = (leg.arrived_s, leg.prefill_factor, leg.decode_factor, *ends, *lengths, -1, 0, 0)
        self.server.expect(self.rows[: n + 1])


class LiveDevice:
    """Compiled servers that are advanced from one event of the world to the next; its process is `live`."""

    def __init__(self, clock: Clock, name: str, experts: Sequence[Expert], *, place: int, stop_s: float) -> None:
        """`place` is the device's among all; no iteration starts at or after `stop_s`, the end of the drain."""
        self.clock = clock
        self.name = name
        self.place = place
        self.stop_s = stop_s
        self.down: str | None = None
        self.servers = [LiveServer(self, expert) for expert in experts]
        self.device = CompiledDevice([server.server for server in self.servers])
        self.stirred = clock.event()
        clock.process(self.live())

    def live(self) -> Generator[Event, None, None]:
        """Let the servers run to the next thing that happens to them, or to what comes from outside before."""
        while True:
            next_s = self.device.advance(self.clock.now)
            self.stirred = self.clock.event()
            if next_s == inf:
                yield self.stirred
                continue
            boundary = self.clock.boundary(next_s, self.place)
            yield self.stirred | boundary
            if boundary.processed:
                self.device.advance(nextafter(next_s, inf))
                for server in self.servers:
                    server.tell()

    def befall(self, steps: Sequence[Step]) -> Generator[Event, None, None]:
        """Let things happen, each at its instant."""
        for step in steps:
            yield self.clock.first(step.at_s)
            if isinstance(step, Crash):
                self.crash(step)
            else:
                self.device.due.append(step)
            self.wake()

    def crash(self, crash: Crash) -> None:
        """The device loses what it holds, and refuses what arrives before it is repaired."""
        self.device.advance(crash.at_s)
        self.down = down_reason(self.name, crash.at_s)
        for server, rows in zip(self.servers, self.device.crash(crash), strict=True):
            server.lose(rows.tolist(), crash_reason(self.name, crash.at_s))
        if crash.repaired_s < inf:
            self.clock.process(self.repair(crash.repaired_s))

    def repair(self, at_s: float) -> Generator[Event, None, None]:
        """Take legs again."""
        yield self.clock.first(at_s)
        self.down = None

    def wake(self) -> None:
        """Something came from outside."""
        if not self.stirred.triggered:
            self.stirred.succeed()

    def account(self) -> Account:
        """Return what the device did; the run is over."""
        for server in self.servers:
            server.close()
        return self.device.account()
