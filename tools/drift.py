"""False alarms and power of `moe2 sync` on real recordings: the calibrations that `make testbed` leaves behind.

A profile is fitted on the six that were made first, whatever they are called; every later one is a recording of an
undisturbed machine and must not be called drifted, and with all its durations, or all its joules, a fifth larger it
must be. `python -m tools.drift [FOLDER …]`; without a folder the long testbed's. Recordings of the same server only:
their models and devices are compared.

Where the speed of the server's core was measured beside them (`tools/speedometer.py`), it is told again with every
session's seconds divided by how slow the core was in it: what is left of the spread between sessions.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from calibration.drift import Drift, drift_of
from calibration.observed import Observations, joules_of, of_sessions
from calibration.profile import Profile
from calibration.session.store import Store
from calibration.session_profile import session_profile
from calibration.sessions import Sessions, batches_of, read_sessions
from tools.speedometer import read_speeds, slowdown

ROOT = Path(__file__).parents[1]
N_PROFILE = 6
LARGER = 1.2


def main(arguments: Sequence[str] | None = None) -> None:
    """Print each recording's outcome and the counts, of seconds and of joules where they were recorded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "runs" / "loopback" / "calibrations"
    parser.add_argument("folders", type=Path, nargs="*", default=[default], help="folders of recordings")
    found = recordings_in(parser.parse_args(arguments).folders)
    if len(found) <= N_PROFILE:
        raise SystemExit(f"found {len(found)} recordings, needs more than {N_PROFILE}; run `make testbed` first")
    sessions = {folder: read_sessions([folder]) for folder in found}
    profile = _profile(read_sessions(found[:N_PROFILE]))
    later = {os.path.relpath(folder): sessions[folder] for folder in found[N_PROFILE:]}
    _judge(profile, {name: of_sessions(sessions) for name, sessions in later.items()}, "seconds")
    if paces := _paces(found):
        known = {str(sessions[folder].requests["session"].iloc[0]): pace for folder, pace in paces.items()}
        at_pace = {name: of_sessions(divided(seen, known)) for name, seen in later.items()}
        _judge(_profile(divided(read_sessions(found[:N_PROFILE]), known)), at_pace, "seconds at the core's pace")
    joules = {name: seen for name, sessions in later.items() if (seen := joules_of(sessions)) is not None}
    if profile.joules is None or not joules:
        print("joules: no joules recorded")
    else:
        _judge(profile, joules, "joules")


def recordings_in(folders: Sequence[Path]) -> list[Path]:
    """Return the recordings in folders in the order in which they were begun, whatever they are called."""
    found = {path.parent for folder in folders for path in folder.glob("*/manifest.json")}
    return sorted(found, key=lambda recording: (Store(folder=recording).manifest()["began_unix_s"], recording))


def _profile(sessions: Sessions) -> Profile:
    return session_profile(sessions, name="loopback/m/q", quantization="f32")


def _paces(folders: Sequence[Path]) -> dict[Path, float]:
    """Return how slow the core was in each recording, over the first of them; nothing where it was not watched."""
    speeds, ended = folders[0].parents[1] / "speeds.csv", [folder / "done" for folder in folders]
    if not speeds.exists() or not all(path.exists() for path in ended):
        return {}
    spans = [tuple(json.loads(path.read_text(encoding="utf-8"))) for path in ended]
    readings = read_speeds(speeds)
    return {f: slowdown(readings, span, spans[:N_PROFILE]) for f, span in zip(folders, spans, strict=True)}


def divided(sessions: Sessions, pace: Mapping[str, float]) -> Sessions:
    """Return sessions with all of their seconds divided by the pace of each."""
    requests = sessions.requests.copy()
    by = requests["session"].map(pace)
    for column in ("sent_s", "first_token_s", "finished_s", "ttft_s", "decode_s", "server_prefill_s", "chunk_s"):
        requests[column] /= by
    return replace(sessions, requests=requests, batches=batches_of(requests))


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


def _words(drift: Drift) -> str:
    overall = next((test for test in drift.tests if test.name == "everything"), None)
    told = "" if overall is None else f" (everything {overall.change:+.1%} ± {overall.error:.1%}, p = {overall.p:.2g})"
    return ("drift in " + ", ".join(test.name for test in drift.found) if drift.found else "no drift") + told


if __name__ == "__main__":
    main()
