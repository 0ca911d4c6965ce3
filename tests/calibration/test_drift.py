"""Laws of drift: undisturbed recordings are left alone, a planted change is found and named, versions are kept."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drift_plant import TRUE, profile_of, session, sessions
from scipy.stats import norm

from calibration.detectable import broadest, detectable
from calibration.drift import LEVEL, drift_of, session_evidence
from calibration.observed import coefficients_of, joined, of_legs
from calibration.profile import read_profile, write_profile
from calibration.refitting import next_name, refitted
from calibration.versions import profile_sha256, version_of

N_UNDISTURBED = 201
SLOWER = {
    "everything": TRUE * 1.2,
    "b": TRUE * np.array([1, 1.2, 1, 1, 1, 1]),
    "decode": TRUE * np.array([1, 1, 1, 1.2, 1.2, 1.2]),
    "d": TRUE * np.array([1, 1, 1, 1.2, 1, 1]),
}


def test_undisturbed_recordings_are_left_alone(capsys):
    """Of 201 undisturbed recordings of a machine whose sessions differ by 2 %, at most 5 % are called drifted.

    Each has a profile of its own, fitted on its own six sessions: the rate is over profiles and recordings.
    """
    alarms = Counter()
    for i in range(N_UNDISTURBED):
        rng = np.random.default_rng([41, i])
        n_new = 1 + i % 3
        found = drift_of(profile_of(sessions(rng, 6)), sessions(rng, n_new, "new"))
        alarms[n_new] += bool(found.found)
    with capsys.disabled():
        print(f"\nfalse alarms: {alarms.total()} of {N_UNDISTURBED} ({alarms.total() / N_UNDISTURBED:.1%}), {alarms}")
    assert alarms.total() <= LEVEL * N_UNDISTURBED


def test_sessions_that_are_not_clusters_would_raise_false_alarms():
    """The same recordings tested as if sessions did not differ: many more are called drifted."""
    alarms = 0
    for i in range(30):
        rng = np.random.default_rng([42, i])
        options = {"spread": 0.05}
        profile = profile_of(sessions(rng, 6, **options))
        new = session(rng, "new", **options)
        naive = drift_of(profile_of(sessions(rng, 6, **options), keep_sessions=False), new, session_spread=0.0)
        alarms += bool(naive.found) - bool(drift_of(profile, new).found)
    assert alarms >= 8


@pytest.mark.parametrize("what", SLOWER)
def test_a_planted_slowdown_of_a_fifth_is_found_and_named(what, capsys):
    """Three recordings of a server slowed by 20 %, in everything, a phase or a coefficient: found, named, measured."""
    named, found, sizes, n = 0, 0, [], 15
    for i in range(n):
        rng = np.random.default_rng([43, i])
        drift = drift_of(profile_of(sessions(rng, 6)), sessions(rng, 3, "new", true=SLOWER[what]))
        found += bool(drift.found)
        if drift.found and drift.found[0].name == what:
            named += 1
            sizes.append(drift.found[0].change)
    with capsys.disabled():
        print(f"\nplanted +20 % in {what}: found in {found} of {n}, named in {named}, as {np.mean(sizes):+.1%}")
    assert found >= 0.95 * n
    assert named >= 0.6 * n
    assert np.mean(sizes) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("n_new", [1, 2, 5])
def test_recordings_given_at_once_share_the_spread_between_sessions(n_new):
    """With n new sessions beside six of the profile, each apart by s: the squared standard error is s²(1/n + 1/6).

    What becomes significant is that error times Student's t, or the normal's where the spread was stated.
    """
    rng = np.random.default_rng(51)
    still = {"spread": 0.0, "own": 0.0, "noise": 1e-5}
    drift = drift_of(profile_of(sessions(rng, 6, **still)), sessions(rng, n_new, "new", **still), session_spread=0.1)
    test = broadest(drift)
    assert test.name == "everything"
    assert test.error == pytest.approx(0.1 * np.sqrt(1 / n_new + 1 / 6), rel=1e-3)
    assert detectable(test, drift) / test.error == pytest.approx(norm.isf(LEVEL / 2 / len(drift.tests)))


def test_five_recordings_find_what_one_does_not():
    """Where sessions differ by 10 %, a server slowed by 30 % is missed by one recording mostly, and found by five."""
    found = {1: 0, 5: 0}
    for i in range(16):
        rng = np.random.default_rng([52, i])
        profile = profile_of(sessions(rng, 6, spread=0.1))
        new = [session(rng, f"new{n}", spread=0.1, true=TRUE * 1.3) for n in range(5)]
        for n in found:
            drift = drift_of(profile, joined(new[:n]))
            found[n] += bool(drift.found)
    assert found[1] <= 8, found
    assert found[5] >= 12, found


def test_nothing_is_claimed_when_nothing_is_known_of_sessions():
    """One session against a profile of one session: undecided, until the spread between sessions is stated."""
    rng = np.random.default_rng(44)
    profile, new = profile_of(session(rng, "a")), session(rng, "b", true=TRUE * 1.2)
    unknown = drift_of(profile, new)
    assert not unknown.decided
    assert unknown.found == ()
    stated = drift_of(profile, new, session_spread=0.02)
    assert [test.name for test in stated.found] == ["everything"]
    bare = replace(profile, evidence={k: v for k, v in profile.evidence.items() if k != "sessions"})
    assert [test.name for test in drift_of(bare, new, session_spread=0.02).found] == ["everything"]
    for wrong in ({"level": 0.0}, {"session_spread": -0.1}, {"session_spread": float("nan")}):
        with pytest.raises(ValueError, match="must be"):
            drift_of(profile, new, **wrong)


def test_lone_sequences_speak_of_the_sum_of_d_and_e():
    """Without batches in the new recording the two are not told apart, and the name says so."""
    rng = np.random.default_rng(45)
    profile = profile_of(sessions(rng, 6))
    true = TRUE * np.array([1, 1, 1, 1.3, 1.3, 1])
    drift = drift_of(profile, sessions(rng, 3, "new", true=true, batches=False))
    assert drift.found[0].name in {"d+e", "decode"}
    assert {test.name for test in drift.tests}.isdisjoint({"d", "e"})


@pytest.mark.parametrize("how", ["prior", "scratch"])
def test_a_refit_follows_the_drift_and_then_holds(how):
    """After +20 % in everything the new version is near the truth, nearer on held-out rows, and finds no drift."""
    rng = np.random.default_rng(46)
    profile, new = profile_of(sessions(rng, 6)), sessions(rng, 3, "new", true=TRUE * 1.2)
    drift = drift_of(profile, new)
    found, errors = refitted(profile, new, drift, how=how)
    assert coefficients_of(found.seconds) == pytest.approx(TRUE * 1.2, rel=0.12)
    for error in errors:
        assert error.before > 0.15
        assert error.after < 0.1
    assert drift_of(found, sessions(rng, 3, "later", true=TRUE * 1.2)).found == ()
    assert drift_of(found, sessions(rng, 3, "back")).found[0].change == pytest.approx(1 / 1.2 - 1, abs=0.05)


def test_old_evidence_helps_where_nothing_drifted():
    """Over many undisturbed recordings, the refit with a prior is nearer the truth than that from scratch."""
    errors = {"prior": [], "scratch": []}
    for i in range(12):
        rng = np.random.default_rng([47, i])
        profile, new = profile_of(sessions(rng, 6)), sessions(rng, 1, "new")
        drift = drift_of(profile, new)
        for how, found in errors.items():
            new_one, _ = refitted(profile, new, drift, how=how)
            found.append(np.abs(coefficients_of(new_one.seconds) / TRUE - 1).mean())
    assert np.mean(errors["prior"]) < 0.7 * np.mean(errors["scratch"])


def test_a_version_names_what_it_supersedes_and_the_old_file_stays(tmp_path):
    """The new profile reads back, has the next name and number, and the hash of the old; a third names the second."""
    rng = np.random.default_rng(48)
    profile = profile_of(sessions(rng, 4))
    write_profile(profile, tmp_path / "old.json")
    before = (tmp_path / "old.json").read_bytes()
    new, second = sessions(rng, 2, "new"), None
    second, _ = refitted(read_profile(tmp_path / "old.json"), new, drift_of(profile, new), how="prior")
    write_profile(second, tmp_path / "new.json")
    assert read_profile(tmp_path / "new.json") == second
    assert (tmp_path / "old.json").read_bytes() == before
    assert second.name == "bench/m/q@2"
    assert version_of(second) == 2
    assert second.evidence["version"]["supersedes"]["sha256"] == profile_sha256(profile)
    third, _ = refitted(second, new, drift_of(second, new), how="scratch")
    assert third.name == next_name(second.name) == "bench/m/q@3"
    assert third.evidence["version"]["supersedes"]["sha256"] == profile_sha256(second)
    bare = replace(profile, evidence={})
    with pytest.raises(ValueError, match="states no covariance to be a prior; refit from scratch"):
        refitted(bare, new, drift_of(profile, new), how="prior")


def test_the_spread_of_earlier_sessions_is_not_forgotten():
    """Degrees of freedom add up over versions: six sessions, then two, tell 5 + 1 and those of the next recording."""
    rng = np.random.default_rng(49)
    profile, new = profile_of(sessions(rng, 6)), sessions(rng, 2, "new")
    second, _ = refitted(profile, new, drift_of(profile, new), how="prior")
    later = drift_of(second, sessions(rng, 2, "later"))
    assert {test.freedom for test in later.tests} == {5 + 1 + 1}


def test_of_a_run_only_legs_alone_at_their_server_count():
    """Legs that overlap are in a batch or a queue; those alone give prefill and decode exactly."""
    legs = pd.DataFrame(
        {
            "replication": 0, "arrived_s": np.arange(12) * 10.0, "prompt_tokens": 100, "output_tokens": 11,
            "first_token_s": np.arange(12) * 10.0 + 1.0, "finished_s": np.arange(12) * 10.0 + 3.0, "status": "served",
        }
    )  # fmt: skip
    legs.loc[3, "arrived_s"] = 22.0  # while the third is served
    found = of_legs(legs, source="run", session="run")
    assert len(found.values) == 2 * 10
    assert found.values[:10].tolist() == [1.0] * 10
    assert found.values[10:].tolist() == [2.0] * 10
    with pytest.raises(ValueError, match="2 of 4 legs were served alone at their server, needs 8"):
        of_legs(legs.head(4), source="run", session="run")


def test_sessions_are_kept_as_evidence():
    """A profile keeps one change per session and hypothesis; around the common fit they balance."""
    rng = np.random.default_rng(50)
    observed = joined([session(rng, "a", spread=0.0, own=0.0), session(rng, "b", true=TRUE * 1.1, spread=0.0, own=0.0)])
    found = session_evidence(profile_of(observed), observed)
    assert found["n"] == 2
    low, high = found["changes"]["everything"]
    assert (1 + high) / (1 + low) == pytest.approx(1.1, abs=0.02)
