"""Ctrl-C: the process ends with exit status 130, at whatever moment it comes, and says what is kept of its work."""

from __future__ import annotations

import signal
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["INTERRUPTED", "interruptible", "kept"]

INTERRUPTED = 130
LOOK_S = 0.5  # between looks at whether an interrupt got lost
STARTS_ANEW = "nothing half-written is left; the same command starts anew"


class Interrupt(KeyboardInterrupt):
    """An interrupt on its way up; somebody holds it for as long as it is dealt with."""


@contextmanager
def kept(words: str) -> Iterator[None]:
    """Have it said, when an interrupt comes in this block, what is kept and how it goes on; the innermost says it."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = error.args or (words,)
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """End the process with status 130 when SIGINT comes in this block; only in the main thread.

    What is raised in a destructor, in the callback of a weak reference (the import system has one for each module) or
    in a callback from C is printed and dropped by Python, and some libraries drop it while they load. So an interrupt
    that nobody holds any more is raised again, while one that is on its way through a cleanup is left alone.
    """
    raised: list[weakref.ref[Interrupt]] = []

    def interrupt() -> Interrupt:
        found = Interrupt()
        raised[:] = [weakref.ref(found)]
        return found  # no frame of the traceback may hold it: it would outlive its being dropped

    def ask(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
        raise interrupt()

    def look(*_: object) -> None:
        if raised[0]() is None:
            raise interrupt()

    before = {number: signal.signal(number, act) for number, act in ((signal.SIGINT, ask), (signal.SIGALRM, look))}
    try:
        yield
    except BaseException as error:
        if not raised:
            raise
        _say(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, act in before.items():
            signal.signal(number, act)
    if raised:
        sys.exit(INTERRUPTED)


def _say(error: BaseException | None) -> None:
    """Say what is kept, where an interrupt ended the work: errors that came of it name it as their cause."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    if error is not None:
        words = error.args[0] if error.args else STARTS_ANEW
        print(f"moe2: interrupted; {words}", file=sys.stderr, flush=True)
