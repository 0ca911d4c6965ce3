"""The steps of a command: shown while they last, and logged with their seconds for those who ask."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

__all__ = ["step"]

log = logging.getLogger(__name__)


@contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Show on a terminal what is being done in this block, and log it when it is done."""
    began_s = time.perf_counter()
    with console.status(what):
        yield
    log.info("%s took %.2f s", what, time.perf_counter() - began_s)
