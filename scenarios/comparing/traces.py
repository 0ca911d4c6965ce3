"""Regression traces: recorded runs kept with a scenario, its profiles and the tolerances that the twin must meet.

A trace is a folder: the recorded tables, scenario.toml (whose load is the record beside it), the profiles that it
names, tolerances.toml, and trace.toml, which says how it was recorded and has the SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli
import tomli_w

from calibration.profile import file_name, find_profile, write_profile
from scenarios.comparing.comparison import Comparison, compare
from scenarios.comparing.sides import read_side
from scenarios.comparing.tolerances import read_tolerances
from scenarios.files.loading import Scenario, load, replayed
from scenarios.running import resolved
from scenarios.runs.folder import whole_folder
from scenarios.runs.result import run
from twin.records.tables import SCHEMAS

__all__ = ["Regression", "add_trace", "replay_trace", "traces_in"]

_ABOUT = "trace.toml"
_MOST_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """One trace replayed: its name and how far the twin is from it."""

    name: str
    comparison: Comparison


def traces_in(folder: Path) -> list[Path]:
    """Return the traces in a folder, sorted; ValueError when it is none."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: there is no such folder; name the one that `moe2 traces add` wrote to with --folder"
        )
    return sorted(path.parent for path in folder.glob(f"*/{_ABOUT}"))


def add_trace(
    recorded: Path,
    folder: Path,
    *,
    name: str,
    scenario: str,
    tolerances: Path,
    note: str,
    most_bytes: int = _MOST_BYTES,
) -> tuple[Path, Comparison]:
    """Keep a recorded run as a trace of that name and return its folder and how far the twin is from it now.

    `scenario` holds the experts with the profiles used; they are copied beside it. `note` says how it was recorded.
    Raises ValueError for a name that is there already, files that are too big, and whatever a replay would refuse.
    """
    out = folder / name
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"trace name {name!r}: must be the name of a folder")
    if out.exists():
        raise ValueError(f"{out}: is there already; a trace is never changed, add another or remove it by hand")
    if not note.strip():
        raise ValueError("--note is empty; say on what and how the run was recorded")
    read_tolerances(tolerances)
    read_side(recorded, "RECORDED")
    with whole_folder(out, _ABOUT) as draft:
        for table in SCHEMAS:
            shutil.copyfile(recorded / f"{table}.parquet", draft / f"{table}.parquet")
        shutil.copyfile(tolerances, draft / "tolerances.toml")
        text = tomli_w.dumps(_beside(load(scenario, replayed(recorded)), draft))
        (draft / "scenario.toml").write_text(text, encoding="utf-8")
        sizes = sum(path.stat().st_size for path in draft.iterdir())
        if sizes > most_bytes:
            raise ValueError(
                f"{recorded}: the trace would take {sizes} bytes, at most {most_bytes} are kept; record less"
            )
        try:
            found = _replayed(draft)
        except ValueError as error:  # of what was recorded, and not of a copy that is gone
            raise ValueError(str(error).replace(str(draft), str(recorded))) from None
        about = {"note": note, "added_error_e2e_mean": _mean_error(found), "sha256": _hashes(draft)}
        (draft / _ABOUT).write_text(tomli_w.dumps(about), encoding="utf-8")
    return out, found


def replay_trace(trace: Path) -> Regression:
    """Return how far the twin is from a trace; ValueError when one of its files is not what was added."""
    try:
        about = tomli.loads((trace / _ABOUT).read_text(encoding="utf-8"))
        stated = dict(about["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{trace / _ABOUT}: cannot be read as a trace's registry ({error})") from None
    found = _hashes(trace)
    for name in sorted(set(stated) | set(found)):
        if stated.get(name) != found.get(name):
            was = (
                "is not in the registry" if name not in stated else "is missing" if name not in found else "was changed"
            )
            raise ValueError(f"{trace / name}: {was}; a trace is never changed, add another in its place")
    return Regression(name=trace.name, comparison=_replayed(trace))


def _replayed(trace: Path) -> Comparison:
    result = run(load(trace / "scenario.toml"))
    return compare(read_side(trace, "TRACE"), result.tables, read_tolerances(trace / "tolerances.toml"))


def _beside(scenario: Scenario, folder: Path) -> Mapping[str, Any]:
    """Write the profiles that a scenario names to a folder and return the scenario with everything beside it."""
    data = tomli.loads(resolved(scenario))
    for expert in data["experts"]:
        modes = expert.get("power_modes", {})
        for names, key in ((expert, "profile"), *((modes, mode) for mode in modes)):
            profile = find_profile(names[key], scenario.folder)
            names[key] = file_name(profile.name)
            write_profile(profile, folder / names[key])
    data["load"] = {"process": "recorded", "path": "."}
    for key in ("gate", "answers"):  # a replay routes nothing
        data.get("router", {}).pop(key, None)
    return data


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != _ABOUT
    }


def _mean_error(found: Comparison) -> str:
    rows = found.table[(found.table["scope"] == "overall") & (found.table["quantity"] == "e2e")]
    return f"{float(rows.set_index('statistic')['difference']['mean']):+.1%}"
