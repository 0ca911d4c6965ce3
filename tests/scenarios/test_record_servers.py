"""Laws of recording servers that go wrong or are others than the scenario's: each leg ends once, with its reason."""

import json

import pandas as pd
import pytest
from record_sample import ROWS, check_laws, moe2, record, write_sample
from testbed_server import WRONG, testbed_server


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_goes_wrong_leaves_a_reason(tmp_path, wrong):
    """Of two servers one goes wrong on its third to fifth legs: those fail, or are rejected, and nothing else is."""
    told = {"stall": "stalled: nothing came for 2 s", "http 400": "http 400: out of memory", "cut": "cut: "}
    told |= {"http 500": "http 500: out of memory", "no count": "garbage: usage: prompt_tokens = 'many'"}
    told |= {"no number": "garbage: NaN is no number"}
    with testbed_server(does=lambda P: wrong if 22 <= P <= 24 else "") as a, testbed_server() as b:
        patience_s = 2.0 if wrong == "stall" else 60.0  # no leg fails for a busy machine alone
        addresses = {"a": a.address, "b": b.address}
        scenario, endpoints = write_sample(tmp_path / "in", ROWS, addresses, timeout_s=patience_s)
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    bad = tables["legs"][tables["legs"]["status"] != "served"]
    word = "rejected" if wrong == "http 400" else "failed"
    if wrong == "stall":  # on a busy machine another may stall too
        assert (bad["reason"] == told[wrong]).sum() >= 3
    else:
        assert bad["status"].to_list() == [word] * 3
        assert bad["reason"].str.startswith(told.get(wrong, wrong)).all()
        assert set(bad["expert"]) == {"a"}
    of_request = tables["requests"].set_index("request_id")["status"]
    assert (of_request[bad["request_id"]] == word).all()
    assert (of_request.drop(bad["request_id"]) == "served").all()


def test_a_server_killed_in_the_middle(tmp_path):
    """What a dead server has not finished fails, by a cut or a refused connection; the other goes on."""
    with testbed_server(token_s=0.02) as a, testbed_server() as b:
        rows = [(0.05 * i, 20 + i, 8, "a" if i % 2 else "b") for i in range(40)]
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address, "b": b.address})
        a.does = lambda P: "killed" if P == 20 + 17 else ""  # its ninth leg
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    legs = tables["legs"]
    assert (legs[legs["expert"] == "b"]["status"] == "served").all()
    dead = legs[(legs["expert"] == "a") & (legs["status"] == "failed")]
    assert 11 <= len(dead) <= 20
    assert dead["reason"].str.match("cut|unreachable").all()
    assert dead["reason"].str.startswith("unreachable").sum() >= 10


@pytest.mark.parametrize("wrong", ["ended", "stall", "garbage"])
def test_the_twin_with_the_same_fault_counts_the_same(tmp_path, wrong):
    """A server that ends, stalls or answers garbage from its 11th leg (to its 15th): the twin's crash loses those."""
    rows = [(0.1 * i, 20 + i, 4, "a|b" if i % 2 else "a") for i in range(20)]
    upto = 19 if wrong == "ended" else 14
    with testbed_server(does=lambda P: wrong if 20 + 10 <= P <= 20 + upto else "") as a, testbed_server() as b:
        patience_s = 4.0 if wrong == "stall" else 60.0
        addresses = {"a": a.address, "b": b.address}
        scenario, endpoints = write_sample(tmp_path / "in", rows, addresses, timeout_s=patience_s)
        tables = record(scenario, endpoints, tmp_path / "out")
    check_laws(tables)
    repaired = "" if wrong == "ended" else f", repaired_s={0.1 * upto + 0.05}"
    crash = f'faults.crashes=[{{device="device of a", at_s=0.95{repaired}}}]'
    run = moe2("run", scenario, "--set", crash, "--out", tmp_path / "twin", "--no-report")
    assert run.exit_code in {0, 1, 3}, run.output
    compared = moe2("compare", tmp_path / "out", tmp_path / "twin")
    assert compared.exit_code == 0, compared.output
    twin = pd.read_parquet(tmp_path / "twin" / "requests.parquet")
    assert tables["requests"]["status"].to_list() == twin["status"].to_list()
    assert (twin["status"] == "failed").sum() == upto - 9


@pytest.mark.parametrize("slots", [None, 64, 2, "2"])
def test_slots_that_are_not_the_scenarios_are_told(tmp_path, slots):
    """A server that tells 2 slots where max_batch is 64 is warned of at once and ever after; else nothing is said."""
    words = "a: the server says that it has 2 slots, max_batch is 64"
    with testbed_server(slots=slots) as a:
        scenario, endpoints = write_sample(tmp_path / "in", [(0.0, 8, 2, "a")], {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--no-report")
    assert found.exit_code == 0, found.output
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    compared = moe2("compare", tmp_path / "out", tmp_path / "out").output
    summed_up = [" ".join(told["recording"]["slots_apart"]), " ".join(told["told"]["warnings"])]
    assert [words in place for place in (found.stderr, found.stdout, compared, *summed_up)] == [slots == 2] * 5
