"""How much a command says: `-q` and `-v`, the same for every command and in no command's own signature."""

from __future__ import annotations

import io
import logging
import sys
import time
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenarios.commands.usage import is_read_by_people

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["progress_console", "voiced"]

log = logging.getLogger(__name__)

_PACKAGES = ("scenarios", "twin", "moe2", "calibration")


def progress_console() -> Console:
    """Return where the progress of a command is shown: standard error, or nowhere when it is to be quiet."""
    from rich.console import Console  # noqa: PLC0415 - see docs/decisions/start.md

    return Console(stderr=True, quiet=isinstance(sys.stdout, _Nowhere))


def voiced(command: Any) -> Any:
    """Return a command, or a group with all of its commands, that takes `-q` and `-v`; its help to a pipe is plain."""
    if not is_read_by_people():
        command.rich_markup_mode = None
    if hasattr(command, "commands"):
        for inner in command.commands.values():
            voiced(inner)
    else:
        command.params += _options()
    return command


def _be_quiet(context: typer.Context, wanted: bool) -> None:
    """Print no result; what was wrong is still said on standard error."""
    if wanted:
        context.with_resource(redirect_stdout(_Nowhere()))


def _tell_steps(context: typer.Context, wanted: bool) -> None:
    """Let what is logged go to standard error: what was read, what is computed, what it took."""
    if wanted:
        steps = _Steps()
        for name in _PACKAGES:
            packages_log = logging.getLogger(name)
            packages_log.addHandler(steps)
            packages_log.setLevel(logging.INFO)
            context.call_on_close(_undo(packages_log, steps))
        context.call_on_close(_tell_end)
        log.info("moe2-twin %s: %s", version("moe2-twin"), context.command_path)


def _tell_end() -> None:
    log.info("ended, after %.2f s of this process's processor time", time.process_time())


def _undo(log: logging.Logger, handler: logging.Handler) -> Any:
    def undo() -> None:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)

    return undo


class _Nowhere(io.TextIOBase):
    """Takes what is printed and drops it."""

    def write(self, text: str) -> int:
        return len(text)


class _Steps(logging.Handler):
    """Prints each step with the seconds since the start; a bar of progress that is being drawn moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.relativeCreated / 1000:8.2f} s  {record.getMessage()}", file=sys.stderr)


def _options() -> list[Any]:
    """Return the two options, made by Typer from a command that has nothing else."""
    maker = typer.Typer(add_completion=False)
    maker.command()(_spoken)
    found: list[Any] = typer.main.get_command(maker).params
    return found


def _spoken(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", callback=_be_quiet, expose_value=False, help="Print no result: the exit status says it."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            callback=_tell_steps,
            expose_value=False,
            help="Say on stderr what is read and computed, and when.",
        ),
    ] = False,
) -> None:
    """Do nothing: the options' callbacks do it."""
