"""The timeline of a run: a valid trace that says what the tables say."""

import json
import tracemalloc
from collections import defaultdict
from math import inf

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_radio_access import ONE, QUIET, at, played, radio
from twin_plant import expert, profile, requests_at, run_all

from twin.radio.channel import Channel
from twin.records.tables import joined, tabulate
from twin.records.timeline import FIRST_SERVER, HANDOVERS, REQUESTS, trace_events, write_timeline

FIELDS = {"name": str, "ph": str, "ts": (int, float), "pid": int, "tid": int}  # of every event
MORE = {
    "M": {"args"},
    "b": {"cat", "id2"},
    "e": {"cat", "id2"},
    "C": {"args"},
    "i": {"s"},
}  # by phase: all that are used


def check_format(events):
    """Check what the Trace Event Format asks for: phases and their fields, spans that nest and end, counters.

    Every event has the fields that viewers ask for, and none beyond those of its phase. Spans pair by (process,
    category, id), which begins once, and are of few names, as each has a row; the instants of a process's counter do
    not fall. Flows and spans of threads are not used.
    """
    open_spans, closed, named, counted_us, rows = defaultdict(list), set(), set(), {}, set()
    for event in events:
        assert event["ph"] in MORE
        assert FIELDS.keys() | MORE[event["ph"]] <= event.keys() <= FIELDS.keys() | MORE[event["ph"]] | {"args"}
        assert all(isinstance(event[name], kind) for name, kind in FIELDS.items()), event
        assert isinstance(event.get("args", {}), dict)
        if event["ph"] == "M":
            assert (event["name"], event["args"].keys()) == ("process_name", {"name"})
            assert isinstance(event["args"]["name"], str)
            assert event["pid"] not in named
            named.add(event["pid"])
            continue
        assert event["pid"] in named
        assert 0 <= event["ts"] < 2**53, "microseconds that a double tells apart"
        key = (event["pid"], event.get("cat"), event.get("id2", {}).get("local"))
        if event["ph"] == "b":
            assert event["id2"].keys() == {"local"}, "an id of all processes is shown apart from them"
            assert all(isinstance(word, str) for word in key[1:])
            rows.add(event["name"])
            assert open_spans[key] or key not in closed, f"{key} begins twice"
            open_spans[key].append(event)
        elif event["ph"] == "e":
            begun = open_spans[key].pop()
            assert (begun["name"], begun["pid"], begun["tid"]) == (event["name"], event["pid"], event["tid"])
            assert event["ts"] >= begun["ts"]
            closed.add(key)
        elif event["ph"] == "C":
            assert all(isinstance(value, int) and value >= 0 for value in event["args"].values())
            assert event["ts"] >= counted_us.get((event["pid"], event["name"]), 0)
            counted_us[event["pid"], event["name"]] = event["ts"]
        else:
            assert (event["ph"], event["s"]) == ("i", "p")
    assert not any(open_spans.values()), "a span does not end"
    assert rows <= {"request", "leg", "queue", "prefill", "decode"}


def spans(events, cat):
    found = defaultdict(dict)
    for event in events:
        if event.get("cat") == cat:
            found[event["pid"], event["id2"]["local"], event["name"]][event["ph"]] = event["ts"] / 1e6
    return found


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    from_s=st.floats(0, 90),
    lasts_s=st.floats(0.1, 200),
    reach_dbm=st.sampled_from([0.0, 23.0]),
)
def test_every_window_of_a_run_is_a_valid_trace(seed, from_s, lasts_s, reach_dbm):
    """Spans nest and end, ids are unique, counters are never negative, and all that overlaps is there."""
    tables = tabulate(played("compiled", radio(channel=Channel(user_tx_dbm=reach_dbm)), seed, n=25))
    events = list(trace_events(tables, 0, from_s, from_s + lasts_s))
    check_format(json.loads(json.dumps(events, allow_nan=False)))
    requests = tables.requests
    overlaps = (requests["arrived_s"] < from_s + lasts_s) & (requests["finished_s"].fillna(inf) >= from_s)
    assert len(spans(events, "request")) == overlaps.sum()
    inside = tables.handovers["at_s"].between(from_s, from_s + lasts_s, inclusive="left")
    assert sum(event["pid"] == HANDOVERS and event["ph"] == "i" for event in events) == inside.sum()


