"""The steps of a command: shown while they last, and logged with their seconds for those who ask."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

__all__ = ["step", "timed"]

log = logging.getLogger(__name__)


@contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Show on a terminal what is being done in this block, and log it when it is done."""
    with timed(what), console.status(what):
        yield


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Log what is done in this block, when it begins and how long it took."""
    log.info("%s …", what)
    began_s = time.perf_counter()
    yield
    log.info("%s took %.2f s", what, time.perf_counter() - began_s)
