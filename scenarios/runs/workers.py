"""Processes that work beside this one, and end with it, however it ends."""

# ruff: noqa: PLC0415 - see docs/decisions/start.md
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["performed"]

Found = TypeVar("Found")

LOOK_S = 1.0  # between looks at whether the parent is still there


def performed(tasks: Sequence[Callable[[], Found]], n_jobs: int) -> Iterator[tuple[int, Found]]:
    """Yield the number and the result of each task as they come, from `n_jobs` processes; with 1 from this one.

    What a process was doing when it was killed is done again, once; ChildProcessError when it happens again, as on a
    machine with too little memory.
    """
    n_jobs = min(n_jobs, len(tasks))
    if n_jobs <= 1:
        yield from ((i, task()) for i, task in enumerate(tasks))
        return
    from concurrent.futures.process import BrokenProcessPool

    import joblib

    left = dict(enumerate(tasks))
    for _ in range(2):
        parallel = joblib.Parallel(
            n_jobs=n_jobs,
            return_as="generator_unordered",
            pre_dispatch="2*n_jobs",
            initializer=_end_with,
            initargs=(os.getpid(),),
        )
        try:
            for i, found in parallel(joblib.delayed(_numbered)(*item) for item in list(left.items())):
                del left[i]
                yield i, found
        except BrokenProcessPool:
            continue
        return
    raise ChildProcessError(
        f"a process was killed in the middle of its work, twice; {len(left)} of {len(tasks)} parts are not done: the "
        "machine may have too little memory for so many processes or so large a scenario"
    )


def _numbered(i: int, task: Callable[[], Any]) -> tuple[int, Any]:
    return i, task()


def _end_with(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone: one that was killed cannot tell its workers to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="ends with its parent").start()
