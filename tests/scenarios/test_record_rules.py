"""The recorded gateway keeps the scenario's rules: it tries again, gives up, takes a quorum, turns away."""

import pandas as pd
from record_sample import check_laws, moe2, record, write_sample
from testbed_server import testbed_server


def test_a_leg_that_failed_is_tried_again(tmp_path):
    """A server that fails each request when it first comes, and a gateway that tries twice: two rows each, served."""
    rows = [(0.02 * i, 20, 4, "a") for i in range(12)]
    gateway = "[gateway]\nmax_attempts = 2\nbackoff_s = 0.01\n"
    with testbed_server() as a:
        a.does = lambda P: "http 500" if P == 20 and a.asked.count(a.asked[-1]) == 1 else ""
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address}, more=gateway)
        tables = record(scenario, endpoints, tmp_path / "out")
        n_asked = len(a.asked) - 1
    requests, legs = tables["requests"], tables["legs"]
    assert (requests["status"] == "served").all()
    assert (requests["n_legs"] == 2).all()
    assert n_asked == len(legs) == len(tables["sends"]) == 24
    for _, tries in legs.groupby("request_id"):
        assert tries["attempt"].tolist() == [1, 2]
        assert tries["status"].tolist() == ["failed", "served"]
        assert tries["reason"].tolist() == ["http 500: out of memory", None]


def test_a_leg_that_takes_too_long_is_given_up_as_in_the_twin(tmp_path):
    """A server that stalls for good, and a gateway that waits three seconds: a slow twin counts the same."""
    rows = [(0.1 * i, 20 + i, 4, "a|b" if i % 2 else "a") for i in range(20)]
    with testbed_server(does=lambda P: "stall" if P >= 20 + 10 else "") as a, testbed_server() as b:
        gateway, addresses = "[gateway]\ntimeout_s = 3.0\n", {"a": a.address, "b": b.address}
        scenario, endpoints = write_sample(tmp_path / "in", rows, addresses, more=gateway, timeout_s=6.0)
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    slow = 'faults.slow_downs=[{device="device of a", at_s=0.95, factor=1000.0}]'
    assert moe2("run", scenario, "--set", slow, "--out", tmp_path / "twin", "--no-report").exit_code in {0, 1, 3}
    twin = {name: pd.read_parquet(tmp_path / "twin" / f"{name}.parquet") for name in ("requests", "legs")}
    assert tables["requests"]["status"].to_list() == twin["requests"]["status"].to_list()
    reasons = [frame[frame["status"] == "failed"]["reason"].to_list() for frame in (tables["legs"], twin["legs"])]
    assert reasons == [["no answer within 3 s"] * 10] * 2


def test_a_quorum_suffices(tmp_path):
    """One answer of two suffices: a request is served at the first, also where the other expert is down."""
    rows = [(0.02 * i, 20, 4, "a|b") for i in range(10)]
    with testbed_server() as a, testbed_server(does=lambda P: "http 500" if P == 20 else "") as b:
        gateway = "[gateway]\nquorum = 1\n"
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address, "b": b.address}, more=gateway)
        tables = record(scenario, endpoints, tmp_path / "out")
    requests, legs = tables["requests"].set_index("request_id"), tables["legs"]
    assert (requests["status"] == "served").all()
    assert legs.groupby("expert")["status"].unique().str[0].to_dict() == {"a": "served", "b": "failed"}
    of_a = legs[legs["expert"] == "a"].set_index("request_id")["finished_s"]
    assert (requests["finished_s"] == of_a).all()


def test_more_requests_than_the_gateway_admits_are_rejected(tmp_path):
    """Whoever comes while three are under way is rejected, and no server hears of it; so are most of ten at once."""
    rows = [(0.1 + 0.001 * i, 8, 2, "a") for i in range(10)]
    with testbed_server(holds=4, token_s=0.3) as a:
        gateway = "[gateway]\nadmission_limit = 3\n"
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address}, more=gateway)
        tables = record(scenario, endpoints, tmp_path / "out")
        n_asked = len(a.asked) - 1
    status = tables["requests"]["status"]
    assert status.to_list()[:4] == ["served"] * 3 + ["rejected"]
    assert set(status[4:]) <= {"served", "rejected"}  # served where the machine was busy for longer than the three took
    assert len(tables["legs"]) == n_asked == (status == "served").sum()
    assert a.most_open == 3
