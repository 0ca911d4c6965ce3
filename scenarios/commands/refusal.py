"""How a command refuses what it was given: one message, exit status 2, no traceback."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

__all__ = ["BAD_INPUT", "bad_input", "say_refused"]

BAD_INPUT = 2


@contextmanager
def bad_input(
    kinds: tuple[type[Exception], ...] = (ValueError, ModuleNotFoundError, OSError, MemoryError),
) -> Iterator[None]:
    """Turn an error in what was given into one message and exit status 2."""
    try:
        yield
    except kinds as error:
        say_refused(_message(error))
        raise typer.Exit(BAD_INPUT) from None


def say_refused(message: str) -> None:
    """Print why on standard error, as it stands: no markup, no emoji, and in one line however wide the screen is.

    What would begin another line, or move the cursor, is written as Python writes it.
    """
    line = "".join(repr(c)[1:-1] if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in message)
    Console(stderr=True, soft_wrap=True).print(Text(f"moe2: {line}"))


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or 'cannot be used').lower()}"
    if isinstance(error, MemoryError):
        return f"this machine's memory does not suffice{f' ({error})' if str(error) else ''}; simulate less at once"
    return str(error)
