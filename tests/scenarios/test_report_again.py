"""Laws of `moe2 report` and of the pages of comparisons and sweeps: told from the tables, with a table per figure."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from scenarios.cli import app
from scenarios.report.side_by_side import differences
from scenarios.runs.result import run
from scenarios.story.comparing import compare
from scenarios.story.numbers import THIN
from scenarios.story.reading import read_result
from tests.scenarios.sweep_plant import write_small
from twin.records.metrics import delay_percentile_s


def moe2(*words, code=0):
    found = CliRunner().invoke(app, [str(w) for w in words])
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folders of three runs of a small noisy plant: as it is, with one slot, and with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    small = write_small(folder / "in", n_requests=60)
    changes = {"base": [], "slow": ["experts[0].max_batch=1"], "other": ["seed=6"]}
    for name, keys in changes.items():
        words = [word for key in keys for word in ("--set", key)] + (["--no-report"] if keys else [])
        found = CliRunner().invoke(app, ["run", str(small), "--out", str(folder / name), *words])
        assert found.exit_code in {0, 1, 3}, found.output
    return folder


def words_of(page):
    return words_in(page.read_text(encoding="utf-8"))


def words_in(text):
    text = re.sub(r"<(style|script).*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def test_a_run_told_again_is_the_same_page(runs, tmp_path):
    """From tables, summary and scenario alone the report has the same bytes, figures included."""
    moe2("report", runs / "base", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_bytes() == (runs / "base" / "report.html").read_bytes()
    for figure in (runs / "base" / "figures").iterdir():
        assert (tmp_path / "again" / "figures" / figure.name).read_bytes() == figure.read_bytes()


def test_a_run_with_a_router_is_told_again(tmp_path):
    """Subset, accuracy and warnings come back too; drawn inputs are remembered."""
    words = ["duration_s=300.0", "warmup_s=30.0", "replications=2", "verdicts.max_replications=2", "router.k=1"]
    changes = [word for change in words for word in ("--set", change)]
    CliRunner().invoke(app, ["run", "testbed", "--out", str(tmp_path / "run"), *changes])
    page = tmp_path / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    moe2("report", tmp_path / "run")
    assert page.read_bytes() == before


def test_a_comparison_shows_every_run_and_a_table_for_every_figure(runs, tmp_path):
    """Names, verdicts, quantiles, energies and the settings that differ are on one page that fetches nothing."""
    moe2("report", runs / "base", runs / "slow", runs / "other", "--out", tmp_path / "c")
    page = tmp_path / "c" / "comparison.html"
    words = words_of(page)
    for told in (
        "base",
        "slow",
        "other",
        "delay p95, all categories",
        "energy per request",
        "bench",
        "max_batch",
        "seed",
    ):
        assert told in words
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure") == 3
    assert text.count("<table") == 7
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "<script" not in text


def test_words_follow_what_the_runs_are(runs, tmp_path):
    """Recordings are told as recordings, alone and beside each other; beside a simulation each as what it is."""
    for name in ("base", "slow"):
        shutil.copytree(runs / name, tmp_path / name)
        path = tmp_path / name / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "engine": "recorded"}))
    moe2("report", tmp_path / "base", "--out", tmp_path / "alone")
    moe2("report", tmp_path / "base", tmp_path / "slow", "--out", tmp_path / "both")
    for page in (tmp_path / "alone" / "report.html", tmp_path / "both" / "comparison.html"):
        words = words_of(page).lower()
        assert "recordings of real servers" in words
        assert not re.search(r"simulat|replication|computing took", words)
    moe2("report", tmp_path / "base", runs / "slow", "--out", tmp_path / "mixed")
    words = words_of(tmp_path / "mixed" / "comparison.html")
    assert "a recording and a simulation" in words
    assert "3 recordings of real servers, requests of seed 5" in words
    assert "3 replications from seed 5" in words


def test_differences_are_paired_replication_by_replication(runs):
    """The difference's interval is that of SciPy's paired t test on the replications' own figures."""
    found = compare({n: read_result(runs / n) for n in ("base", "slow")}, {n: runs / n for n in ("base", "slow")})
    row = found.differences.query("run == 'slow' and metric == 'delay_p95_s'").iloc[0]
    each = [
        np.array([delay_percentile_s(r, 95) for _, r in read_result(runs / n).tables.requests.groupby("replication")])
        for n in ("slow", "base")
    ]
    oracle = stats.ttest_rel(*each).confidence_interval(0.95)
    assert row["value"] == pytest.approx(float(np.mean(each[0] - each[1])))
    assert (row["low"], row["high"]) == pytest.approx((oracle.low, oracle.high))
    assert dict(zip(found.settings["key"], found.settings["slow"], strict=True)) == {"experts[a].max_batch": "1"}


def test_a_difference_of_shares_is_in_points(runs, tmp_path):
    """On the page of several runs a difference of a share is 100 times it, in points; per cent would say a ratio."""
    moe2("report", runs / "base", runs / "slow", "--out", tmp_path / "c")
    stories = {n: read_result(runs / n) for n in ("base", "slow")}
    found = compare(stories, {n: runs / n for n in stories})
    share = found.differences["metric"].isin(["accuracy", "served_share"])
    changed = found.differences.assign(value=0.012, low=0.01, high=0.014)
    table = differences(replace(found, differences=changed))
    cells = {row[0].text: row[1] for row in table.rows}
    assert share.sum() == sum(words in cells for words in ("accuracy", "served")) >= 1
    assert cells["served"].text.replace(THIN, " ") == "+1.20 points"
    assert cells["served"].below == "1.00 to 1.40"
    assert "%" not in cells["served"].text + cells["served"].below
    page = (tmp_path / "c" / "comparison.html").read_text(encoding="utf-8")
    shown = page[page.index('<p class="caption">Difference to base') :]
    assert "%" not in words_in(shown[shown.index("<tbody>") : shown.index("</tbody>")])


