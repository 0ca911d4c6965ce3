"""How the command line is called: plain help where no terminal reads it, one line for what was wrong with a call."""

# ruff: noqa: PLC0415 - a call that is right pays for none of it
from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from scenarios.commands.refusal import BAD_INPUT, say_refused

__all__ = ["Group", "is_read_by_people", "plainly"]

UsageError: Any = typer.BadParameter.__base__  # of the click that Typer brings

_ALIKE = 0.6  # how much alike a word has to be, for it to have been meant
_WHOLE = 1000  # letters of a first sentence at most


def is_read_by_people() -> bool:
    """Whether help goes to a terminal, where boxes and colours are of use."""
    return sys.stdout.isatty()


class Group(TyperGroup):
    """A command of commands; in plain text each has its whole first sentence."""

    panels: Mapping[str, Iterable[str]] | None = None
    """The names of its parts and their commands; None where it has no parts."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of contents as plain text."""
        panels = self.panels or {"Commands": self.list_commands(ctx)}
        widest = max(len(name) for names in panels.values() for name in names)
        for panel, names in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(f"{name:{widest}}", self._sentence(ctx, name)) for name in names])

    def _sentence(self, context: Any, name: str) -> str:
        command: Any = self.get_command(context, name)
        return str(command.get_short_help_str(_WHOLE))


@contextmanager
def plainly(context: Any = None) -> Iterator[None]:
    """Turn what is wrong with a call into one line on standard error and exit status 2."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            say_refused(_words(error, error.ctx or context))
        elif text := error.format_message():  # the help; a terminal has it already
            print(text)
        raise typer.Exit(BAD_INPUT) from None


def _words(error: Any, context: Any) -> str:
    if context is None:
        return str(error.format_message())
    called = " ".join([context.command_path, *([context.invoked_subcommand] if context.invoked_subcommand else [])])
    words = called.partition(" ")[2]
    return f"{f'{words}: ' if words else ''}{_wrong(error, context)}; see {called} --help"


def _wrong(error: Any, context: Any) -> str:
    """Return what is wrong, with the nearest that would be right."""
    from scenarios.files.complaints import near

    message = error.format_message()
    if hasattr(error, "possibilities"):  # an option that is not known
        known = [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]
        return f"there is no option {error.option_name}{near(error.option_name, known, alike=_ALIKE)}"
    if message.startswith("No such command"):
        name = message.split("'")[1]
        known = context.command.list_commands(context)
        return f"there is no command {name!r}{near(name, known, alike=_ALIKE)}; there are {', '.join(known)}"
    if getattr(error, "param", None) is None:
        return _continued(message)
    if message.startswith("Missing"):
        return _missing(error.param, context)
    wanted = error.message.removeprefix("Value error, ").removeprefix("Input ").partition(", unable to parse")[0]
    return f"{_name(error.param)}{_found(error)}: {_continued(wanted)}"


def _missing(parameter: Any, context: Any) -> str:
    meaning = _continued(parameter.help or "")
    examples = [line.partition("Example: ")[2] for line in (context.command.help or "").splitlines()]
    example = next((line for line in examples if line), "")
    told = f"{_name(parameter)} is missing{f' ({meaning})' if meaning else ''}"
    return f"{_wrong_scenario(context)}{told}{f'; for example: {example}' if example else ''}"


def _wrong_scenario(context: Any) -> str:
    """Return what is wrong with the scenario that was named, if anything: it is told with what is missing beside it."""
    from scenarios.files.loading import load

    scenario = context.params.get("scenario")
    if not isinstance(scenario, str):
        return ""
    try:
        load(scenario)
    except ValueError as error:
        return f"{error}; and "
    return ""


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"argument {parameter.name.upper()}"
    return str(max(parameter.opts, key=len))


def _continued(sentence: str) -> str:
    """Return a sentence as the end of another.

    >>> _continued("Folder to write to."), _continued("JSON file.")
    ('folder to write to', 'JSON file')
    """
    begin = sentence[:1] if sentence[1:2].isupper() else sentence[:1].lower()
    return begin + sentence[1:].rstrip(".")


def _found(error: Any) -> str:
    """Return the value that was given, where it is known."""
    cause = error.__cause__
    return f" {cause.errors()[0]['input']}" if hasattr(cause, "errors") else ""
