"""The LLMs that are asked, each behind an address: read from a TOML file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Endpoint", "read_endpoints"]

WRITE = "write a table [[endpoints]] with model, url and precision for each LLM"
MAX_TOKENS = 8  # of an answer: a letter needs one or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One LLM behind an address."""

    model: str  # the name it has in the answers table
    url: str  # up to and including /v1
    served_name: str  # the name the server knows it by
    precision: str
    max_tokens: int = MAX_TOKENS


def read_endpoints(path: Path) -> list[Endpoint]:
    """Return the endpoints of a TOML file: tables [[endpoints]] with model, url, precision, served_name, max_tokens."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("endpoints", [])
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file of endpoints; {WRITE}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: not a readable TOML file: {error}") from None
    if not tables or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: no endpoint; {WRITE}")
    endpoints = [_endpoint(table, f"{path}: endpoint {i}") for i, table in enumerate(tables, start=1)]
    double = [model for model, n in Counter(e.model for e in endpoints).items() if n > 1]
    if double:
        raise ValueError(f"{path}: model {double[0]!r} is named twice; each needs a name of its own")
    return endpoints


def _endpoint(table: Mapping[str, Any], where: str) -> Endpoint:
    known = ("model", "url", "precision", "served_name", "max_tokens")
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: unknown key {key!r}, allowed are {', '.join(known)}{hint}")
    max_tokens = table.get("max_tokens", MAX_TOKENS)
    if type(max_tokens) is not int or max_tokens < 1:
        raise ValueError(f"{where}: max_tokens is {max_tokens!r}, must be an integer of at least 1")
    model, url, precision = (_word(table, key, where) for key in ("model", "url", "precision"))
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{where}: url is {url!r}, must be an address up to /v1, as http://localhost:8080/v1")
    served_name = _word({"served_name": model, **table}, "served_name", where)
    return Endpoint(
        model=model, url=url.rstrip("/"), served_name=served_name, precision=precision, max_tokens=max_tokens
    )


def _word(table: Mapping[str, Any], key: str, where: str) -> str:
    if key not in table:
        raise ValueError(f"{where}: {key} is missing")
    if not isinstance(table[key], str) or not table[key].strip():
        raise ValueError(f"{where}: {key} is {table[key]!r}, must be a text")
    return str(table[key])
