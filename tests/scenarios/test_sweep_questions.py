"""Laws of the questions that planners ask: capacity, what if, which is better."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scenarios.figures.questions import draw_capacity
from scenarios.files.loading import load
from scenarios.plans.answers import versus_answer, what_if_answer
from scenarios.plans.capacity import bracket
from scenarios.plans.questions import versus, what_ifs
from scenarios.plans.sensitivity import relaxed
from tests.scenarios.sweep_plant import app, write_small

SHORT = ["duration_s=300.0", "warmup_s=30.0", "replications=2", "verdicts.max_replications=2"]
SET = [word for change in SHORT for word in ("--set", change)]


def asked(*args, code=0):
    found = CliRunner().invoke(app, [str(a) for a in args])
    assert found.exit_code == code, found.output
    return found.output


def answered(folder, *words):
    """Check what every answer is: first on the terminal, in JSON, and at the head of a page that needs nothing else.

    Asked again, nothing is measured again. Return it as JSON has it.
    """
    output = " ".join(asked(*words, "--out", folder).split())
    kept = {entry: entry.stat().st_mtime_ns for entry in (folder / "cache").iterdir()}
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    assert output.startswith(" ".join(answer["answer"].split()))
    assert answer["answer"].endswith(".")
    assert answer["numbers"]
    assert answer["question"].endswith("?")
    told = json.loads(asked(*words, "--out", folder, "--json"))
    assert kept == {entry: entry.stat().st_mtime_ns for entry in (folder / "cache").iterdir()}
    assert {**told, "points": None} == {**answer, "points": None}
    assert len(told["points"]) == len(pd.read_parquet(folder / "points.parquet"))
    page = (folder / "answer.html").read_text(encoding="utf-8")
    (head,) = re.findall(r"<h1><span>(.*?)</span></h1>", page, flags=re.DOTALL)
    assert html.unescape(head) == answer["answer"]
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert drawn in ({"capacity"}, {"variants_accuracy", "variants_delay", "variants_energy"})
    assert page.count('<svg class="picture"') == len(drawn)
    assert page.count("<table") >= 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    return answer


@given(
    edge=st.floats(0.01, 100),
    width=st.floats(1.0, 3.0),
    start=st.floats(0.1, 10),
    tolerance=st.sampled_from([0.01, 0.1, 0.5]),
)
def test_the_bracket_closes_on_both_edges(edge, width, start, tolerance):
    """Holds up to one load, is violated from another: both are found to the tolerance, wherever the search starts."""

    def statuses(loads):
        return ["holds" if x <= edge else "undecided" if x < width * edge else "violated" for x in loads]

    holds, breaks = bracket(statuses, start, tolerance=tolerance)
    if holds is None:  # so far below the start that the search gave up
        assert edge < start / 2**7
    else:
        assert edge / (1 + tolerance) <= holds <= edge or (breaks is None and start * 2**7 < holds <= edge)
    if breaks is None:
        assert width * edge > start * 2**7
    else:
        assert width * edge <= breaks
        assert holds is None or breaks <= width * edge * (1 + tolerance) ** 2  # without a hold nothing is narrowed


@pytest.mark.parametrize("edge", [1, 2, 7, 240])
def test_users_are_whole_and_the_edges_neighbours(edge):
    """A number of users is an integer; with a fine tolerance the edges are next to each other."""
    tried = []

    def statuses(loads):
        tried.extend(loads)
        return ["holds" if x <= edge else "violated" for x in loads]

    assert bracket(statuses, 100, tolerance=1e-9, whole=True) == (edge, edge + 1)
    assert all(x == int(x) and x >= 1 for x in tried)


def test_a_plant_that_never_holds_or_never_breaks_is_said_so():
    """No edge is made up: None where none was found."""
    assert bracket(lambda loads: ["undecided"] * len(loads), 1.0, tolerance=0.1) == (None, None)
    holds, breaks = bracket(lambda loads: ["holds"] * len(loads), 1.0, tolerance=0.1)
    assert (holds, breaks) == (256.0, None)
    assert bracket(lambda loads: ["violated"] * len(loads), 1.0, tolerance=0.1)[0] is None


def test_capacity_is_where_the_verdict_turns(tmp_path):
    """At the load named as held the run holds, at the one named as broken it is violated; both are in the table."""
    budgets = [
        "budgets.delay_s=60.0",
        "budgets.delay_statistic=mean",
        "budgets.energy_j_per_request=1e6",
        "drain_cap_s=60.0",
        "load.requests_per_s=0.2",
    ]
    subset = 'router.subset=["qwen1.5-7b-chat@orin-b"]'
    words = [w for c in [*budgets, subset, "router.k=1", 'verdicts.inputs="nominal"'] for w in ("--set", c)]
    found = answered(tmp_path / "c", "capacity", "testbed", *SET, *words, "--tolerance", 0.5)
    answer = found["numbers"]
    assert answer["unit"] == "requests/s"
    points = pd.read_parquet(tmp_path / "c" / "points.parquet").set_index("load.requests_per_s")
    assert points.index.is_monotonic_increasing
    assert points.loc[answer["breaks"], "status"] == "violated"
    if answer["holds"] is not None:
        assert points.loc[answer["holds"], "status"] == "holds"
        assert answer["holds"] < answer["breaks"]
        assert f"holds up to {answer['holds']:.4g}" in found["answer"]
        assert answer["at_holds"]["delay"]["use_high"] <= 1 < answer["at_breaks"]["delay"]["use"] or (
            answer["at_breaks"]["delay"]["use"] is None  # a backlog that grows has no figure
        )
    assert (points.loc[points["status"] != "holds", "reason"] != "").all()
    assert (points.loc[points["status"] == "holds", "reason"] == "").all()


def test_what_ifs_change_one_thing_each():
    """Each device kept is lost once, the mean prompt doubles, the load doubles; the subset stays what it was."""
    plan = what_ifs("testbed", SHORT, engine="compiled")
    by_name = {p.values[0]: p.scenario.file for p in plan.points}
    base = by_name["as it is"]
    kept = base.router.subset
    lost = {name for name in by_name if name.startswith("without ")}
    devices = {e.name: e.device for e in base.experts}
    assert lost == {f"without {devices[name]}" for name in kept}
    for name in kept:
        assert by_name[f"without {devices[name]}"].router.subset == [n for n in kept if n != name]
    for device in devices.values():  # a crash leaves the subset as it was and befalls one device once
        if (name := f"crash of {device}") in by_name:
            (crash,) = by_name[name].faults.crashes
            assert crash.device == device
            assert 0 < crash.at_s < crash.repaired_s < by_name[name].duration_s
            assert by_name[name].router.subset == kept
    assert {n for n in by_name if n.startswith("crash of")} == {f"crash of {devices[name]}" for name in kept}
    assert by_name["twice the load"].load.planned_per_s(240) == 2 * base.load.planned_per_s(240)
    assert by_name["twice the load"].router.subset == kept
    from scenarios.runs.replicating import assemble

    routing = assemble(plan.base).routing
    mean = routing.pool.prompt_tokens[routing.test_rows].mean()
    longer = by_name["prompts twice as long"].load.prompt_prefix_tokens + mean
    assert longer == pytest.approx(2 * (base.load.prompt_prefix_tokens + mean), abs=1)


def test_each_budget_is_relaxed_alone_and_one_that_binds_is_named(tmp_path):
    """One budget differs from the base in each variant; one that is loosened far enough changes the choice."""
    plan = relaxed("testbed", SHORT, by=0.1, engine="compiled")
    base = plan.base.file.budgets
    for point in plan.points[1:]:
        budgets, name = point.scenario.file.budgets, point.values[0]
        delays, before = budgets.delay_by_category_s(), base.delay_by_category_s()
        changed = {label for label in delays if delays[label] != before[label]}
        assert all(delays[label] == pytest.approx(1.1 * before[label]) for label in changed)
        if name.startswith("energy"):
            assert not changed
            assert budgets.energy_j_per_request == pytest.approx(1.1 * base.energy_j_per_request)
        elif not name.startswith("every"):
            assert name == f"delay {changed.pop()} +10 %"
    answer = answered(tmp_path / "s", "sensitivity", "testbed", *SET, "--by", 9, "--jobs", 1)
    output = "\n".join(answer["notes"])
    points = pd.read_parquet(tmp_path / "s" / "points.parquet").set_index("variant")
    other = points.index[points["subset"] != points["subset"].iloc[0]]
    assert len(other) > 0
    assert all(f"{name}: the choice becomes" in output for name in other)
    table = pd.read_parquet(tmp_path / "s" / "sweep.parquet").query("metric == 'accuracy' and category == 'all'")
    gains = 100 * table.set_index("variant").loc[other, "difference"]
    assert {name for name, found in answer["numbers"]["budgets"].items() if found["binds"]} == set(other)
    for name, gain in gains.items():  # the price is the paired gain over what the budget grew by
        found = answer["numbers"]["budgets"][name]
        if name.startswith("energy") and pd.notna(gain):
            assert found["points_per_unit"] == pytest.approx(gain / (9 * base.energy_j_per_request))
            assert found["unit"] == "J"


def test_a_scenario_against_itself_makes_no_difference(tmp_path):
    """Paired differences of a scenario to itself are exactly 0, whatever the other's own seed was."""
    other = tmp_path / "other.toml"
    other.write_text('extends = "testbed"\nname = "other"\nseed = 99\n')
    plan = versus("testbed", other, SHORT, engine="compiled")
    assert {p.scenario.file.seed for p in plan.points} == {load("testbed").file.seed}
    answer = answered(tmp_path / "v", "versus", "testbed", other, *SET, "--jobs", 1)
    assert answer["answer"].startswith("The two are not told apart")
    assert set(answer["numbers"]["better"].values()) == {None}
    table = pd.read_parquet(tmp_path / "v" / "sweep.parquet").query("variant == 'other' and difference.notna()")
    assert len(table) > 0
    assert (table[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


@pytest.mark.parametrize("command", ["capacity", "whatif"])
def test_a_question_that_does_not_fit_is_refused(tmp_path, command):
    """Requests that name their experts have no router to ask: exit 2 and one message."""
    output = asked(command, write_small(tmp_path / "in"), "--out", tmp_path / "out", code=2)
    assert "name their experts" in " ".join(output.split())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-0.05"])
@pytest.mark.parametrize(("command", "option"), [("capacity", "--tolerance"), ("sensitivity", "--by")])
def test_a_number_that_means_nothing_is_refused_before_anything_is_written(tmp_path, command, option, value):
    """A tolerance or a share is above 0 and finite: else exit 2, one message that names the option, and no folder."""
    output = asked(command, "testbed", f"{option}={value}", "--out", tmp_path / "out", code=2)
    assert f"{option} {float(value)}: must be above 0" in " ".join(output.split())
    assert not any(tmp_path.iterdir())


def test_a_scenario_without_an_answer_leaves_no_folder(tmp_path):
    """What is wrong with the scenario is said before a folder is made."""
    asked("capacity", "testbed", "--set", "load.process=closed", "--out", tmp_path / "out", code=2)
    assert not any(tmp_path.iterdir())


ENDS = ("difference", "difference_low", "difference_high")


def told_tables(differences, statuses=("holds", "holds")):
    """Return the tables of a sweep over variants, whose accuracy, delay and energy differ so from the first's."""
    metrics = ("accuracy", "delay_p95_s", "energy_j_per_request")
    names = ["a", *(f"v{i}" for i in range(1, len(statuses)))]
    rows = [
        {
            "point": i,
            "category": "all",
            "metric": m,
            "difference": d[0],
            "difference_low": d[1],
            "difference_high": d[2],
        }
        for i in range(1, len(names))
        for m, d in zip(metrics, differences, strict=True)
    ]
    points = {
        "point": range(len(names)), "variant": names, "status": statuses, "reason": "", "delay_statistic": "p95",
    }  # fmt: skip
    empty = ["point", "label", "status", "note", "category", "metric", "value"]
    return {
        "points": pd.DataFrame(points),
        "sweep": pd.DataFrame(rows),
        "verdicts": pd.DataFrame(columns=empty),
        "replications": pd.DataFrame(columns=empty),
    }


intervals = st.tuples(st.floats(-50, 50), st.floats(0.001, 60)).map(lambda p: (p[0], p[0] - p[1], p[0] + p[1]))


@given(st.tuples(intervals, intervals, intervals))
def test_better_is_what_the_paired_intervals_say(differences):
    """A metric is told apart exactly where its interval leaves out 0; more accuracy, less delay and energy is better.

    Who is ahead in something and behind in nothing is better; ahead in both ways, neither; in none, not told apart.
    """
    answer = versus_answer(told_tables(differences))
    better = answer.numbers["better"]
    for (metric, winner), (middle, low, high) in zip(better.items(), differences, strict=True):
        apart = low > 0 or high < 0
        assert (winner is not None) == apart
        if apart:
            assert winner == ("v1" if (middle > 0) == (metric == "accuracy") else "a")
        assert (f"{metric} is not told apart" in answer.sentence) == (not apart)
    winners = {w for w in better.values() if w}
    lead = {0: "The two are not told apart", 2: "Neither is better"}.get(len(winners), f"{min(winners, default='')} is")
    assert answer.sentence.startswith(lead)


def test_who_alone_holds_every_budget_is_better():
    """A plant that breaks its budgets is not better for being quicker."""
    quicker = ((0.0, -1.0, 1.0), (-5.0, -6.0, -4.0), (0.0, -1.0, 1.0))
    assert versus_answer(told_tables(quicker, ("holds", "violated"))).sentence.startswith("a is better, as it alone")
    assert versus_answer(told_tables(quicker, ("violated", "holds"))).sentence.startswith("v1 is better, as it alone")


def test_what_cannot_be_compared_is_said_so():
    """A delay without a bound has no difference: the answer says so and does not call anyone quicker."""
    unknown = (np.nan, np.nan, np.nan)
    tables = told_tables(((0.0, -1.0, 1.0), unknown, (-5.0, -6.0, -4.0)))
    rows = [(0, "all", "delay_p95_s", np.inf), (0, "all", "delay_p95_s", 9.0), (1, "all", "delay_p95_s", 9.0)]
    tables["replications"] = pd.DataFrame(rows, columns=["point", "category", "metric", "value"])
    answer = versus_answer(tables)
    assert answer.sentence.startswith("v1 is better in what can be compared")
    assert "a leaves too many requests unanswered in 1 of 2 replications" in answer.sentence
    assert answer.plain()["numbers"]["second_less_first"]["delay_p95_difference"]["value"] is None


@given(st.lists(st.sampled_from(["holds", "violated", "undecided", "infeasible"]), min_size=1, max_size=8))
def test_what_if_counts_the_variants_that_hold(statuses):
    """The sentence counts those in which every budget holds and names the others with what became of them."""
    same = ((0.0, 0.0, 0.0),) * 3
    sentence = what_if_answer(told_tables(same, ("holds", *statuses))).sentence
    n_held = statuses.count("holds")
    if n_held == len(statuses):
        assert f"in all {n_held} what-ifs" in sentence
    else:
        assert (f"in {n_held} of {len(statuses)}" in sentence) == (n_held > 0)
        assert all((f"“v{i}” ({s})" in sentence) == (s != "holds") for i, s in enumerate(statuses, start=1))


def test_capacity_is_drawn_to_the_scale_of_its_figures(tmp_path):
    """An interval that reaches far beyond every figure is cut at the edge: how far beyond changes nothing."""

    def drawn(folder, end):
        points = pd.DataFrame({"load": [0.1, 0.2, 0.4], "delay_use": [0.5, 0.8, 1.6], "delay_use_low": [0.4, 0.6, 1.0]})
        points["delay_use_high"] = [0.6, end, 2.0]
        points[["energy_use", "energy_use_low", "energy_use_high"]] = np.nan
        figure = draw_capacity(points, "load", unit="requests/s", holds=0.1, breaks=0.4, folder=tmp_path / folder)
        return Path(figure.path).read_bytes()

    assert drawn("far", 1e3) == drawn("farther", 1e6)
