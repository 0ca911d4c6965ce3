"""A device of the `simpy` engine: its experts take turns, and the world befalls it."""

from collections.abc import Generator, Sequence
from math import nan

from simpy import Event, Interrupt
from simpy.events import EventPriority

from twin.servers.chunked import Chunked
from twin.servers.clock import BOUNDARY, Boundary, Clock, Instant
from twin.servers.course import Account
from twin.servers.expert import Expert
from twin.servers.faults import Crash, Pace, PowerSwitch, Step, crash_reason, down_reason
from twin.servers.prefill_first import PrefillFirst
from twin.servers.server import Server

SCHEDULERS = {"prefill_first": PrefillFirst, "chunked": Chunked}


class Device:
    """Its process is `live`. One iteration runs at a time; servers with work take turns, in the order of experts."""

    def __init__(self, clock: Clock, name: str, experts: Sequence[Expert], *, place: int, stop_s: float) -> None:
        """`place` is the device's among all; no iteration starts at or after `stop_s`, the end of the drain."""
        self.clock = clock
        self.name = name
        self.experts = experts
        self.stop_s = stop_s
        self.priority = EventPriority(BOUNDARY + place)
        self.down: str | None = None  # why, while it is
        self.due: list[Pace | PowerSwitch] = []  # they wait for the next boundary
        self.mode: str | None = None
        self.pace = 1.0
        self.is_shared = len(experts) > 1
        self.servers = [SCHEDULERS[expert.scheduler](self, expert) for expert in experts]
        self.stirred = clock.event()
        self.overheads: list[tuple[float, float]] = []  # instant, joules
        self.modes: list[tuple[float, float, str | None]] = [(0.0, 0.0, None)]  # instant, busy seconds so far, mode
        self.story = clock.process(self.live())

    def befall(self, steps: Sequence[Step]) -> Generator[Event, None, None]:
        """Let things happen, each at its instant."""
        for step in steps:
            yield self.clock.first(step.at_s)
            if isinstance(step, Crash):
                self.story.interrupt(step)
            else:
                self.due.append(step)
                self.wake()

    def live(self) -> Generator[Event, None, None]:
        """Load models and serve; after a crash, when it is repaired, again."""
        to_load = [expert for expert in self.experts if expert.loads_at_start]
        crash: Crash | None = None
        while True:
            try:
                if crash is not None:
                    if crash.repaired_s >= self.stop_s:
                        return
                    yield self.clock.first(crash.repaired_s)
                    self.down = None
                yield from self.load(to_load)
                yield from self.serve()
            except Interrupt as interrupt:  # noqa: PERF203 - once a crash
                crash, to_load = interrupt.cause, list(self.experts)
                self.lose()
            else:
                return

    def load(self, experts: Sequence[Expert]) -> Generator[Event, None, None]:
        """Load models, one after the other."""
        if experts:
            self.overheads.append((self.clock.now, sum(nan if e.load_j is None else e.load_j for e in experts)))
            yield self.boundary(self.clock.now + sum(e.load_s for e in experts))

    def lose(self) -> None:
        """The device crashes: what it holds fails, and so does what arrives before it is repaired."""
        self.down = down_reason(self.name, self.clock.now)
        for server in self.servers:
            self.overheads.append((self.clock.now, server.lose(crash_reason(self.name, self.clock.now))))

    def serve(self) -> Generator[Event, None, None]:
        """Give turns to the servers that have work, an iteration or, when only one has, a run of them."""
        last = -1
        while True:
            turn = self.turn(last)
            if turn is None and not self.due:
                yield from self.sleep()
                turn = self.turn(last)
            if self.clock.now >= self.stop_s:
                break
            if self.due:
                yield from self.change(self.due[0])
            elif turn is not None:
                last, server = turn, self.servers[turn]
                if not server.claim():
                    server.admit()
                if server.carries_prompt():
                    yield from server.prefill()
                elif server.running:
                    yield from server.decode()
        for server in self.servers:
            server.stop()

    def turn(self, last: int) -> int | None:
        """Return the place of the server whose turn it is after that of the last, None when none has work."""
        if not self.is_shared:
            return 0 if self.servers[0].has_work() else None
        n = len(self.servers)
        return next((i % n for i in range(last + 1, last + 1 + n) if self.servers[i % n].has_work()), None)

    def change(self, step: Pace | PowerSwitch) -> Generator[Event, None, None]:
        """Take a new pace, or go to another power mode: that takes its time, in which no iteration runs."""
        if isinstance(step, Pace):
            self.pace = step.factor
        else:
            self.overheads.append((self.clock.now, step.energy_j))
            yield self.boundary(self.clock.now + step.lasts_s)
            self.mode = step.mode
            self.modes.append((self.clock.now, self.busy_s, step.mode))
        self.due.remove(step)
        for server in self.servers:
            server.tune(mode=self.mode, pace=self.pace)

    def calls(self, server: Server) -> bool:
        """Tell whether the server's run of iterations is over: it is another's turn."""
        return any(other.has_work() for other in self.servers if other is not server)

    def boundary(self, at_s: float) -> Instant:
        """Return an iteration boundary of this device."""
        return Instant(self.clock, at_s, self.priority)

    def boundaries(self) -> Boundary:
        """Return the boundaries of a run of iterations on this device."""
        return Boundary(self.clock, self.priority)

    def sleep(self) -> Generator[Event, None, None]:
        """Wait for the next arrival, and for all others of its instant."""
        self.stirred = self.clock.event()
        yield self.stirred
        yield self.boundary(self.clock.now)

    def wake(self) -> None:
        """Something has come that an idle device waits for."""
        if not self.stirred.triggered:
            self.stirred.succeed()

    def account(self) -> Account:
        """Return what the device did."""
        return Account(
            busy_s=self.busy_s,
            busy_energy_j=sum(server.busy_energy_j for server in self.servers),
            last_s=max(server.last_s for server in self.servers),
            overheads=self.overheads,
            modes=self.modes,
        )

    @property
    def busy_s(self) -> float:
        """Seconds of all iterations."""
        return sum(server.busy_s for server in self.servers)
