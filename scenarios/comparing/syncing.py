"""A profile held against new recordings: drift tested, refitted, and written as a new version beside the old one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.detectable import detectable
from calibration.drift import SESSIONS, Drift, check_shares, described, drift_of
from calibration.observed import Observations, joined, joules_of, of_legs, of_sessions
from calibration.profile import Profile, file_name, write_profile
from calibration.refitting import Errors, How, refitted
from calibration.relative import relative_covariance
from calibration.sessions import Sessions, read_sessions
from calibration.versions import profile_sha256
from scenarios.comparing.origins import check_measured, disturbances
from scenarios.comparing.sides import read_table
from scenarios.files.complaints import near

__all__ = ["Recorded", "Sync", "observations_in", "synchronised", "write_version"]

NO_JOULES = "no joules recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What recordings say: seconds always; joules with what metered them, or None; watts of the loaded, idle device.

    `notes` say what disturbed them.
    """

    seconds: Observations
    joules: Observations | None = None
    scopes: frozenset[str] = frozenset()
    corrections: frozenset[str] = frozenset()
    idle_w: float | None = None
    notes: tuple[str, ...] = ()

    def why_untold(self, profile: Profile) -> str:
        """Return why the profile's joules cannot be held against these, '' when they can."""
        if self.joules is None:
            return NO_JOULES
        if profile.joules is None:
            return "joules were recorded, the profile knows none (null): fit a new one"
        if self.scopes != {profile.energy_scope}:
            return f"the profile's joules are of the {profile.energy_scope}, those recorded of {_words(self.scopes)}"
        own = profile.evidence.get("meter_correction", {}).get("name")
        if self.corrections != ({own} if own else set()):
            by = f"{own or 'nothing'}, those recorded by {_words(self.corrections)}"
            return f"the profile's joules are corrected by {by}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """What became of a profile: the tests, the errors before and after, and the new version.

    `joules` None: not tested, and `untold` says why. `left` says why joules that were tested are not refitted.
    """

    old: Profile
    drift: Drift
    joules: Drift | None
    untold: str
    left: str
    errors: tuple[Errors, ...]
    new: Profile
    n_sessions: int
    notes: tuple[str, ...]

    @property
    def drifts(self) -> tuple[Drift, ...]:
        """The tests of seconds and, where they were tested, of joules."""
        return (self.drift,) if self.joules is None else (self.drift, self.joules)

    @property
    def sentence(self) -> str:
        """Whether the profile still holds, in one sentence."""
        found = [f"{described(test.name, test.unit)}, {test.change:+.1%}" for one in self.drifts for test in one.found]
        if found:
            return f"{self.old.name} has drifted: {'; '.join(found)}."
        if self.exit_status == 3:
            return (
                f"Whether {self.old.name} still holds cannot be told: record more sessions, or state --session-spread."
            )
        sessions = f"{self.n_sessions} new session{'s' * (self.n_sessions != 1)}"
        return f"{self.old.name} still holds: no drift found in {sessions}."

    @property
    def exit_status(self) -> int:
        """0 no drift was found, 1 one was, 3 nothing could be tested."""
        if not any(drift.decided for drift in self.drifts):
            return 3
        return 1 if any(drift.found for drift in self.drifts) else 0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "exit_status": self.exit_status,
            "answer": self.sentence,
            "profile": {"name": self.old.name, "sha256": profile_sha256(self.old)},
            "level": sum(drift.level for drift in self.drifts),
            "noise": self.drift.noise,
            "drift": _found(self.drift),
            "tests": _tests(self.drift),
            "joules": {"not_tested": self.untold}
            if self.joules is None
            else {"drift": _found(self.joules), "tests": _tests(self.joules), "not_refitted": self.left},
            "errors": [asdict(error) for error in self.errors],
            "notes": list(self.notes),
            "new": {"name": self.new.name, "sha256": profile_sha256(self.new)},
        }


def synchronised(profile: Profile, recorded: Recorded, *, how: How, level: float, session_spread: float | None) -> Sync:
    """Return the outcome of holding a profile against recordings; ValueError where they do not fit together.

    The level is of all hypotheses together: where joules are tested too, seconds and joules have half of it each.
    """
    check_shares(level, session_spread)
    _check_new(profile, recorded.seconds)
    untold = recorded.why_untold(profile)
    seen = None if untold else recorded.joules
    share = level if seen is None else level / 2
    drift = drift_of(profile, recorded.seconds, level=share, session_spread=session_spread)
    joules = None if seen is None else drift_of(profile, seen, level=share, session_spread=session_spread)
    left = ""
    if joules is not None and how == "prior" and not relative_covariance(profile, "j").any():
        left = "the evidence of the profile's joules states no covariance to be a prior; --scratch refits them"
    both = None if seen is None or joules is None or left else (seen, joules)
    idle_w = None if both is None else recorded.idle_w
    new, errors = refitted(profile, recorded.seconds, drift, how=how, joules=both, idle_w=idle_w)
    n = len(np.unique(recorded.seconds.session))
    return Sync(
        old=profile,
        drift=drift,
        joules=joules,
        untold=untold,
        left=left,
        errors=errors,
        new=new,
        n_sessions=n,
        notes=recorded.notes,
    )


def _check_new(profile: Profile, observed: Observations) -> None:
    """Raise ValueError for a session of `moe2 calibrate` that the profile was fitted to; runs have no lasting name."""
    known = profile.evidence.get(SESSIONS["s"], {}).get("names", [])
    if again := [name for name in np.unique(observed.session).tolist() if name.isdigit() and name in known]:
        raise ValueError(
            f"session {again[0]} is one that {profile.name} was fitted to: it would agree with itself; give a "
            "recording made since"
        )


def observations_in(folders: Sequence[Path], expert: str | None) -> Recorded:
    """Return what recordings of `moe2 calibrate` and runs of `moe2 record` or `moe2 import` say, in any mixture.

    Of a run with several experts `expert` names the one; its joules are not told by phase, and count for nothing here.
    Raises ValueError naming the folder and what is wrong, and for one that is given twice: it is one session.
    """
    parts, sessions = list[Observations](), []
    known = dict[str, Path]()
    for folder in folders:
        if (folder / "manifest.json").is_file() and not (folder / "legs.parquet").is_file():
            sessions.append(read_sessions([folder]))
            parts.append(of_sessions(sessions[-1]))
        else:
            parts.append(of_legs(_legs(folder, expert), source=str(folder), session=str(folder.resolve())))
        for session in np.unique(parts[-1].session).tolist():
            if session in known:
                raise ValueError(
                    f"{folder}: it is the session that {known[session]} holds too; give each recording once"
                )
            known[session] = folder
    notes = tuple(note for folder in folders for note in disturbances(folder, str(folder)))
    return replace(_recorded(joined(parts), sessions), notes=notes)


def _recorded(seconds: Observations, sessions: Sequence[Sessions]) -> Recorded:
    metered = [(own, joules) for own in sessions if (joules := joules_of(own)) is not None]
    if not metered:
        return Recorded(seconds=seconds)
    idle = [own.idle_w * _idle_factor(own) for own, _ in metered if own.idle_w is not None]
    return Recorded(
        seconds=seconds,
        joules=joined([joules for _, joules in metered]),
        scopes=frozenset(str(own.manifest["meter"]["scope"]) for own, _ in metered),
        corrections=frozenset(own.correction.name for own, _ in metered if own.correction is not None),
        idle_w=float(np.median(idle)) if idle else None,
    )


def _idle_factor(sessions: Sessions) -> float:
    return 1.0 if sessions.correction is None else sessions.correction.idle


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
    check_measured(folder, "RECORDED", "a profile that is held against its own twin never drifts")
    legs = read_table(folder, "legs", "RECORDED")
    names = [str(name) for name in legs["expert"].unique()]
    if expert is None and len(names) != 1:
        raise ValueError(f"{path}: it has legs on {', '.join(names) or 'no expert'}; name the profile's with --expert")
    if expert is not None and expert not in names:
        raise ValueError(f"{path}: no leg on expert {expert!r}{near(expert, names)}; it has {', '.join(names)}")
    return legs[legs["expert"] == (expert or names[0])]


def _found(drift: Drift) -> list[str]:
    return [described(test.name, test.unit) for test in drift.found]


def _tests(drift: Drift) -> list[dict[str, Any]]:
    told = ({**asdict(test), "detectable": detectable(test, drift)} for test in drift.tests)
    return [{key: _plain(value) for key, value in test.items()} for test in told]


def _words(names: frozenset[str]) -> str:
    return " and ".join(sorted(names)) or "nothing"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else "inf"
    return value
