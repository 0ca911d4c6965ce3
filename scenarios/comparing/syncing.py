"""A profile held against new recordings: drift tested, refitted, and written as a new version beside the old one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import pandas as pd

from calibration.drift import Drift, described, drift_of
from calibration.observed import Observations, joined, of_legs, of_sessions
from calibration.profile import Profile, file_name, write_profile
from calibration.refitting import Errors, How, refitted
from calibration.sessions import read_sessions
from calibration.versions import profile_sha256
from scenarios.files.complaints import near

__all__ = ["Sync", "observations_in", "synchronised", "write_version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """What became of a profile: the tests, the errors before and after, and the new version (None: not refitted)."""

    old: Profile
    drift: Drift
    errors: tuple[Errors, ...]
    new: Profile

    @property
    def exit_status(self) -> int:
        """0 no drift was found, 1 one was, 3 nothing could be tested."""
        return 3 if not self.drift.decided else 1 if self.drift.found else 0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "exit_status": self.exit_status,
            "profile": {"name": self.old.name, "sha256": profile_sha256(self.old)},
            "level": self.drift.level,
            "noise": self.drift.noise,
            "drift": [described(test.name) for test in self.drift.found],
            "tests": [{k: _plain(v) for k, v in asdict(test).items()} for test in self.drift.tests],
            "errors": [asdict(error) for error in self.errors],
            "new": {"name": self.new.name, "sha256": profile_sha256(self.new)},
        }


def synchronised(
    profile: Profile, observed: Observations, *, how: How, level: float, session_spread: float | None
) -> Sync:
    """Return the outcome of holding a profile against observations; ValueError where they do not fit together."""
    drift = drift_of(profile, observed, level=level, session_spread=session_spread)
    new, errors = refitted(profile, observed, drift, how=how)
    return Sync(old=profile, drift=drift, errors=errors, new=new)


def observations_in(folders: Sequence[Path], expert: str | None) -> Observations:
    """Return the observations of recordings of `moe2 calibrate` and of runs of `moe2 record`, in any mixture.

    Of a run with several experts `expert` names the one. Raises ValueError naming the folder and what is wrong.
    """
    parts = []
    for folder in folders:
        if (folder / "manifest.json").is_file() and not (folder / "legs.parquet").is_file():
            parts.append(of_sessions(read_sessions([folder])))
        else:
            parts.append(of_legs(_legs(folder, expert), source=str(folder), session=str(folder.resolve())))
    return joined(parts)


def write_version(sync: Sync, out: Path) -> Path:
    """Write the new version to a folder, beside what is there; ValueError when its file is there already."""
    path = out / file_name(sync.new.name)
    if path.exists():
        raise ValueError(f"{path}: is there already, and a version is never changed; name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_profile(sync.new, path)
    return path


def _legs(folder: Path, expert: str | None) -> pd.DataFrame:
    path = folder / "legs.parquet"
    if not path.is_file():
        raise ValueError(
            f"{folder}: neither a recording of `moe2 calibrate` (manifest.json) nor a run of `moe2 record` "
            "(legs.parquet)"
        )
    legs = pd.read_parquet(path)
    names = [str(name) for name in legs["expert"].unique()]
    if expert is None and len(names) != 1:
        raise ValueError(f"{path}: it has legs on {', '.join(names) or 'no expert'}; name the profile's with --expert")
    if expert is not None and expert not in names:
        raise ValueError(f"{path}: no leg on expert {expert!r}{near(expert, names)}; it has {', '.join(names)}")
    return legs[legs["expert"] == (expert or names[0])]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else "inf"
    return value
