"""Results of points kept by the content they depend on: a killed sweep resumes, a repeated one costs nothing."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from calibration.whole_file import write_whole
from scenarios.files.loading import Scenario

__all__ = ["Cache", "digest", "program_digest"]

_PACKAGES = ("moe2", "calibration", "twin", "scenarios")
_NOT_RESULTS = ("name", "description")  # keys of the scenario that no result depends on


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A folder with one JSON file per result, named by its digest; files appear whole or not at all."""

    folder: Path

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the result under this key; None when there is none, or none that can be read."""
        try:
            found = json.loads((self.folder / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("digest") == key else None

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep a result; a reader sees the old state or the new, whatever interrupts this."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f"{key}.json", json.dumps({"digest": key, **result}).encode())


def digest(scenario: Scenario, engine: str) -> str:
    """Return a hash of all that a scenario's result depends on.

    That is: every key of the resolved scenario, the content of every file it names, the engine, and this program,
    its bundled data and the libraries that compute.
    """
    data = scenario.file.model_dump(mode="json", exclude=set(_NOT_RESULTS))
    files = {text: _of_file(path, *_state(path)) for text, path in _files(data, scenario)}
    return _sha256({"scenario": _without_paths(data, files), "engine": engine, "program": program_digest()})


@functools.cache
def program_digest() -> str:
    """Return a hash of the four packages, code and data, and of the versions of the libraries that compute."""
    roots = [Path(str(resources.files(package))) for package in _PACKAGES]
    paths = [(root.name, path) for root in roots for path in sorted(root.rglob("*")) if _is_source(path)]
    hashes = [[name, str(path.name), _of_file(path, *_state(path))] for name, path in paths]
    return _sha256({"files": hashes, "versions": {name: version(name) for name in ("numpy", "scipy", "numba")}})


def _is_source(path: Path) -> bool:
    return path.suffix in {".py", ".json", ".safetensors", ".parquet", ".npz", ".toml"} and path.is_file()


def _files(data: Any, scenario: Scenario) -> Iterator[tuple[str, Path]]:
    """Yield every text in the scenario that names a file beside it."""
    for text in sorted(set(_texts(data))):
        if len(text) < 1024 and (path := scenario.path(text)).is_file():
            yield text, path


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value and "\n" not in value and "\0" not in value:
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _without_paths(value: Any, files: Mapping[str, str]) -> Any:
    """Return the data with each file's name replaced by its hash: a folder that was moved gives the same digest."""
    if isinstance(value, Mapping):
        return {name: _without_paths(inner, files) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner, files) for inner in value]
    return f"sha256:{files[value]}" if isinstance(value, str) and value in files else value


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _of_file(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - they tell one state of a file from another
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
