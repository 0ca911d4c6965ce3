"""The clock of the world: SimPy's environment, with events at exact instants and boundaries that come last."""

from heapq import heappop, heappush
from operator import attrgetter
from typing import cast

from simpy import Environment, Event
from simpy.events import NORMAL, URGENT, EventPriority

BOUNDARY = EventPriority(NORMAL + 1)
"""Iteration boundaries come after everything else of their instant, so a leg that arrives then is seen."""


class Instant(Event):
    """An event at exactly `at_s` seconds; already triggered, as SimPy's own timeout is.

    A timeout is relative, and not every instant can be reached by adding a delay to the present: no float
    added to 2**-53 gives 1 + 2**-52. Hence the queue is fed with the instant itself.
    """

    _value = None
    _ok = True

    def __init__(self, clock: "Clock", at_s: float, priority: EventPriority = NORMAL) -> None:
        if not at_s >= clock._now:  # written so that NaN fails too
            raise ValueError(f"cannot schedule an event at {at_s} s: it is {clock.now} s already")
        self.env = clock
        self.callbacks = []
        heappush(clock._queue, (at_s, priority, next(clock._eid), self))


class Boundary(Event):
    """The boundaries of a run of iterations: one event, which is set to the next instant when it has happened."""

    _value = None
    _ok = True

    def __init__(self, clock: "Clock", priority: EventPriority) -> None:
        self.env = clock
        self.priority = priority

    def at(self, at_s: float) -> "Boundary":
        """Let it happen at exactly `at_s`."""
        self.callbacks = []
        heappush(self.env._queue, (at_s, self.priority, next(self.env._eid), self))
        return self


class Clock(Environment):
    """Seconds from the run's start.

    >>> clock = Clock(2.0**-53)
    >>> clock.run(clock.at(1 + 2.0**-52))
    >>> clock.now == 1 + 2.0**-52
    True
    """

    now = cast("float", property(attrgetter("_now")))  # as SimPy's, without a call of Python for each look

    def run_out(self) -> None:
        """Let all happen that is scheduled: SimPy's `run`, without the calls that it makes for each event."""
        queue = self._queue
        while queue:
            self._now, _, _, event = heappop(queue)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:
                raise event._value

    def at(self, at_s: float) -> Instant:
        """Return an event at exactly `at_s`; ValueError when that is past."""
        return Instant(self, at_s)

    def first(self, at_s: float) -> Instant:
        """Return an event at exactly `at_s`, before all others of that instant: what befalls a device."""
        return Instant(self, at_s, URGENT)

    def boundary(self, at_s: float, device: int = 0) -> Instant:
        """Return an iteration boundary at exactly `at_s`, after all else of that instant, in the order of devices."""
        return Instant(self, at_s, EventPriority(BOUNDARY + device))
