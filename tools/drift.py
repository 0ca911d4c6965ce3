"""False alarms and power of `moe2 sync` on real recordings: the calibrations that `make testbed` leaves behind.

A profile is fitted on the first six; every later one is a recording of an undisturbed machine and must not be called
drifted, and with all its durations a fifth longer it must be. `python -m tools.drift [FOLDER …]`; without a folder the
long testbed's. Recordings of the same server only: their models and devices are compared.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from calibration.drift import Drift, drift_of
from calibration.observed import of_sessions
from calibration.session_profile import session_profile
from calibration.sessions import read_sessions

ROOT = Path(__file__).parents[1]
N_PROFILE = 6
SLOWER = 1.2


def main(arguments: Sequence[str] | None = None) -> None:
    """Print each recording's outcome and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "runs" / "loopback" / "calibrations"
    parser.add_argument("folders", type=Path, nargs="*", default=[default], help="folders of recordings, in order")
    found = [path.parent for folder in parser.parse_args(arguments).folders for path in _manifests(folder)]
    if len(found) <= N_PROFILE:
        raise SystemExit(f"found {len(found)} recordings, needs more than {N_PROFILE}; run `make testbed` first")
    profile = session_profile(read_sessions(found[:N_PROFILE]), name="loopback/m/q", quantization="f32")
    alarms, hits, named = 0, 0, 0
    for folder in found[N_PROFILE:]:
        observed = of_sessions(read_sessions([folder]))
        undisturbed = drift_of(profile, observed)
        slowed = drift_of(profile, replace(observed, seconds=SLOWER * observed.seconds))
        alarms, hits = alarms + bool(undisturbed.found), hits + bool(slowed.found)
        named += bool(slowed.found) and slowed.found[0].name == "everything"
        print(f"{folder.name}: as it is {_words(undisturbed)}; {SLOWER:g} times as slow {_words(slowed)}")
    n = len(found) - N_PROFILE
    print(f"false alarms: {alarms} of {n}; slowed by {SLOWER - 1:.0%}: found in {hits} of {n}, named in {named}")


def _manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/manifest.json"))


def _words(drift: Drift) -> str:
    overall = next((test for test in drift.tests if test.name == "everything"), None)
    told = "" if overall is None else f" (everything {overall.change:+.1%} ± {overall.error:.1%}, p = {overall.p:.2g})"
    return ("drift in " + ", ".join(test.name for test in drift.found) if drift.found else "no drift") + told


if __name__ == "__main__":
    main()
