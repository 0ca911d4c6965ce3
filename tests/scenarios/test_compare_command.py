"""Laws of `moe2 compare`: what it says first, how it ends, what it refuses, and the page it leaves."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from record_sample import moe2
from recorded_tables import tables_of

from scenarios.comparing.tolerances import read_tolerances
from scenarios.figures.comparison import draw_comparison
from twin.records.tables import write_tables


@pytest.fixture
def two(tmp_path):
    """Write a measured run and one that is 20 % slower; return their folders."""
    for name, stretch in (("real", 1.0), ("slow", 1.2)):
        (tmp_path / name).mkdir()
        write_tables(tables_of(seed=2, stretch=stretch), tmp_path / name)
    return tmp_path / "real", tmp_path / "slow"


@pytest.mark.parametrize(
    ("silent", "words", "shown"),
    [
        (("real", "twin"), "unanswered on both sides", "both ∞"),
        (("twin",), "unanswered in the twin only", "to ∞"),
        (("real",), "unanswered in the measured run only", "from ∞"),
    ],
)
def test_a_percentile_without_an_end_is_told_in_words(tmp_path, silent, words, shown):
    """Where a fifth was not answered p95 has no end: sentence, table, tolerance and page say on which side, no figure.

    It is within a tolerance if neither side answers, and beyond each if one does.
    """
    sides = {"real": tables_of(seed=8), "twin": tables_of(seed=8)}
    for name, tables in sides.items():
        if name in silent:
            tables.requests.loc[tables.requests.index[::5], ["status", "finished_s"]] = ["failed", np.nan]
            tables.legs.loc[tables.legs.index[::5], ["status", "finished_s", "reason"]] = ["failed", np.nan, "crash"]
        (tmp_path / name).mkdir()
        write_tables(tables, tmp_path / name)
    (tmp_path / "limits.toml").write_text("counts = 99\n[e2e]\np95 = 0.1\n")
    args = ("--tolerances", tmp_path / "limits.toml", "--out", tmp_path / "out")
    found = moe2("compare", tmp_path / "real", tmp_path / "twin", *args)
    assert found.exit_code == (0 if len(silent) == 2 else 1), found.output
    sentence, *rest = found.output.splitlines()
    assert sentence.endswith(f"the twin's E2E time is off by 0\u202f% in the mean, and p95 is {words}.")
    (line,) = [line for line in rest if line.split()[:1] == ["e2e"] and "120" in line and "0 " in line][:1]
    assert line.count(shown) == 2, "p95 and p99"
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())["tolerances"]
    (of_p95,) = [tolerance["words"] for tolerance in told if tolerance["key"] == "e2e.p95"]
    assert of_p95.startswith(f"e2e.p95: {words}, ")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert words in page
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL))


def test_the_command_exits_1_and_names_what_drifted(two, tmp_path):
    """A planted slowdown of 20 % is named with its size and the tolerance; table and figures are written."""
    limits = tmp_path / "limits.toml"
    limits.write_text("[e2e]\nmean = 0.05\np95 = 0.5\n[by_expert.ttft]\nmean = 0.1\n")
    found = moe2("compare", *two, "--tolerances", limits, "--out", tmp_path / "out")
    assert found.exit_code == 1, found.output
    exceeded = [line for line in found.output.splitlines() if line.startswith("EXCEEDED")]
    assert len(exceeded) == 3  # the mean of all, and the first token at both experts
    assert "e2e.mean:" in exceeded[0]
    assert "+20.0%" in exceeded[0]
    assert "beyond the tolerance 0.05 (5.0%)" in exceeded[0]
    assert "by_expert.ttft.mean of one@a" in exceeded[1]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"comparison.json", "comparison.csv", "e2e_distribution.png", "e2e_errors.png"} <= written
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert table.loc[(table["quantity"] == "e2e") & (table["statistic"] == "mean"), "difference"].iloc[0] == (
        pytest.approx(0.2)
    )
    faster = moe2("compare", *reversed(two), "--tolerances", limits)  # too fast is as wrong as too slow
    assert faster.exit_code == 1
    assert "-16.7%" in faster.output
    again = moe2("compare", *two, "--tolerances", limits, "--out", tmp_path / "out", "--json")
    assert again.exit_code == 1
    assert json.loads(again.output)["exit_status"] == 1


def test_the_page_says_first_whether_the_twin_is_near(two, tmp_path):
    """One sentence heads the screen, the JSON and a page that needs no other file; every tolerance and figure is in it.

    Names of runs are text, whatever is in them.
    """
    odd = two[1].rename(tmp_path / "<b>slow&")
    limits = tmp_path / "limits.toml"
    limits.write_text("[e2e]\nmean = 0.05\n[energy_total]\nper_request = 0.5\n")
    found = moe2("compare", two[0], odd, "--tolerances", limits, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    sentence = told["answer"]
    assert sentence.startswith("The twin is too far off in e2e.mean: the twin's E2E time is off by +20.0")
    assert found.output.startswith(sentence)
    assert page.index(str(escape(sentence))) < page.index("<h2")
    assert all(str(escape(finding["words"])) in page for finding in told["tolerances"])
    assert page.count("<figure") == len(list((tmp_path / "out").glob("*.png"))) > 0
    assert "&lt;b&gt;slow&amp;" in page
    assert "<b>slow" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            "[e2e]\nmean = 0.5\n",
            "The twin is within every tolerance: the twin's E2E time is off by +20.0",
        ),
        ("", "As many requests ended alike on both sides, and no other tolerance was stated: the twin's E2E"),
        (
            "[e2e]\nmean = 0.5\n[energy]\nmean = 0.5\n",
            "No tolerance is exceeded, and energy.mean cannot be judged: the twin's",
        ),
    ],
)
def test_what_is_kept_and_what_cannot_be_judged_is_one_sentence_too(two, tmp_path, limits, told):
    """The sentence follows the exit status: all kept, nothing stated but the counts, something that is not known."""
    path = tmp_path / "limits.toml"
    path.write_text(limits)
    unmetered = pd.read_parquet(two[0] / "requests.parquet").assign(energy_j=np.nan)
    unmetered.to_parquet(two[0] / "requests.parquet")
    found = moe2("compare", *two, "--tolerances", path, "--out", tmp_path / "out")
    assert found.output.startswith(told), found.output
    status = "holds" if told.startswith("The twin is within") else "undecided"  # nearness was judged, or was not
    assert f'<header class="{status}">' in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert found.exit_code == (3 if told.startswith("No") else 0)


def test_the_command_holds_within_tolerances(two, tmp_path):
    """The same difference within its tolerances is exit status 0, and without any only the counts must agree."""
    limits = tmp_path / "limits.toml"
    limits.write_text("counts = 0\n[e2e]\nmean = 0.21\n[throughput]\nrequests_per_s = 0.2\n")
    assert moe2("compare", *two, "--tolerances", limits).exit_code == 0
    assert moe2("compare", *two).exit_code == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[e2s]\nmean = 0.1", "key e2s: no such quantity (did you mean 'e2e'?)"),
        ("[e2e]\nmaen = 0.1", "key e2e.maen: no such statistic (did you mean 'mean'?)"),
        ("[by_expert.energy]\nmean = 0.1", "key by_expert.energy: no such quantity"),
        ("[e2e]\nmean = -0.1", "key e2e.mean = -0.1: should be a number of at least 0"),
        ("e2e = 0.1", "key e2e = 0.1: should be a table of mean, p50"),
        ("by_load = 3", "key by_load = 3: should be a table"),
        ("[e2e", "not TOML"),
        ("[e2e]\nmean = 5", "key e2e.mean = 5: is 500%, at most 1 has a use; 0.05 is 5 %"),
        ("counts = 0.05", "key counts = 0.05: should be a whole number of at least 0 (2: two of them)"),
    ],
)
def test_wrong_tolerances_are_told_apart(two, tmp_path, text, told):
    """A tolerance that is misspelt or has no meaning is refused with one message, exit status 2."""
    path = tmp_path / "limits.toml"
    path.write_text(text)
    found = moe2("compare", *two, "--tolerances", path)
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())


def test_bad_folders_are_refused(two, tmp_path):
    """No tables, other requests, a foreign folder to write to: one message each, exit status 2."""
    real, _ = two
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("do not lose this")
    (tmp_path / "others").mkdir()
    others = tables_of(seed=2)
    others.requests["request_id"] += 10_000
    others.legs["request_id"] += 10_000
    write_tables(others, tmp_path / "others")
    for args, told in (
        ((real, tmp_path / "empty"), "there is no requests.parquet"),
        ((real, tmp_path / "others"), "no request of one side is on the other"),
        ((real, real, "--out", tmp_path / "foreign"), "a folder with other files in it"),
        ((real, real, "--tolerances", tmp_path / "no.toml"), "cannot be read as tolerances"),
    ):
        found = moe2("compare", *args)
        assert found.exit_code == 2
        assert told in " ".join(found.output.split())
    assert (tmp_path / "foreign" / "thesis.txt").exists()


@pytest.mark.parametrize(("n_other", "shift_s"), [(0, 7.0), (50, 0.0), (110, 0.0)])
def test_other_requests_of_the_same_ids_are_refused(two, n_other, shift_s):
    """More than half at other instants: refused, with the first; fewer are a note, and another clock's zero nothing."""
    real, twin = two
    requests = pd.read_parquet(twin / "requests.parquet")
    apart_s = shift_s + np.where(requests.index < n_other, 0.5 + requests.index / 100, 0.0)
    requests["arrived_s"] += apart_s
    requests["finished_s"] += apart_s
    requests.to_parquet(twin / "requests.parquet")
    found = moe2("compare", real, twin)
    told = re.search(r"(\d+) of 120 requests arrive at other instants on the two sides", " ".join(found.output.split()))
    assert bool(told) == (n_other > 0)
    if n_other <= 60:
        assert found.exit_code == 0, found.output
        assert told is None or int(told[1]) == n_other
    else:
        assert found.exit_code == 2
        assert int(told[1]) >= n_other
        assert "compare runs of one scenario, seed and speed" in found.output


