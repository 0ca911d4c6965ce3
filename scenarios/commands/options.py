"""Options that several commands share, each said once, and records of those that go together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from scenarios.commands.completing import complete_changes, complete_profiles, complete_scenarios
from scenarios.commands.output import AsJson

__all__ = ["Asked", "AskedBeside", "Changes", "EngineName", "ProfileArg", "ScenarioArg", "VectorFormat", "taking"]

ScenarioArg = Annotated[
    str,
    typer.Argument(
        help="A scenario file, or the name of a bundled one (`moe2 scenarios`).", autocompletion=complete_scenarios
    ),
]
ProfileArg = Annotated[str, typer.Argument(help="A bundled profile or a path.", autocompletion=complete_profiles)]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key, for example router.k=2, or k=2 for short. May be repeated.",
        autocompletion=complete_changes,
    ),
]
EngineName = Annotated[str, typer.Option("--engine", help="compiled, or simpy: the same in plain Python, slower.")]
VectorFormat = Annotated[
    Literal["svg", "pdf"] | None, typer.Option("--vector", help="Draw every figure in this format too, for papers.")
]
SweepOut = Annotated[
    Path, typer.Option("--out", help="Folder to write to; what an earlier sweep in it measured is used again.")
]
CacheDir = Annotated[Path | None, typer.Option("--cache", help="Folder of the cache; by default `cache` in --out.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Processes to run beside each other.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every question takes that is answered by a sweep: where its tables go, and how they are told."""

    out: SweepOut
    changes: Changes = None
    cache: CacheDir = None
    engine: EngineName = "compiled"
    vector: VectorFormat = None
    as_json: AsJson = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedBeside(Asked):
    """The same, where points can be measured beside each other."""

    jobs: Jobs = 2


def taking(record: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a record as options; the command gets the record as its argument `asked`."""

    def given(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "asked"]
        hints, keyword = get_type_hints(record, include_extras=True), inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(f.name, keyword, annotation=hints[f.name], default=_default(f.default))
            for f in fields(record)
        ]

        @functools.wraps(command)
        def call(**words: Any) -> None:
            command(asked=record(**{f.name: words.pop(f.name) for f in fields(record)}), **words)

        every = [*(p.replace(kind=keyword) for p in own), *shared]
        call.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in every}
        return call

    return given


def _default(default: Any) -> Any:
    """Return a field's default as a parameter has it."""
    return inspect.Parameter.empty if default is MISSING else default
