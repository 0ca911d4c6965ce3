"""The tables of a run on the radio: every transfer is in one cell, and what is written is read back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_radio_access import ONE, QUIET, at, played, radio

from twin.radio.channel import Channel
from twin.radio.tables import by_site, radio_metrics
from twin.records.tables import joined, read_tables, tabulate, write_tables


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), reach_dbm=st.sampled_from([-5.0, 5.0, 23.0]))
def test_nothing_disappears_on_the_radio(seed, reach_dbm):
    """Prompts carried and never carried are the requests; answers carried are those served; handovers are all there."""
    run = played("compiled", radio(channel=Channel(user_tx_dbm=reach_dbm)), seed)
    tables = tabulate(run)
    cells, status = tables.cells, tables.requests["status"].to_numpy()
    on_the_way = tables.legs["arrived_s"].notna().groupby(tables.legs["request_id"]).all().to_numpy()
    answered = (tables.legs["status"] == "served").groupby(tables.legs["request_id"]).all().to_numpy()
    assert cells["n_prompts"].sum() == on_the_way.sum()
    assert cells["n_answers"].sum() == (status == "served").sum()
    assert cells["n_never_carried"].sum() == (~on_the_way).sum() + (answered & (status != "served")).sum()
    assert cells["n_handovers_in"].sum() == len(tables.handovers) == len(run.radio.handovers)


def test_the_radios_share_is_what_the_requests_lost_to_it():
    """Uplink and downlink over the mean delay: the same as from the instants of requests and legs, fixed delays off."""
    run = played("compiled", radio(channel=Channel(bandwidth_hz=2e5)), 3)
    tables = tabulate(run)
    found = radio_metrics(tables.cells, tables.handovers, tables.requests, n_users=40, duration_s=101.0)
    requests = tables.requests.set_index("request_id")
    legs = tables.legs.groupby("request_id")
    way_s = (legs["arrived_s"].min() - requests["arrived_s"]) + (requests["finished_s"] - legs["finished_s"].max())
    delay_s = requests["finished_s"] - requests["arrived_s"]
    assert (requests["status"] == "served").all()
    assert found["share_of_mean_delay"] == pytest.approx((way_s.mean() - 2 * 0.0205) / delay_s.mean(), rel=1e-9)
    assert found["handovers_per_user_hour"] == pytest.approx(len(tables.handovers) / 40 / (101 / 3600))


def test_tables_of_a_radio_are_written_and_read_back(tmp_path):
    """All five tables come back equal; without a radio there are three files."""
    parts = [tabulate(played("compiled", radio(), seed), replication=seed) for seed in (0, 1)]
    tables = joined(parts)
    write_tables(tables, tmp_path)
    again = read_tables(tmp_path)
    for name in ("handovers", "cells"):
        frame = getattr(tables, name)
        words = {column: frame[column].astype(object) for column in frame.select_dtypes("category")}
        pd.testing.assert_frame_equal(getattr(again, name), frame.assign(**words))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cells.parquet", "devices.parquet", "handovers.parquet", "legs.parquet", "requests.parquet",
    ]  # fmt: skip
    assert by_site(tables.cells)["n_prompts"].sum() == sum(part.cells["n_prompts"].sum() for part in parts)


def test_who_is_never_carried_is_counted():
    """Users out of every site's reach: no mean, all of their prompts counted."""
    tables = tabulate(played("compiled", radio(at(*[(4000.0, 0.0)] * 40), sites=ONE, channel=QUIET), 1))
    found = radio_metrics(tables.cells, tables.handovers, tables.requests, n_users=40, duration_s=101.0)
    assert found["never_carried"] == found["waited_for_coverage"] == len(tables.requests)
    assert np.isnan(found["uplink_mean_s"])
