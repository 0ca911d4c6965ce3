"""What a sweep varies: `--vary key=1,2,5..10,100..1000:100`, read, checked and crossed into a grid."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import prod
from typing import Any

from scenarios.files.keys import whole_key
from scenarios.files.schema import ScenarioFile

__all__ = ["MAX_POINTS", "Variation", "grid", "literal", "read_variations", "variations_of"]

MAX_POINTS = 10_000
_HOW = "write it as key=value,value or key=first..last:step, for example k=1,2,3 or load.requests_per_s=0.1..0.5:0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """One key of the scenario and the values it takes, as text that `--set` understands, in the order given."""

    key: str
    values: tuple[str, ...]


def read_variations(texts: Sequence[str], file: ScenarioFile) -> tuple[Variation, ...]:
    """Return the variations; ValueError for one that cannot be read, a key given twice, or too many points.

    A key without a dot may stand for the one key of the scenario that ends in it: `k` for `router.k`.
    """
    return _checked(tuple(_variation(text, file) for text in texts))


def variations_of(vary: Mapping[str, Iterable[Any]], file: ScenarioFile) -> tuple[Variation, ...]:
    """Return the variations of a mapping from keys to values, as Python has them; text is read as `--set` reads it.

    Raises ValueError as `read_variations` does.
    """
    found = []
    for key, values in vary.items():
        texts = [literal(value) for value in values] if isinstance(values, Iterable) else []
        if isinstance(values, str) or not texts:
            raise ValueError(f"vary[{key!r}]: found {values!r}, needs a list of values, for example [1, 2, 3]")
        found.append(Variation(key=_whole(key, file), values=_distinct(texts, key)))
    return _checked(tuple(found))


def literal(value: Any) -> str:
    """Return a value as `--set` reads it; ValueError for one that no scenario file can hold.

    >>> literal(True), literal(0.1), literal(["a", "b"]), literal({"default": 9.0}), literal("auto")
    ('true', '0.1', '["a", "b"]', '{"default" = 9.0}', 'auto')
    """
    value = value.item() if hasattr(value, "item") else value  # a number of NumPy's
    if isinstance(value, str):
        return value
    try:
        return _toml(value)
    except TypeError:
        raise ValueError(f"{value!r}: a scenario file has no value of type {type(value).__name__}") from None


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value)


def _distinct(values: Sequence[str], where: str) -> tuple[str, ...]:
    if twice := sorted({v for v in values if values.count(v) > 1}):
        raise ValueError(f"--vary {where}: the value {twice[0]} is given twice")
    return tuple(values)


def _checked(found: tuple[Variation, ...]) -> tuple[Variation, ...]:
    if not found:
        raise ValueError(f"--vary is missing: name what to vary; {_HOW}")
    keys = [v.key for v in found]
    if twice := sorted({k for k in keys if keys.count(k) > 1}):
        raise ValueError(f"--vary {twice[0]}: this key is varied twice; give all of its values at once")
    if (n := prod(len(v.values) for v in found)) > MAX_POINTS:
        raise ValueError(f"--vary: these values cross to {n} points, at most {MAX_POINTS} are allowed; vary less")
    return found


def grid(variations: Sequence[Variation]) -> list[tuple[str, ...]]:
    """Return the values of every point, the last key varying fastest; the first point is the base.

    >>> grid([Variation(key="router.k", values=("1", "2")), Variation(key="seed", values=("7", "8"))])
    [('1', '7'), ('1', '8'), ('2', '7'), ('2', '8')]
    """
    return list(itertools.product(*(v.values for v in variations)))


def _variation(text: str, file: ScenarioFile) -> Variation:
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise ValueError(f"--vary {text}: {_HOW}")
    expanded = [value for part in _parts(values) for value in _expanded(part, text)]
    return Variation(key=_whole(key.strip(), file), values=_distinct(expanded, text))


def _parts(values: str) -> list[str]:
    """Return the values between commas, those within brackets, braces or quotes left whole.

    >>> _parts('["a","b"], 3,{x=1,y=2}')
    ['["a","b"]', '3', '{x=1,y=2}']
    """
    parts, depth, quote = [""], 0, ""
    for letter in values:
        if letter in "\"'" and quote in {"", letter}:
            quote = "" if quote else letter
        if not quote:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


_RANGE = re.compile(r"(?P<first>[^.:]+(?:\.\d+)?)\.\.(?P<last>[^:]+?)(?::(?P<step>.+))?")


def _expanded(part: str, text: str) -> list[str]:
    """Return one value, or those of a range, both ends included where the step meets the last.

    >>> _expanded("100..300:100", ""), _expanded("0.05..0.2:0.05", ""), _expanded("night", "")
    (['100', '200', '300'], ['0.05', '0.10', '0.15', '0.20'], ['night'])
    """
    if not part:
        raise ValueError(f"--vary {text}: a value between commas is empty; {_HOW}")
    match = _RANGE.fullmatch(part) if part[0] not in "\"'[{" else None
    if match is None:
        return [part]
    first, last = (_decimal(match[name], text) for name in ("first", "last"))
    if match["step"] is None and (first % 1 or last % 1):
        raise ValueError(f"--vary {text}: the range {part} needs a step, for example {part}:0.1")
    step = _decimal(match["step"] or "1", text)
    if not step > 0 or last < first:
        raise ValueError(f"--vary {text}: the range {part} must go up by a step above 0")
    n = int((last - first) / step) + 1
    if n > MAX_POINTS:
        raise ValueError(f"--vary {text}: the range {part} has {n} values, at most {MAX_POINTS} are allowed")
    return [f"{first + i * step:f}" for i in range(n)]


def _decimal(number: str, text: str) -> Decimal:
    try:
        value = Decimal(number.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"--vary {text}: {number.strip()!r} is no number; {_HOW}")
    return value


def _whole(key: str, file: ScenarioFile) -> str:
    try:
        return whole_key(key, file)
    except ValueError as error:
        raise ValueError(f"--vary {key}: {error}") from None
