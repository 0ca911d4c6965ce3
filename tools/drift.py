"""False alarms and power of `moe2 sync` on real recordings: the calibrations that `make testbed` leaves behind.

A profile is fitted on the first six; every later one is a recording of an undisturbed machine and must not be called
drifted, and with all its durations, or all its joules, a fifth larger it must be. `python -m tools.drift [FOLDER …]`;
without a folder the long testbed's. Recordings of the same server only: their models and devices are compared.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from calibration.drift import Drift, drift_of
from calibration.observed import Observations, joules_of, of_sessions
from calibration.profile import Profile
from calibration.session_profile import session_profile
from calibration.sessions import read_sessions

ROOT = Path(__file__).parents[1]
N_PROFILE = 6
LARGER = 1.2


def main(arguments: Sequence[str] | None = None) -> None:
    """Print each recording's outcome and the counts, of seconds and of joules where they were recorded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "runs" / "loopback" / "calibrations"
    parser.add_argument("folders", type=Path, nargs="*", default=[default], help="folders of recordings, in order")
    found = [path.parent for folder in parser.parse_args(arguments).folders for path in _manifests(folder)]
    if len(found) <= N_PROFILE:
        raise SystemExit(f"found {len(found)} recordings, needs more than {N_PROFILE}; run `make testbed` first")
    profile = session_profile(read_sessions(found[:N_PROFILE]), name="loopback/m/q", quantization="f32")
    later = {folder.name: read_sessions([folder]) for folder in found[N_PROFILE:]}
    _judge(profile, {name: of_sessions(sessions) for name, sessions in later.items()}, "seconds")
    joules = {name: seen for name, sessions in later.items() if (seen := joules_of(sessions)) is not None}
    if profile.joules is None or not joules:
        print("joules: no joules recorded")
    else:
        _judge(profile, joules, "joules")


def _judge(profile: Profile, recordings: Mapping[str, Observations], what: str) -> None:
    """Print what is found in each recording as it is and with all of its values a fifth larger, and the counts."""
    alarms, hits, named = 0, 0, 0
    for name, observed in recordings.items():
        undisturbed = drift_of(profile, observed)
        more = drift_of(profile, replace(observed, values=LARGER * observed.values))
        alarms, hits = alarms + bool(undisturbed.found), hits + bool(more.found)
        named += bool(more.found) and more.found[0].name == "everything"
        print(f"{name}, {what}: as they are {_words(undisturbed)}; {LARGER:g} times as many {_words(more)}")
    n = len(recordings)
    print(f"{what}: false alarms: {alarms} of {n}; {LARGER - 1:.0%} more: found in {hits} of {n}, named in {named}")


def _manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/manifest.json"))


def _words(drift: Drift) -> str:
    overall = next((test for test in drift.tests if test.name == "everything"), None)
    told = "" if overall is None else f" (everything {overall.change:+.1%} ± {overall.error:.1%}, p = {overall.p:.2g})"
    return ("drift in " + ", ".join(test.name for test in drift.found) if drift.found else "no drift") + told


if __name__ == "__main__":
    main()
