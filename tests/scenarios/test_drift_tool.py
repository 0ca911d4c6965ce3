"""Laws of `python -m tools.drift`: what was made first is the profile, what was made later is judged, each once."""

from functools import partial

import pytest
from calibrated_sample import calibrated

from calibration.intervals import bootstrap_by_cluster
from tools.drift import N_PROFILE, main, recordings_in


def test_recordings_stand_in_the_order_in_which_they_were_begun(tmp_path):
    """Neither names nor folders order them: `first` was made before `00`, and the later folder may be named first."""
    begun = {"b/first": 1.0, "b/second": 2.0, "b/00": 3.0, "a/01": 4.0, "b/02": 5.0}
    for seed, (name, began_unix_s) in enumerate(begun.items()):
        calibrated(tmp_path / name, seed, began_unix_s=began_unix_s)
    found = recordings_in([tmp_path / "a", tmp_path / "b", tmp_path / "b"])
    assert found == [tmp_path / name for name in begun]


def test_later_sessions_are_judged_and_the_first_are_the_profile(tmp_path, monkeypatch, capsys):
    """Six undisturbed sessions, then one like them and one a fifth slower, whose names come first: one false alarm.

    A fifth more is found in both. Recordings of one name in two folders are two.
    """
    monkeypatch.setattr("calibration.evidence.bootstrap_by_cluster", partial(bootstrap_by_cluster, n=3))
    monkeypatch.chdir(tmp_path)
    for n in range(N_PROFILE):
        calibrated(tmp_path / "before" / f"z{n}", n, began_unix_s=100.0 + n)
    calibrated(tmp_path / "before" / "a", 10, began_unix_s=200.0)
    calibrated(tmp_path / "after" / "a", 11, began_unix_s=300.0, slower=1.2)
    main(["before", "after"])
    *judged, counts, joules = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in judged] == ["before/a", "after/a"]
    assert "as they are no drift" in judged[0]
    assert "as they are drift in everything" in judged[1]
    assert counts == "seconds: false alarms: 1 of 2; 20% more: found in 2 of 2, named in 2"
    assert joules == "joules: no joules recorded"


def test_too_few_recordings_are_told(tmp_path):
    """With nothing later than the profile's own there is nothing to judge: how many were found, and what to do."""
    with pytest.raises(SystemExit, match="found 0 recordings, needs more than 6; run `make testbed` first"):
        main([str(tmp_path)])
