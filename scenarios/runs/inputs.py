"""Answers and gates, read once per process for as long as their files stay the same."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from moe2.answers import Answers, bundled_answers, read_answers
from moe2.gate import Gate, bundled_gate, read_gate

log = logging.getLogger(__name__)

__all__ = ["answers_at", "gate_at"]


def answers_at(path: Path | None) -> Answers:
    """Return the answers table in a file, or the bundled one; ValueError where there is no such file."""
    _check_there(path)
    return _answers(path, *_state(path))


def gate_at(path: Path | None) -> Gate:
    """Return the gate in a file, or the bundled one; ValueError where there is no such file."""
    _check_there(path)
    return _gate(path, *_state(path))


def _check_there(path: Path | None) -> None:
    if path is not None and not path.exists():
        raise ValueError(f'{path}: no such file; name a file, or "bundled" for what comes along')


def _state(path: Path | None) -> tuple[int, int]:
    """Return what tells one content of a file from the next: its size and when it was written."""
    if path is None or not path.is_file():  # the reader says what is wrong
        return 0, 0
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _answers(path: Path | None, size: int, mtime_ns: int) -> Answers:  # noqa: ARG001 - part of the cache's key
    found = bundled_answers() if path is None else read_answers(path)
    log.info("read %s answers: %d prompts, %d models", path or "the bundled", len(found), len(found.models))
    return found


@functools.lru_cache(maxsize=8)
def _gate(path: Path | None, size: int, mtime_ns: int) -> Gate:  # noqa: ARG001 - part of the cache's key
    found = bundled_gate() if path is None else read_gate(path)
    log.info("read %s gate, of %d models", path or "the bundled", len(found.models))
    return found
