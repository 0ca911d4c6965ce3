"""One key of a scenario set to a value: `router.k=2`, `experts[0].max_batch=4`, `budgets.delay_s={default=9.0}`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomli

__all__ = ["applied", "keys_set", "without_other"]

Steps = list[str | int]
_ONE_OF = ({"requests_per_s", "requests_per_s_per_user"},)  # of one table: giving one takes the other's place


def applied(data: dict[str, Any], change: str) -> None:
    """Set one value of a scenario's data in place; ValueError for what is no change, or has no place there."""
    steps, value = _read(change)
    here: Any = data
    for step, following in itertools.pairwise(steps):
        if isinstance(here, dict) and isinstance(step, str) and not isinstance(following, int):
            here.setdefault(step, {})
        here = _at(here, step)
    last = steps[-1]
    if isinstance(here, dict) and isinstance(last, str):
        whole = without_other(here, {last: value})
        here.clear()
        here.update({**whole, last: value})
    elif isinstance(here, list) and isinstance(last, int):
        _at(here, last)  # it is there
        here[last] = value
    else:
        raise ValueError(f"there is no {last!r} in {_kind(here)}")


def without_other(table: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without the keys that what is `said` of it takes the place of.

    >>> without_other({"process": "poisson", "requests_per_s": 0.2}, {"requests_per_s_per_user": 0.001})
    {'process': 'poisson'}
    """
    gone = {key for pair in _ONE_OF if len(pair & said.keys()) == 1 for key in pair - said.keys()}
    return {key: value for key, value in table.items() if key not in gone}


def keys_set(change: str) -> list[str]:
    """Return the keys that a change sets, those of a table one by one.

    >>> keys_set("router.k=2"), keys_set("experts[0]={max_batch=2, kv='paged'}")
    (['router.k'], ['experts[0].max_batch', 'experts[0].kv'])
    """
    steps, value = _read(change)
    return list(_leaves(value, "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)[1:]))


def _leaves(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{i}]")
    else:
        yield key


def _read(change: str) -> tuple[Steps, Any]:
    """Return the steps to a key and its value: a TOML value, or the text itself where it is none."""
    key, equals, text = change.partition("=")
    steps: Steps = [int(s[1:-1]) if s.startswith("[") else s for s in re.findall(r"\[\d+\]|[^.\[\]]+", key.strip())]
    if not equals or not steps or isinstance(steps[0], int):
        raise ValueError("write it as key=value, for example router.k=2 or experts[0].max_batch=4")
    try:
        return steps, tomli.loads(f"x = {text.strip()}")["x"]
    except tomli.TOMLDecodeError:
        return steps, text.strip()


def _at(here: Any, step: str | int) -> Any:
    try:
        return here[step]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"there is no {step!r} in {_kind(here)}") from None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "a table" if isinstance(value, dict) else repr(value)
