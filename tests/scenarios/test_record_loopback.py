"""The short form of the loopback testbed: a real server identified, calibrated, recorded, and its twin beside it."""

from statistics import median

import numpy as np
import pandas as pd
import pytest

from tools.results_testbed import CONTENDED, beyond_drift, sections_of, verdict
from tools.testbed import SHORT, perform

LOOSE = 0.25


@pytest.mark.parametrize(
    ("errors", "drifts", "told"),
    [
        ([0.04, -0.2, 0.05], [0.3, 0.3, 0.3], "met"),
        ([-0.08, -0.07, -0.3], [0.04, 0.03, 0.9], "met beyond drift"),
        ([0.2, 0.2, 0.2], [0.3, 0.1, 0.4], "not told: it drifted more than is allowed"),
        ([0.2, 0.2, 0.0], [0.04, 0.04, 0.9], "MISSED"),
    ],
)
def test_drift_forgives_what_it_explains(errors, drifts, told):
    """The median error beyond the median drift is judged; a drift above the tolerance leaves nothing to tell."""
    assert verdict(errors, drifts, 0.05) == told


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
def test_errors_are_small_where_nothing_disturbed_the_server(session, capsys):
    """Errors are printed; medians beyond the drift are below 25 % if the server had its core all through."""
    _, figures = session
    with capsys.disabled():
        print("\n" + "\n\n".join(list(sections_of(figures))[2:4]))
    if min(row["cpu_share"] for row in figures["rows"]) < CONTENDED:
        pytest.skip("something else took the server's core: what it did then is in no model")
    for metric in ("E2E, mean", "E2E, p95", "throughput"):
        found = [row["metrics"][metric] for row in figures["rows"]]
        assert beyond_drift([f["error"] for f in found], [f["drift"] for f in found]) < LOOSE, metric
        assert median(f["real"] for f in found) > 0


@pytest.mark.alone
def test_a_second_call_does_nothing_again(session):
    """What is recorded is not recorded again: the figures of a second call are the first one's."""
    folder, figures = session
    said = []
    again = perform(SHORT, folder, say=said.append)
    assert again["rows"] == figures["rows"]
    assert not [line for line in said if line.startswith(("recording", "calibrating"))]
