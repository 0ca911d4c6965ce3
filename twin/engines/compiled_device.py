"""A device of the `compiled` engine: `servers/device.py` with compiled servers, advanced from event to event."""

from collections.abc import Callable, Sequence
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from twin.engines.kernel.server import advance, begin, cut
from twin.engines.machine import BOUNDARY, STOPPED, settings_of, slots_of, state_of
from twin.servers.course import Account
from twin.servers.expert import Expert
from twin.servers.faults import Crash, Pace, PowerSwitch


class CompiledServer:
    """The arrays of one server, and what its device does to it."""

    def __init__(self, expert: Expert, queue: NDArray[np.void], *, stop_s: float, n_legs: int | None = None) -> None:
        """`queue` holds the legs that it is to serve, in the order of (arrival, rank); it may grow to `n_legs`."""
        self.expert = expert
        self.stop_s = stop_s
        self.queue = queue
        self.settings = settings_of(expert, stop_s)
        self.state = state_of(self.settings)
        self.slots = slots_of(self.settings, len(queue) if n_legs is None else n_legs)
        self.now = self.state[0]  # a view
        self._advance: Callable[..., float] | None = None  # with the arrays that the server has
        self.n_settled = 0  # legs at the front that an earlier crash has settled

    def advance(self, until_s: float, halt_s: float) -> float:
        """See `kernel.server.advance`."""
        if self._advance is None:
            self._advance = advance.bound(self.settings, self.state, self.slots, self.queue)
        return self._advance(until_s, halt_s)

    def expect(self, queue: NDArray[np.void]) -> None:
        """Take another queue: the same legs and more."""
        self.queue, self._advance = queue, None

    def take_turn(self, at_s: float) -> None:
        """Begin an iteration at a boundary, or stop when the run is over."""
        self.now["now_s"], self.now["run_on"], self.now["phase"] = at_s, False, BOUNDARY
        begin(self.settings, self.state, self.slots, self.queue)

    def wants_s(self) -> float:
        """Return since when it wants a turn: -inf when legs are in it, else the next arrival, inf without one."""
        now = self.now
        if now["n_running"] or now["n_prefilling"] or now["n_preempted"]:
            return -inf
        return float(self.queue["arrived_s"][now["next"]]) if now["next"] < len(self.queue) else inf

    def tune(self, *, mode: str | None, pace: float) -> None:
        """Take the costs of a power mode, iterations `pace` times as long; a new run begins."""
        self.settings, self._advance = settings_of(self.expert, self.stop_s, mode=mode, pace=pace), None
        self.now["run_on"] = False

    def lose(self, at_s: float) -> tuple[NDArray[np.intp], float]:
        """Everything that arrived before `at_s` is lost; return its rows, and the joules that were spent on it."""
        lost_j = cut(self.settings, self.state, self.slots, self.queue, at_s)
        n = int(np.searchsorted(self.queue["arrived_s"], at_s))
        rows = np.arange(self.n_settled, n)[np.isnan(self.queue["finished_s"][self.n_settled : n])]
        lost = self.queue[rows]
        running = lost["last"] >= 0
        lost_j += float(lost["energy_j"].sum() + (self.now["each_j"] - lost["joined_j"][running]).sum())
        self.queue["energy_j"][rows] = 0.0
        kept = {name: self.now[name] for name in ("n_iterations", "n_admitted", "n_finished", "busy_s", "last_s")}
        busy_j = self.now["busy_j"] - lost_j
        self.state[:] = state_of(self.settings)
        for name, value in kept.items():
            self.now[name] = value
        self.now["busy_j"], self.now["next"], self.now["now_s"] = busy_j, n, at_s
        self.slots["phase"] = 0
        self.n_settled = n
        return rows, lost_j


class CompiledDevice:
    """Servers that take turns on one device. `due` may hold what lies in the future; a crash is told when it comes."""

    def __init__(self, servers: Sequence[CompiledServer], due: Sequence[Pace | PowerSwitch] = ()) -> None:
        self.servers = servers
        self.due = list(due)
        self.turn = len(servers) - 1  # who had the last one
        self.mode: str | None = None
        self.pace = 1.0
        self.switching_until_s: float | None = None
        self.overheads: list[tuple[float, float]] = []
        self.modes: list[tuple[float, float, str | None]] = [(0.0, 0.0, None)]
        self._load(0.0, [server.expert for server in servers if server.expert.loads_at_start])

    def advance(self, until_s: float) -> float:
        """Do everything that happens before `until_s`; return when the next thing happens, inf for never."""
        while True:
            if self.switching_until_s is not None:
                if self.switching_until_s >= until_s:
                    return self.switching_until_s
                self._switched(self.switching_until_s)
            server = self.servers[self.turn]
            halt_s = self.due[0].at_s if self.due else inf
            at_s = server.advance(until_s, min(halt_s, self._rivals_s()))
            if server.now["phase"] == STOPPED:
                for other in self.servers:
                    if other.now["phase"] != STOPPED:
                        other.take_turn(server.now["now_s"])
            if at_s >= until_s:
                return at_s
            if at_s >= halt_s:
                self._change(at_s, self.due[0])
            else:
                self._pass_turn(at_s)

    def crash(self, crash: Crash) -> list[NDArray[np.intp]]:
        """Lose everything at the crash, to which the device was advanced; return the lost rows of each server."""
        self.switching_until_s, self.turn = None, len(self.servers) - 1
        lost, joules = zip(*(server.lose(crash.at_s) for server in self.servers), strict=True)
        self.overheads += [(crash.at_s, j) for j in joules]
        if crash.repaired_s == inf:
            for server in self.servers:
                server.now["phase"] = STOPPED
        else:
            self._load(crash.repaired_s, [server.expert for server in self.servers])
        return list(lost)

    def account(self) -> Account:
        """Return what the device did."""
        return Account(
            busy_s=self._busy_s(),
            busy_energy_j=float(sum(server.now["busy_j"] for server in self.servers)),
            last_s=float(max(server.now["last_s"] for server in self.servers)),
            overheads=self.overheads,
            modes=self.modes,
        )

    def _load(self, at_s: float, experts: Sequence[Expert]) -> None:
        if experts:
            self.overheads.append((at_s, sum(nan if e.load_j is None else e.load_j for e in experts)))
        self.servers[self.turn].now["now_s"] = at_s + sum(e.load_s for e in experts)

    def _change(self, at_s: float, step: Pace | PowerSwitch) -> None:
        if isinstance(step, Pace):
            self.pace = step.factor
            self._tune()
        else:
            self.overheads.append((at_s, step.energy_j))
            self.switching_until_s = at_s + step.lasts_s

    def _switched(self, at_s: float) -> None:
        step, self.switching_until_s = self.due[0], None
        assert isinstance(step, PowerSwitch)  # noqa: S101 - it is what began
        self.mode = step.mode
        self.modes.append((at_s, self._busy_s(), step.mode))
        self.servers[self.turn].now["now_s"] = at_s
        self._tune()

    def _tune(self) -> None:
        del self.due[0]
        for server in self.servers:
            server.tune(mode=self.mode, pace=self.pace)

    def _pass_turn(self, at_s: float) -> None:
        n = len(self.servers)
        later = ((self.turn + i) % n for i in range(1, n))
        self.turn = next(i for i in later if self.servers[i].wants_s() <= at_s)
        self.servers[self.turn].take_turn(at_s)

    def _rivals_s(self) -> float:
        return min((s.wants_s() for i, s in enumerate(self.servers) if i != self.turn), default=inf)

    def _busy_s(self) -> float:
        return float(sum(server.now["busy_s"] for server in self.servers))
