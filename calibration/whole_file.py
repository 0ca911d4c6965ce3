"""A file that appears whole or not at all, as readable as any other that its owner makes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["DRAFTS", "whole_file", "write_whole"]

DRAFTS = ".*.draft"
"""What the names of unfinished files look like; a process that is killed may leave one."""


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the name of a draft beside `path`, to be written in the block, that takes its place when the block ends.

    Whatever interrupts the block, `path` is left as it was and the draft is removed. The draft is made by whoever
    writes it, so the umask says who may read it. With `durable` it is on the disk before it takes the place.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        yield draft
        if durable:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file that appears whole or not at all."""
    with whole_file(path, durable=durable) as draft:
        draft.write_bytes(content)
