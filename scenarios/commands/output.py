"""What a command says: lines for people, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "say"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]


def say(data: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print the data as JSON, or the lines."""
    if as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
        return
    for line in lines:
        print(line)
