"""The journal of a recording: one JSON line per event, appended as it happens and never changed.

Whatever kills the recorder, the lines before stand: a leg that was sent and has no end was under way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = [
    "Began",
    "Ended",
    "Events",
    "GivenUp",
    "Journal",
    "Metered",
    "Sent",
    "Stopped",
    "Unanswered",
    "alone_with",
    "read_journal",
]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The clock of a replication stood at 0 at `unix_s`: what else was measured on the machine is told by it."""

    replication: int
    unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An attempt at a leg was handed over at `sent_s`; it should have been at `planned_s`. Seconds from the start."""

    replication: int
    leg: int
    attempt: int
    planned_s: float
    sent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt at a leg came to its end at `ended_s`: served, rejected or failed, with the reason.

    The other instants are of the stream; None is what did not come or was not told.
    """

    replication: int
    leg: int
    attempt: int
    status: str
    reason: str | None
    ended_s: float
    first_token_s: float | None = None
    finished_s: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    server_prefill_s: float | None = None
    server_decode_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """The gateway no longer waits for an attempt, which fails, whatever its server still does."""

    replication: int
    leg: int
    attempt: int
    at_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A request gets no answer: rejected, or failed. `request` is its row in the load."""

    replication: int
    request: int
    at_s: float
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """The joules of a device over a replication; None with the `reason` where there are none."""

    replication: int
    device: str
    energy_j: float | None
    busy_j: float | None
    scope: str | None
    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A replication ended, `whole` or interrupted, and everything in it is accounted for up to `at_s`.

    `steal_share` of the time of this machine's processors was taken by its host meanwhile; None where it is not told.
    """

    replication: int
    at_s: float
    whole: bool
    steal_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What a journal holds."""

    manifest: dict[str, Any]
    began: list[Began] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)
    metered: list[Metered] = field(default_factory=list)
    stopped: list[Stopped] = field(default_factory=list)


_KINDS = {
    "began": Began,
    "sent": Sent,
    "ended": Ended,
    "given_up": GivenUp,
    "unanswered": Unanswered,
    "metered": Metered,
    "stopped": Stopped,
}
Event = Began | Sent | Ended | GivenUp | Unanswered | Metered | Stopped
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Journal:
    """A journal being written. Every line is with the operating system before `add` returns."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Begin a new journal; FileExistsError when there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self._size = 0
        _claim(self._file)
        self._write({"schema": SCHEMA, **manifest})
        os.fsync(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def add(self, event: Event) -> None:
        """Append one event. Not forced onto the disk: that would hold up the next send."""
        self._write({"kind": _NAMES[type(event)], **asdict(event)})

    def _write(self, line: Mapping[str, Any]) -> None:
        """Append a line, or nothing: half a line would make one with the next. OSError names the journal."""
        left = (json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n").encode()
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._size = os.fstat(self._file).st_size


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep a journal to this process while the block lasts; ValueError where none is, or another process writes it."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a recording's journal ({error.strerror})") from None
    try:
        if not _claim(file):
            raise ValueError(f"{path}: another `moe2 record` is writing it now; wait for its end, or interrupt it")
        yield
    finally:
        os.close(file)


def _claim(file: int) -> bool:
    """Claim an open file, which the kernel frees when its process ends in whatever way; False where another has it."""
    import fcntl  # noqa: PLC0415 - only where it is needed: not every system has it

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_journal(path: Path) -> Events:
    """Return what a journal holds; a last line that was cut off while it was written did not happen.

    Raises ValueError naming the file and the line.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a recording's journal ({error.strerror})") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    if not rows or rows[0].get("schema") != SCHEMA:
        raise ValueError(f"{path}: is no journal of a recording: its first line must have schema {SCHEMA}")
    events = Events(manifest=rows[0])
    for number, row in enumerate(rows[1:], start=2):
        name = row.pop("kind", None)
        try:
            getattr(events, name).append(_KINDS[name](**row))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: is no event of a recording ({error})") from None
    return events


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: is no JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: must be a JSON object")
    return row
