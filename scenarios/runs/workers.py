"""Processes that work beside this one, and end with it, however it ends."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

__all__ = ["workers"]

LOOK_S = 1.0  # between looks at whether the parent is still there


def workers(n_jobs: int) -> dict[str, Any]:
    """Return the arguments of `joblib.Parallel` for so many processes that do not outlive this one.

    A process that is killed cannot tell its workers to stop: each looks for its parent and ends itself.
    """
    return {"n_jobs": n_jobs, "initializer": _end_with, "initargs": (os.getpid(),)}


def _end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="ends with its parent").start()