def test_phases_are_the_instants_of_the_legs():
    """Queue ends where prefill begins, at started_s; prefill ends where decode begins, at first_token_s."""
    tables = tabulate(played("compiled", radio(), 1))
    events = list(trace_events(tables, 0, 0.0, inf))
    found = spans(events, "leg")
    servers = {event["args"]["name"].split(" on ")[0]: event["pid"] for event in events if event["ph"] == "M"}
    for row in tables.legs.itertuples():
        name = servers[row.expert], f"{row.request_id}/{row.attempt}"
        instants = [row.arrived_s, row.started_s, row.first_token_s, row.finished_s]
        for phase, begin_s, end_s in zip(("queue", "prefill", "decode"), instants, instants[1:], strict=False):
            assert found[(*name, phase)]["b"] == pytest.approx(begin_s, abs=1e-9)
            assert found[(*name, phase)]["e"] == pytest.approx(end_s, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), shares=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_counters_are_what_the_tables_count(seed, shares):
    """At any instant the last counter value is the number of legs that wait, or run, by the tables."""
    tables = tabulate(played("compiled", radio(), seed))
    last_s, legs = tables.legs["finished_s"].max(), tables.legs
    events = list(trace_events(tables, 0, 0.0, inf))
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    for (begin, end), counter in ((("arrived_s", "started_s"), "waiting"), (("started_s", "finished_s"), "running")):
        for pid in (p for p in names if p >= FIRST_SERVER):
            mine = legs[legs["expert"] == names[pid].split(" on ")[0]]
            series = [(e["ts"] / 1e6, e["args"]["legs"]) for e in events if e["pid"] == pid and e["name"] == counter]
            for at_s in np.array(shares) * last_s:
                shown = [n for when_s, n in series if when_s <= at_s + 1e-9]
                assert shown[-1] == ((mine[begin] <= at_s + 1e-9) & (mine[end] > at_s + 1e-9)).sum()


def test_legs_that_do_not_end_are_shown_and_marked():
    """Rejected, unfinished and never carried: each is shown once with its status, nothing is negative."""
    few = expert(profile(), max_batch=1, kv_capacity_tokens=50)
    run = run_all(requests_at([0.0, 1.0, 2.0], [10, 100, 10], [5, 5, 30]), few, duration_s=3.0, drain_cap_s=0.0)
    tables = tabulate(run)
    assert sorted(tables.legs["status"]) == ["rejected", "served", "unfinished"]
    events = list(trace_events(tables, 0, 0.0, inf))
    check_format(events)
    about = [e["args"] for e in events if e["ph"] == "b" and "prompt_tokens" in e.get("args", {})]
    assert sorted(a["status"] for a in about) == ["rejected", "served", "unfinished"]
    assert ["reason" in a for a in about if a["status"] == "rejected"] == [True]
    lost = tabulate(played("compiled", radio(at(*[(4000.0, 0.0)] * 40), sites=ONE, channel=QUIET), 1))
    check_format(list(trace_events(lost, 0, 0.0, inf)))


def test_the_file_is_json_and_is_written_piece_by_piece(tmp_path):
    """What is written is one JSON object; writing takes far less memory than the file is long."""
    n = 4000
    run = run_all(requests_at(np.arange(n) * 0.01, [5] * n, [3] * n), expert(profile((1e-3, 0, 0), (1e-3, 0, 0))))
    tables = joined([tabulate(run, replication=i) for i in (0, 1)])
    tracemalloc.start()
    written = write_timeline(tables, tmp_path / "t.json", replication=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (tmp_path / "t.json").stat().st_size
    assert peak < size / 2
    events = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["traceEvents"]
    assert len(events) == written
    check_format(events)
    assert sum(e["ph"] == "b" and e["pid"] == REQUESTS for e in events) == n


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"from_s": 5.0, "until_s": 5.0}, "must be a window"),
        ({"from_s": -1.0}, "must be a window"),
        ({"from_s": 1e6}, "the run's last instant is"),
        ({"replication": 3}, r"there is no replication 3; there are \[0\]"),
    ],
)
def test_a_window_with_nothing_in_it_is_refused(tmp_path, window, message):
    """The message says what there is."""
    tables = tabulate(run_all(requests_at([0.0], [5], [3]), expert(profile())))
    with pytest.raises(ValueError, match=message):
        write_timeline(tables, tmp_path / "t.json", **window)


def test_tables_of_a_testbed_are_shown_too():
    """Ids that are text, users that are not known and instants that were not recorded do no harm."""
    tables = tabulate(run_all(requests_at([0.0, 1.0], [5, 5], [3, 3], ids=["a b", "c/d"]), expert(profile())))
    legs = tables.legs.assign(started_s=np.nan)
    assert tables.requests["user_id"].isna().all()
    events = list(trace_events(type(tables)(requests=tables.requests, legs=legs, devices=pd.DataFrame()), 0, 0.0, inf))
    check_format(events)
    assert {e["args"]["request"] for e in events if e["ph"] == "b" and "args" in e} == {"a b", "c/d"}
