"""The short form of the loopback testbed: a real server identified, calibrated, recorded, and its twin beside it."""

from statistics import median

import numpy as np
import pandas as pd
import pytest

from calibration.observed import of_sessions
from calibration.sessions import read_sessions
from scenarios.files.loading import load
from scenarios.runs.result import run
from tools.drift import divided
from tools.loopback import SHORT, Loopback
from tools.results_testbed import CONTENDED, sections_of, verdict
from tools.speedometer import slowdowns
from tools.testbed import perform
from tools.testbed_scenario import drawn, rate_for, write_scenario

LOOSE = 0.25


@pytest.mark.parametrize(
    ("errors", "at_pace", "drifts", "told"),
    [
        ([0.04, -0.2, 0.05], [0.3, 0.3, 0.3], [0.0], "met"),
        ([-0.2, -0.07, -0.3], [0.04, -0.03, -0.9], [0.0], "met beyond drift"),
        ([0.2, 0.2, 0.0], [0.04, 0.06, 0.9], [0.1, 0.14, 0.9], "MISSED"),
        ([0.2, 0.2, 0.0], [0.04, 0.06, 0.9], [0.1, 0.16, 0.9], "MISSED, within drift"),
    ],
)
def test_drift_forgives_what_it_explains(errors, at_pace, drifts, told):
    """The median error counts, or the one of the twin that knows how fast the machine was; never the least of many."""
    assert verdict(errors, at_pace, drifts, 0.05) == told


def test_a_core_that_slows_down_is_seen_to():
    """Windows are told by the run's clock, relative to the spans; what the host takes counts beside slower work."""
    unix_s = np.arange(100.0, 110.0, 0.05)
    slow, stolen = np.where((unix_s >= 106) & (unix_s < 107), 1.5, 1.0), np.clip(unix_s - 108, 0, 0.5)
    speeds = pd.DataFrame({"unix_s": unix_s, "near_s": 2e-4 * slow, "far_s": 7e-4 * slow, "stolen_s": 9 + stolen})
    found = slowdowns(speeds, [(100.0, 102.0), (103.0, 105.0)], began_unix_s=105.0, lasts_s=6.0)
    assert [window[:2] for window in found] == [(n, n + 1.0) for n in range(5)]  # the sixth second was not read
    assert [window[2] for window in found] == pytest.approx([1, 1.5, 1, 2, 1], rel=0.12)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Perform the short form once, waiting for no temperature to settle; return its folder and its figures."""
    folder = tmp_path_factory.mktemp("loopback")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.session.calibrating.thermometer", lambda: None)
        return folder, perform(SHORT, folder, say=lambda _: None)


@pytest.mark.alone
def test_the_servers_parameters_are_identified(session):
    """Slots, context and buffer are as the server says, tokens of an iteration as its counter shows: exact."""
    _, figures = session
    found = figures["server"]
    assert (found["slots"], found["token_budget"]) == (SHORT.slots, SHORT.token_budget)
    assert (found["context_tokens"], found["one_kv_buffer"]) == (SHORT.context_tokens, True)


@pytest.mark.alone
def test_counts_are_exact(session):
    """Every request of every recording is served, token for token as asked, and so it is in the twin."""
    folder, figures = session
    assert len(figures["rows"]) == SHORT.rounds * len(SHORT.levels)
    for row in figures["rows"]:
        assert row["statuses"] == {"real": {"served": row["n"]}, "twin": {"served": row["n"]}}
        asked = pd.read_csv(folder / "recordings" / row["recording"] / "requests.csv")
        legs = pd.read_parquet(folder / "recordings" / row["recording"] / "out" / "legs.parquet")
        for column in ("prompt_tokens", "output_tokens"):
            assert legs[column].tolist() == asked[column].tolist()
        instants = legs[["arrived_s", "started_s", "first_token_s", "finished_s"]].to_numpy()
        assert (np.diff(instants, axis=1) >= 0).all()


@pytest.mark.alone
def test_a_load_is_called_by_its_utilisation(session):
    """At the rate found for a share, the twin's server is busy for that share of the time, with other requests too."""
    folder, figures = session
    server = Loopback(address="", pid=0, **figures["server"])
    (level,), profile = SHORT.levels, folder / "profiles" / "00.json"
    rate = rate_for(level, SHORT, server, profile, folder / "rates")
    rows = drawn(SHORT, np.random.default_rng(1), rate=rate, duration_s=1000.0)
    scenario = write_scenario(folder / "long", rows, profile, server, duration_s=1000.0)
    assert run(load(scenario)).tables.devices["utilisation"].iloc[0] == pytest.approx(level, rel=0.05)


@pytest.mark.alone
def test_errors_are_small_where_nothing_disturbed_the_server(session, capsys):
    """Errors are printed; medians are within 25 % of drift, or of the machine's pace, if the server had its core."""
    _, figures = session
    with capsys.disabled():
        print("\n" + "\n\n".join(list(sections_of(figures))[2:4]))
    if min(row["cpu_share"] for row in figures["rows"]) < CONTENDED:
        pytest.skip("something else took the server's core: what it did then is in no model")
    for metric in ("E2E, mean", "E2E, p95", "throughput"):
        found = [row["metrics"][metric] for row in figures["rows"]]
        nearest = min(abs(median(f[key] for f in found)) for key in ("error", "error_at_pace"))
        assert nearest - median(f["drift"] for f in found) < LOOSE, metric
        assert median(f["real"] for f in found) > 0


@pytest.mark.alone
def test_a_second_call_does_nothing_again(session):
    """What is recorded is not recorded again: the figures of a second call are the first one's."""
    folder, figures = session
    said = []
    again = perform(SHORT, folder, say=said.append)
    assert again["rows"] == figures["rows"]
    assert not [line for line in said if line.startswith(("recording", "calibrating"))]


@pytest.mark.alone
def test_seconds_at_the_cores_pace(session):
    """A session on a core half as fast, its seconds divided by two, is the same session on the faster one."""
    folder, _ = session
    found = read_sessions([folder / "calibrations" / "00"])
    pace = dict.fromkeys(found.requests["session"].unique(), 2.0)
    assert np.allclose(2 * of_sessions(divided(found, pace)).values, of_sessions(found).values)
