"""The command line: `moe2`. A command is made when it is asked for: making all takes longer than many a run."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer

from scenarios.commands.usage import Group, is_read_by_people, plainly
from scenarios.commands.voice import voiced

__all__ = ["app"]

PANELS = {
    "Plan a testbed": {
        "scenarios": "run",
        "check": "run",
        "schema": "run",
        "run": "run",
        "report": "report",
        "timeline": "timeline",
        "sweep": "sweep",
        "plan": "plan",
        "capacity": "questions",
        "sensitivity": "questions",
        "whatif": "questions",
        "versus": "questions",
    },
    "At a device": {
        "meters": "calibration",
        "calibrate": "calibration",
        "fit": "calibration",
        "profiles": "calibration",
        "export": "calibration",
    },
    "The twin and the testbed": {
        "record": "record",
        "compare": "compare",
        "import": "compare",
        "sync": "sync",
        "traces": "traces",
    },
    "The method": {"answers": "method", "embed": "method", "train": "gate", "evaluate": "gate"},
}
"""The parts of the table of contents: the commands of each, and the module of `scenarios.commands` that has them."""

_HOMES = {name: (panel, module) for panel, names in PANELS.items() for name, module in names.items()}


class Commands(Group):
    """The commands, each with what it imports, from when it is first asked for."""

    panels = PANELS

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the names of all commands, in the order of the table of contents."""
        return list(_HOMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, None when there is none: then all are made, to suggest the nearest."""
        for name in [cmd_name] if cmd_name in _HOMES else _HOMES:
            if name not in self.commands:
                self.commands[name] = _made(name)
        return super().get_command(ctx, cmd_name)

    def make_context(self, *args: Any, **words: Any) -> Any:
        """Return the context of a call; one that is wrong ends with one line and exit status 2."""
        with plainly():
            return super().make_context(*args, **words)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called, likewise."""
        with plainly(ctx):
            return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: in boxes to a terminal, as plain text to a pipe."""
        self.rich_markup_mode = "rich" if is_read_by_people() else None
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="moe2",
    cls=Commands,
    help="Will these edge LLMs hold their delay and energy budgets? Simulate before you deploy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if show:
        print(f"moe2-twin {version('moe2-twin')}")
        raise typer.Exit


def _made(name: str) -> Any:
    """Return a command, made from its module alone."""
    panel, module = _HOMES[name]
    one = typer.Typer(rich_markup_mode="rich")
    import_module(f"scenarios.commands.{module}").register(one)
    one.registered_commands = [c for c in one.registered_commands if _name(c) == name]
    one.registered_groups = [g for g in one.registered_groups if g.name == name]
    made: list[Any] = [*one.registered_commands, *one.registered_groups]
    for found in made:
        found.rich_help_panel = panel
    for group in one.registered_groups:
        group.cls = Group
    one.callback()(lambda: None)  # so that it is a group, of this one command
    made_one: Any = typer.main.get_command(one)
    return voiced(made_one.commands[name])


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__)
