"""A scenario as a base and a difference: what `extends` and `without` do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenarios.files.changes import without_other
from scenarios.files.complaints import near

__all__ = ["extended"]


def extended(
    base: Mapping[str, Any], change: Mapping[str, Any], without: Any, base_folder: Path, source: str
) -> dict[str, Any]:
    """Return a base scenario's data with a difference applied.

    Tables are merged key by key; a `load` of another process replaces the base's, and a rate per user a total one, or
    the other way round. Experts are merged by name: one the base has is changed, any other is added; those named in
    `without` are dropped. Paths of the base stay relative to `base_folder`.
    Raises ValueError, naming `source`, for a dropped expert that the base does not have.
    """
    anchored = _anchored(base, base_folder)
    merged = _merged({k: v for k, v in anchored.items() if k != "experts"}, change)
    experts = _dropped(anchored.get("experts", []), without, source)
    merged["experts"] = _experts(experts, change.get("experts", []))
    return merged


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `change`, tables in tables.

    >>> _merged({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}})
    {'a': 1, 'b': {'c': 4, 'd': 3}}
    """
    merged = without_other(base, change)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other_process = value.get("process", old.get("process")) != old.get("process")
            merged[key] = value if other_process else _merged(old, value)
        else:
            merged[key] = value
    return merged


def _experts(base: Any, change: Any) -> Any:
    if not isinstance(base, list) or not isinstance(change, list):
        return change
    by_name = {e.get("name"): dict(e) for e in base if isinstance(e, Mapping)}
    for expert in change:
        if not isinstance(expert, Mapping):
            return change  # the schema says what is wrong with it
        name = expert.get("name")
        by_name[name] = _merged(by_name.get(name, {}), expert)
    return list(by_name.values())


def _dropped(experts: Any, without: Any, source: str) -> Any:
    if not isinstance(without, list) or not all(isinstance(name, str) for name in without):
        raise ValueError(f"{source}: key without = {without!r}: should be a list of expert names")
    names = [e.get("name") for e in experts if isinstance(e, Mapping)]
    for name in without:
        if name not in names:
            known = ", ".join(str(n) for n in names)
            raise ValueError(
                f"{source}: key without: no expert is named {name!r}{near(name, map(str, names))}; {known}"
            )
    return [e for e in experts if e.get("name") not in without]


def _anchored(base: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the data with its relative paths made absolute, so that they hold from elsewhere."""
    data = dict(base)
    for table, key in (("load", "path"), ("router", "gate"), ("router", "answers")):
        section = data.get(table)
        if isinstance(section, Mapping) and isinstance(section.get(key), str) and section[key] != "bundled":
            data[table] = {**section, key: str((folder / section[key]).resolve())}
    data = _anchored_network(data, folder)
    experts = data.get("experts")
    if isinstance(experts, list):
        data["experts"] = [_anchored_expert(e, folder) if isinstance(e, Mapping) else e for e in experts]
    return data


def _anchored_network(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the data with the paths of positions and of access points made absolute."""
    users, network = data.get("users"), data.get("network")
    if isinstance(users, Mapping) and isinstance(text := users.get("positions"), str):
        data["users"] = {**users, "positions": str((folder / text).resolve())}
    if isinstance(network, Mapping) and isinstance(sites := network.get("access_points"), Mapping):
        if isinstance(text := sites.get("path"), str):
            sites = {**sites, "path": str((folder / text).resolve())}
        data["network"] = {**network, "access_points": sites}
    return data


def _anchored_expert(expert: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found = dict(expert)
    if "profile" in found:
        found["profile"] = _anchored_profile(found["profile"], folder)
    if isinstance(modes := found.get("power_modes"), Mapping):
        found["power_modes"] = {mode: _anchored_profile(name, folder) for mode, name in modes.items()}
    return found


def _anchored_profile(name: Any, folder: Path) -> Any:
    return str((folder / name).resolve()) if isinstance(name, str) and name.endswith(".json") else name