@pytest.mark.parametrize(
    "kinds", [("compiled", "recorded"), ("simpy", "imported"), ("recorded", "compiled"), (None, "recorded")]
)
def test_a_simulation_is_not_what_was_measured(two, kinds):
    """Sides that are swapped, as their summaries tell, are refused with the right order; any other order is taken."""
    for folder, engine in zip(two, kinds, strict=True):
        if engine is not None:
            (folder / "summary.json").write_text(json.dumps({"engine": engine}))
    found = moe2("compare", *two)
    swapped = kinds[0] in {"compiled", "simpy"}
    assert found.exit_code == (2 if swapped else 0), found.output
    assert (f"the measured run comes first, `moe2 compare {two[1]} {two[0]}`" in found.output) == swapped


def test_a_page_of_many_requests_stays_small(tmp_path):
    """However many requests there are, a figure has some thousands of marks and says how many it leaves out."""
    n = 5_001
    pairs = pd.DataFrame({"quantity": "e2e", "unit": "s", "real": np.linspace(1, 2, n), "twin": np.linspace(1, 3, n)})
    few, many = (draw_comparison(rows, tmp_path)[1] for rows in (pairs.iloc[:2000], pairs))
    assert few.svg.count("<use") >= 2000
    assert 1500 < many.svg.count("<use") < 2100
    assert "drawn" not in few.caption
    assert re.search(r"1.667 of 5.001 are drawn", many.caption)


def test_exact_counts_are_implied(tmp_path):
    """A file that does not speak of counts keeps them exact; one that does may loosen them."""
    path = tmp_path / "limits.toml"
    path.write_text("[e2e]\nmean = 0.1")
    assert [t.limit for t in read_tolerances(path) if t.quantity == "counts"] == [0.0]
    path.write_text("counts = 2")
    assert [t.limit for t in read_tolerances(path) if t.quantity == "counts"] == [2.0]