def test_a_result_read_back_is_the_one_that_was_written(runs):
    """Verdicts and tables of the folder are those of the run."""
    from scenarios.files.loading import load

    written, fresh = read_result(runs / "base"), run(load(runs / "in" / "small.toml"))
    assert [v.status for v in written.verdicts] == [v.status for v in fresh.verdicts]
    assert written.verdicts == fresh.verdicts
    for name in ("requests", "legs", "devices"):
        read, kept = (getattr(r.tables, name).astype(object) for r in (written, fresh))
        pd.testing.assert_frame_equal(read.where(read.notna(), None), kept.where(kept.notna(), None))


def test_vector_figures_stand_beside_the_others_and_repeat(runs, tmp_path):
    """Every PNG has an SVG of the same bytes each time; a PDF when asked for."""
    pair = ("report", runs / "base", runs / "slow")
    for out in ("one", "two"):
        moe2(*pair, "--out", tmp_path / out, "--vector", "svg")
    pictures = {p.stem for p in (tmp_path / "one" / "figures").glob("*.png")}
    assert pictures == {p.stem for p in (tmp_path / "one" / "figures").glob("*.svg")}
    for name in pictures:
        one, two = ((tmp_path / out / "figures" / f"{name}.svg").read_bytes() for out in ("one", "two"))
        assert one == two
        assert one.startswith(b"<?xml")
    moe2(*pair, "--out", tmp_path / "one", "--vector", "pdf")
    assert (tmp_path / "one" / "figures" / "delay_curves.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no summary.json"),
        (["base", "slow"], "--out is missing"),
        (["base", "base", "--out", "x"], "named twice"),
        (["base", "slow", "--out", "in"], "name a new folder"),
    ],
)
def test_a_report_of_nothing_is_refused(runs, words, message, monkeypatch):
    """Exit 2 and one message."""
    monkeypatch.chdir(runs)
    assert message in " ".join(moe2("report", *words, code=2).split())


def test_a_damaged_run_is_refused(runs, tmp_path):
    """A summary that is cut short is named, without a traceback."""
    shutil.copytree(runs / "base", tmp_path / "run")
    summary = tmp_path / "run" / "summary.json"
    summary.write_text(summary.read_text()[:200])
    assert "summary.json: not a run's summary" in " ".join(moe2("report", tmp_path / "run", code=2).split())


def test_json_holds_metrics_and_differences(runs, tmp_path):
    """What is printed for programs is JSON with the page's figures."""
    told = json.loads(moe2("report", runs / "base", runs / "slow", "--out", tmp_path / "c", "--json"))
    assert set(told["status"]) == {"base", "slow"}
    assert {row["run"] for row in told["differences"]} == {"slow"}


def drawn(page, folder):
    """Return a page as a browser shows it, or skip."""
    browser = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    if browser is None:
        pytest.skip("no browser to look at the page with")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--virtual-time-budget=9000"]
    command = [browser, *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_an_interactive_page_draws_itself_and_keeps_the_pictures(runs, tmp_path):
    """Plotly draws every chart from the page alone; the pictures stay for print and for readers without scripts."""
    pytest.importorskip("plotly")
    moe2("report", runs / "base", runs / "slow", "--out", tmp_path / "c", "--interactive")
    page = tmp_path / "c" / "comparison.html"
    assert page.read_text(encoding="utf-8").count('<svg class="picture"') == 3
    shown = drawn(page, tmp_path / "browser")
    assert shown.count('class="main-svg"') >= 1
    assert re.search(r'class="chart[^"]*drawn"', shown)


def test_a_scenarios_words_do_not_end_the_script(runs, tmp_path):
    """A run whose folder is named like a tag is data to the page."""
    pytest.importorskip("plotly")
    evil = tmp_path / "<script>alert(1)<"
    shutil.copytree(runs / "slow", evil)
    moe2("report", runs / "base", evil, "--out", tmp_path / "c", "--interactive")
    assert "<script>alert(1)" not in (tmp_path / "c" / "comparison.html").read_text(encoding="utf-8")


def test_a_sweep_has_a_page_with_every_point(tmp_path):
    """The page has a row per point, each figure, and the differences; interactive, the same rows and charts."""
    small = write_small(tmp_path / "in")
    words = ["sweep", small, "--vary", "experts[0].max_batch=1,2", "--vary", "seed=1,2", "--jobs", 1]
    moe2(*words, "--out", tmp_path / "s")
    text = (tmp_path / "s" / "sweep.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("<figure") == len(list((tmp_path / "s" / "figures").glob("*.png"))) == 4
    assert len(re.findall(r"<tr>", text)) == 2 + 4 + 3  # two heads, four points, three differences
    moe2(*words, "--out", tmp_path / "s", "--interactive", "--vector", "svg")
    again = (tmp_path / "s" / "sweep.html").read_text(encoding="utf-8")
    assert again.count('class="chart"') == 3
    assert len(list((tmp_path / "s" / "figures").glob("*.svg"))) == 4
