"""Reading a scenario file: find it, apply `--set`, check it, and say in one message what is wrong."""

from __future__ import annotations

import copy
import csv
import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from scenarios.files.changes import applied, keys_set
from scenarios.files.complaints import explain, near, wrong_key
from scenarios.files.extending import extended
from scenarios.files.keys import is_short, whole_key
from scenarios.files.schema import ScenarioFile
from scenarios.files.unread import why_unread

log = logging.getLogger(__name__)

__all__ = ["Scenario", "bundled_scenarios", "changed", "load", "replayed", "unread", "whole_changes"]


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

    Raises ValueError with one message that names the file or the change, the key, what was found and what is allowed;
    also for a change that would change nothing, as no part of the scenario reads its key. A short key stands for the
    one key of the scenario that ends in it: `k` for `router.k`.

    >>> load(load("testbed"), ["router.k=1"]).file == load("testbed", ["k=1"]).file
    True
    """
    changes = whole_changes(scenario, changes)
    found = changed(scenario, changes)
    for change in changes:
        for key in keys_set(change):
            if why := unread(found, key):
                raise ValueError(f"--set {change}: nothing in {found.file.name!r} reads {key}: {why}")
    return found


def changed(scenario: str | Path | Scenario, changes: Sequence[str], *, blamed: str | None = None) -> Scenario:
    """Return what `load` does, whether or not anything reads what is changed.

    `blamed` is what a message begins with where a change is to blame; without it, the changes that are.
    """
    if isinstance(scenario, Scenario):
        path, folder, given = Path(scenario.source), scenario.folder, scenario.file.model_dump(exclude_unset=True)
    else:
        path = _find(str(scenario), Path())
        folder, given = path.parent.resolve(), _whole(path, ())
    data = copy.deepcopy(given)
    changes = whole_changes(scenario, changes)
    for change in changes:
        try:
            applied(data, change)
        except ValueError as error:  # noqa: PERF203 - few changes
            raise ValueError(f"{blamed or f'--set {change}'}: {error}") from None
    try:
        checked = ScenarioFile.model_validate(data)
    except ValidationError as error:
        at_fault = _to_blame(given, changes, error)
        begin = (blamed or " ".join(f"--set {change}" for change in at_fault)) if at_fault else path
        raise ValueError(f"{begin}: {explain(error)}") from None
    return Scenario(file=checked, source=str(path), folder=folder)


def whole_changes(scenario: str | Path | Scenario, changes: Sequence[str]) -> list[str]:
    """Return the changes with every short key written whole."""
    whole = []
    for change in changes:
        key, equals, value = change.partition("=")
        if equals and is_short(key.strip()):
            scenario = scenario if isinstance(scenario, Scenario) else changed(scenario, ())
            try:
                key = whole_key(key.strip(), scenario.file)
            except ValueError as error:
                raise ValueError(f"--set {change}: {error}") from None
        whole.append(f"{key}{equals}{value}")
    return whole


def unread(scenario: Scenario, key: str) -> str:
    """Return why nothing in a scenario reads a key, and which one to change instead; nothing where it is read."""

    def names_experts() -> bool:
        path = scenario.path(getattr(scenario.file.load, "path", ""))
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return "experts" in next(csv.reader(file), [])
        except (OSError, UnicodeDecodeError, csv.Error):
            return False  # who reads it all says what is wrong with it

    return why_unread(key, scenario.file, names_experts)


def _to_blame(given: Mapping[str, Any], changes: Sequence[str], error: ValidationError) -> list[str]:
    """Return the changes that made a scenario wrong; none where it is wrong without them."""
    if not changes or _wrong(given, ()):
        return []
    at = wrong_key(error)
    touching = [c for c in changes if any(_is_within(key, at) or _is_within(at, key) for key in keys_set(c))]
    if at and touching:
        return touching
    return [c for c in changes if not _wrong(given, [other for other in changes if other != c])] or list(changes)


def _wrong(given: Mapping[str, Any], changes: Sequence[str]) -> bool:
    data = copy.deepcopy(dict(given))
    try:
        for change in changes:
            applied(data, change)
        ScenarioFile.model_validate(data)
    except ValueError:  # of the schema, or of a change that has no place without another
        return True
    return False


def _is_within(key: str, table: str) -> bool:
    """Whether a key is a table's, or the table itself.

    >>> _is_within("router.k", "router"), _is_within("experts[1].noise", "experts[1]"), _is_within("users", "use")
    (True, True, False)
    """
    return key.startswith(table) and key[len(table) : len(table) + 1] in {"", ".", "["}


def replayed(folder: Path | None) -> list[str]:
    """Return the changes that make a scenario's load a recorded run played again; none without a folder.

    >>> replayed(Path("/runs/a"))
    ['load={process="recorded", path="/runs/a"}']
    """
    return [] if folder is None else [f'load={{process="recorded", path={json.dumps(str(folder.absolute()))}}}']


def _find(scenario: str, folder: Path) -> Path:
    if not scenario:
        raise ValueError(f"'' names no scenario; bundled are: {', '.join(bundled_scenarios())}")
    path = folder / Path(scenario).expanduser()
    if path.is_file():
        return path
    bundled = bundled_scenarios()
    if scenario in bundled:
        return bundled[scenario]
    if path.is_dir():
        inside = path / "scenario.toml"
        hint = f"did you mean {inside}" if inside.is_file() else "name a scenario file in it"
        raise ValueError(f"{scenario}: this is a folder; {hint}")
    beside = {file.stem: str(Path(scenario).with_name(file.name)) for file in path.parent.glob("*.toml")}
    alike = difflib.get_close_matches(path.stem, sorted(beside), n=1)  # folder and ending are alike in any case
    hint = f" (did you mean {beside[alike[0]]!r}?)" if alike else near(scenario, bundled)
    known = ", ".join(bundled)
    raise ValueError(f"{scenario}: no such file and no bundled scenario{hint}; bundled are: {known}")


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
    log.info("reading the scenario %s", path)
    try:
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; a scenario is a UTF-8 TOML file") from None
    except tomli.TOMLDecodeError as error:
        told = str(error).replace("Cannot overwrite a value", "a key is given twice")
        raise ValueError(f"{path}: not TOML: {told}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
