"""Regression traces: recorded runs kept with a scenario, its profiles and the tolerances that the twin must meet.

A trace is a folder: the recorded tables, scenario.toml (whose load is the record beside it), the profiles that it
names, tolerances.toml, and trace.toml, which says how it was recorded and has the SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli
import tomli_w

from calibration.profile import file_name, find_profile, write_profile
from scenarios.comparing.comparison import Comparison, compare
from scenarios.comparing.origins import check_measured
from scenarios.comparing.sides import read_side
from scenarios.comparing.tolerances import read_tolerances
from scenarios.files.complaints import near
from scenarios.files.loading import Scenario, load, replayed
from scenarios.running import resolved
from scenarios.runs.folder import check_writable, whole_folder
from scenarios.runs.result import run
from twin.records.tables import SCHEMAS

__all__ = ["Kept", "Regression", "add_trace", "kept_in", "named_traces", "replay_trace"]

_ABOUT = "trace.toml"
_MOST_BYTES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """One trace replayed: its name and how far the twin is from it."""

    name: str
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a trace is; `flaws` say of each file that is not as it was added how it differs.

    With a flaw nothing is known of what was recorded. `error` is of the mean E2E time, when the trace was added.
    """

    name: str
    note: str
    error: str | None
    sha256: Mapping[str, str]
    flaws: tuple[str, ...]
    n_requests: int | None = None
    lasted_s: float | None = None
    experts: tuple[str, ...] = ()
    n_tolerances: int | None = None


def kept_in(folder: Path) -> list[Kept]:
    """Return what the traces in a folder are, by name; a file that was changed is told and stops nothing.

    Raises ValueError where there is no trace, or one whose registry cannot be read.
    """
    return [_kept(trace) for trace in named_traces(folder)]


def named_traces(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the traces of these names in a folder, all of them without a name; ValueError for one that is not there.

    No trace at all is an error too: nothing would be held against anything.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: there is no such folder; name the one that `moe2 traces add` wrote to with --folder"
        )
    known = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{_ABOUT}"))}
    if not known:
        raise ValueError(f"{folder}: holds no trace; `moe2 traces add` keeps one, --folder names another place")
    for name in names:
        if name not in known:
            raise ValueError(f"{folder}: no trace {name!r}{near(name, known)}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


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
    Raises ValueError for a run that was simulated, a name that is there already, files that are too big, and whatever
    a replay would refuse.
    """
    out = folder / name
    _check_free(out, name)
    if not note.strip():
        raise ValueError("--note is empty; say on what and how the run was recorded")
    check_writable(folder, option="--folder")
    read_tolerances(tolerances)
    check_measured(recorded, "RECORDED", "a twin that is held against itself is never wrong")
    read_side(recorded, "RECORDED")
    with whole_folder(out, _ABOUT) as draft:
        _copy(recorded, tolerances, load(scenario, replayed(recorded)), draft)
        _check_size(draft, recorded, most_bytes)
        try:
            found = _replayed(draft)
        except ValueError as error:  # of what was recorded, and not of a copy that is gone
            raise ValueError(str(error).replace(str(draft), str(recorded))) from None
        about = {"note": note, "added_error_e2e_mean": _mean_error(found), "sha256": _hashes(draft)}
        (draft / _ABOUT).write_text(tomli_w.dumps(about), encoding="utf-8")
    return out, found


def _check_free(out: Path, name: str) -> None:
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"trace name {name!r}: must be the name of a folder")
    if out.exists():
        raise ValueError(f"{out}: is there already; a trace is never changed, add another or remove it by hand")


def _copy(recorded: Path, tolerances: Path, scenario: Scenario, draft: Path) -> None:
    """Write tables, tolerances, and the scenario with its profiles to a folder, where each finds the others."""
    for table in SCHEMAS:
        shutil.copyfile(recorded / f"{table}.parquet", draft / f"{table}.parquet")
    shutil.copyfile(tolerances, draft / "tolerances.toml")
    (draft / "scenario.toml").write_text(tomli_w.dumps(_beside(scenario, draft)), encoding="utf-8")


def _check_size(draft: Path, recorded: Path, most_bytes: int) -> None:
    n_bytes = sum(path.stat().st_size for path in draft.iterdir())
    if n_bytes > most_bytes:
        raise ValueError(
            f"{recorded}: the trace would take {n_bytes} bytes, at most {most_bytes} are kept; record less"
        )


def replay_trace(trace: Path) -> Regression:
    """Return how far the twin is from a trace; ValueError when one of its files is not what was added."""
    if flaws := _flaws(trace, _registry(trace)["sha256"]):
        raise ValueError(f"{flaws[0]}; a trace is never changed, add another in its place")
    return Regression(name=trace.name, comparison=_replayed(trace))


def _registry(trace: Path) -> dict[str, Any]:
    try:
        about = tomli.loads((trace / _ABOUT).read_text(encoding="utf-8"))
        return {**about, "sha256": dict(about["sha256"]), "note": str(about["note"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{trace / _ABOUT}: cannot be read as a trace's registry ({error})") from None


def _flaws(trace: Path, stated: Mapping[str, str]) -> list[str]:
    """Return what is not as the registry says, a sentence for each such file."""
    found, told = _hashes(trace), []
    for name in sorted(set(stated) | set(found)):
        if stated.get(name) != found.get(name):
            was = (
                "is not in the registry" if name not in stated else "is missing" if name not in found else "was changed"
            )
            told.append(f"{trace / name}: {was}")
    return told


def _kept(trace: Path) -> Kept:
    about = _registry(trace)
    flaws = tuple(_flaws(trace, about["sha256"]))
    kept = Kept(
        name=trace.name,
        note=about["note"],
        error=about.get("added_error_e2e_mean"),
        sha256=about["sha256"],
        flaws=flaws,
    )
    if flaws:
        return kept
    tables = read_side(trace, "TRACE")
    arrived_s = tables.requests["arrived_s"]
    return replace(
        kept,
        n_requests=len(arrived_s),
        lasted_s=float(arrived_s.max() - arrived_s.min()),
        experts=tuple(map(str, tables.legs["expert"].unique())),
        n_tolerances=len(read_tolerances(trace / "tolerances.toml")),
    )


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
