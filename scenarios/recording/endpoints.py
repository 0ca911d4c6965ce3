"""The endpoints of a testbed: which server is which expert, and what measures its device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tomli

from calibration.meters.opening import METERS
from scenarios.files.complaints import near

__all__ = ["EndpointSpec", "read_endpoints"]

_HOW = 'write a table [[endpoints]] with expert = "…" and url = "http://…" for each'


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """One expert's server; `timeout_s` is how long nothing may come from it before a leg has failed.

    `meter` is one of this machine, for the expert's device; `rails` and `gpu` tell which part of it.
    """

    expert: str
    url: str
    model: str | None = None
    key_variable: str | None = None
    meter: str = "none"
    rails: tuple[str, ...] = ()
    gpu: int = 0
    timeout_s: float = 60.0

    @property
    def key(self) -> str | None:
        """The secret of the API; None without one. ValueError when its variable is not set."""
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable)
        if not key:
            raise ValueError(f"endpoint of {self.expert!r}: the environment has no variable {self.key_variable}")
        return key


def read_endpoints(path: Path, experts: Sequence[str], known: Sequence[str]) -> tuple[EndpointSpec, ...]:
    """Return the endpoint of each of `experts`, in their order; `known` are the names that the scenario has.

    Raises ValueError naming the file, the table, the key, what was found and what is allowed.
    """
    try:
        data = tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read as a TOML file of endpoints ({why})") from None
    for key in data:
        if key != "endpoints":
            raise ValueError(f"{path}: key {key} is not known{near(key, ['endpoints'])}; {_HOW}")
    tables = data.get("endpoints")
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise ValueError(f"{path}: no endpoints; {_HOW}")
    found: dict[str, EndpointSpec] = {}
    for i, table in enumerate(tables):
        spec = _spec(table, f"{path}: endpoints[{i}]", known)
        if spec.expert in found:
            raise ValueError(f"{path}: endpoints[{i}]: expert {spec.expert!r} has an endpoint already; give each one")
        found[spec.expert] = spec
    if missing := [name for name in experts if name not in found]:
        raise ValueError(f"{path}: expert {missing[0]!r} would run and has no endpoint; {_HOW}")
    return tuple(found[name] for name in experts)


_NEEDED = ("expert", "url")
_KINDS: dict[str, tuple[type, ...]] = {
    "expert": (str,),
    "url": (str,),
    "model": (str,),
    "key_variable": (str,),
    "meter": (str,),
    "rails": (list,),
    "gpu": (int,),
    "timeout_s": (int, float),
}


def _spec(table: Mapping[str, Any], where: str, known: Sequence[str]) -> EndpointSpec:
    allowed = [f.name for f in fields(EndpointSpec)]
    for key, value in table.items():
        if key not in allowed:
            raise ValueError(f"{where}: key {key} is not known{near(key, allowed)}; allowed: {', '.join(allowed)}")
        if not isinstance(value, _KINDS[key]) or isinstance(value, bool):
            kinds = " or ".join(kind.__name__ for kind in _KINDS[key])
            raise ValueError(f"{where}: key {key} = {value!r}: should be of type {kinds}")
    for key in (key for key, kinds in _KINDS.items() if kinds == (str,) and (key in table or key in _NEEDED)):
        if not table.get(key, "").strip():
            raise ValueError(f"{where}: key {key} is missing or empty; {_HOW}")
    spec = EndpointSpec(**{**table, "rails": tuple(table.get("rails", ()))})
    _check(spec, where, known)
    return spec


def _check(spec: EndpointSpec, where: str, known: Sequence[str]) -> None:
    if spec.expert not in known:
        hint = near(spec.expert, known)
        raise ValueError(f"{where}: the scenario has no expert {spec.expert!r}{hint}; experts: {', '.join(known)}")
    if not _is_address(spec.url):
        raise ValueError(
            f"{where}: key url = {spec.url!r}: should be like http://127.0.0.1:8080, or begin with https://"
        )
    if spec.meter not in METERS:
        raise ValueError(
            f"{where}: key meter = {spec.meter!r}: must be one of {', '.join(METERS)}{near(spec.meter, METERS)}"
        )
    if not all(isinstance(rail, str) and rail for rail in spec.rails):
        raise ValueError(f"{where}: key rails = {list(spec.rails)!r}: should be a list of the rails' names")
    if spec.gpu < 0:
        raise ValueError(f"{where}: key gpu = {spec.gpu}: should be the number of a GPU, 0 for the first")
    if spec.meter == "none" and (spec.rails or spec.gpu):
        raise ValueError(f"{where}: rails and gpu tell a meter where to look, and there is none; name it with meter")
    if not (isfinite(spec.timeout_s) and spec.timeout_s > 0):
        raise ValueError(f"{where}: key timeout_s = {spec.timeout_s}: must be a finite number of seconds above 0")


def _is_address(url: str) -> bool:
    """Return whether a URL has a scheme that can be asked, a host, and a port that there is, if it names one.

    >>> [_is_address(url) for url in ("http://box:8080", "https://api.example/v1", "http://", "http://box:99999")]
    [True, True, False, False]
    """
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, an address in brackets that is none
        return False
