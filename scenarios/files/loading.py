"""Reading a scenario file: find it, apply `--set`, check it, and say in one message what is wrong."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from scenarios.files.complaints import explain, near
from scenarios.files.extending import extended
from scenarios.files.schema import ScenarioFile

__all__ = ["Scenario", "bundled_scenarios", "load", "replayed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A checked scenario and where it stands."""

    file: ScenarioFile
    source: str
    folder: Path

    def path(self, text: str) -> Path:
        """Return a path of the file, taken relative to the scenario's folder."""
        return (self.folder / Path(text).expanduser()).resolve()


def bundled_scenarios() -> dict[str, Path]:
    """Return the bundled scenarios by name."""
    folder = Path(str(resources.files("scenarios"))) / "library"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(scenario: str | Path | Scenario, changes: Sequence[str] = ()) -> Scenario:
    """Return a scenario by path or bundled name, or one that was loaded, with `key=value` changes applied.

    Raises ValueError with one message that names the file, the key, what was found and what is allowed.

    >>> load(load("testbed"), ["router.k=1"]).file == load("testbed", ["router.k=1"]).file
    True
    """
    if isinstance(scenario, Scenario):
        path, folder, data = Path(scenario.source), scenario.folder, scenario.file.model_dump(exclude_unset=True)
    else:
        path = _find(str(scenario), Path())
        folder, data = path.parent.resolve(), _whole(path, ())
    for change in changes:
        _apply(data, change)
    try:
        checked = ScenarioFile.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from None
    return Scenario(file=checked, source=str(path), folder=folder)


def replayed(folder: Path | None) -> list[str]:
    """Return the changes that make a scenario's load a recorded run played again; none without a folder.

    >>> replayed(Path("/runs/a"))
    ['load={process="recorded", path="/runs/a"}']
    """
    return [] if folder is None else [f'load={{process="recorded", path={json.dumps(str(folder.absolute()))}}}']


def _find(scenario: str, folder: Path) -> Path:
    path = folder / Path(scenario).expanduser()
    if path.is_file():
        return path
    bundled = bundled_scenarios()
    if scenario in bundled:
        return bundled[scenario]
    known = ", ".join(bundled)
    raise ValueError(f"{scenario}: no such file and no bundled scenario{near(scenario, bundled)}; bundled are: {known}")


def _whole(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return a file's data over those of the file it extends, if it does."""
    here = path.resolve()
    if here in above:
        raise ValueError(f"{path}: extends itself, by way of {' and '.join(str(p) for p in above)}")
    data = _parse(path)
    base, without = data.pop("extends", None), data.pop("without", [])
    if base is None and not without:
        return data
    if not isinstance(base, str):
        raise ValueError(f"{path}: key extends = {base!r}: should be a bundled scenario or a path; `without` needs it")
    try:
        base_path = _find(base, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: key extends: {error}") from None
    return extended(_whole(base_path, (*above, here)), data, without, base_path.parent.resolve(), str(path))


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; a scenario is a UTF-8 TOML file") from None
    except tomli.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def _apply(data: dict[str, Any], change: str) -> None:
    """Set one value in place: `experts[0].max_batch=2`, `budgets.delay_s={default=9.0}`, `name=night`."""
    key, equals, text = change.partition("=")
    steps = [int(s[1:-1]) if s.startswith("[") else s for s in re.findall(r"\[\d+\]|[^.\[\]]+", key.strip())]
    if not equals or not steps or isinstance(steps[0], int):
        raise ValueError(f"--set {change}: write it as key=value, for example router.k=2 or experts[0].max_batch=4")
    here: Any = data
    for step, following in itertools.pairwise(steps):
        if isinstance(here, dict) and not isinstance(following, int) and step not in here:
            here[step] = {}
        here = _step(here, step, change)
    last = steps[-1]
    if not (isinstance(here, dict) and isinstance(last, str)):
        _step(here, last, change)
    if not isinstance(here, dict | list):
        raise ValueError(f"--set {change}: {here!r} is a value and has no {last!r}")
    here[last] = _value(text.strip())


def _step(here: Any, step: str | int, change: str) -> Any:
    try:
        return here[step]
    except (KeyError, IndexError, TypeError):
        size = f"a list of {len(here)}" if isinstance(here, list) else type(here).__name__
        raise ValueError(f"--set {change}: there is no {step!r} in {size}") from None


def _value(text: str) -> Any:
    """Return a TOML value, or the text itself where it is none."""
    try:
        return tomli.loads(f"x = {text}")["x"]
    except tomli.TOMLDecodeError:
        return text
