"""The keys of a scenario by their whole names, and the one that a short name stands for: `router.k` for `k`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scenarios.files.complaints import near
from scenarios.files.schema import ScenarioFile

__all__ = ["is_short", "keys_of", "whole_key"]


def keys_of(file: ScenarioFile) -> list[str]:
    """Return every key of a scenario, defaults included."""
    return list(_keys(file.model_dump()))


def is_short(key: str) -> bool:
    """Whether a key stands for one of a table.

    >>> is_short("k"), is_short("router.k"), is_short("seed"), is_short("experts[0]")
    (True, False, False, False)
    """
    return not ("." in key or "[" in key or key in ScenarioFile.model_fields)


def whole_key(key: str, file: ScenarioFile) -> str:
    """Return the one key of a scenario that a short one ends; ValueError where there is none, or are several."""
    if not is_short(key):
        return key
    keys = keys_of(file)
    ends = [k for k in keys if k.rpartition(".")[2] == key]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ValueError(f"{key} could be {', '.join(ends[:3])}{' …' if ends[3:] else ''}; write it whole")
    known = {k.rpartition(".")[2]: k for k in keys}
    raise ValueError(f"no key of the scenario is or ends in {key}{near(key, known)}; write it whole")


def _keys(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _keys(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for i, inner in enumerate(value):
            yield from _keys(inner, f"{path}[{i}]")
    else:
        yield path
