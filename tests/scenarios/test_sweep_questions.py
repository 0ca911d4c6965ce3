"""Laws of the questions that planners ask: capacity, what if, which is better."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scenarios.files.loading import load
from scenarios.plans.capacity import bracket
from scenarios.plans.questions import relaxed, versus, what_ifs
from tests.scenarios.sweep_plant import app, write_small

SHORT = ["duration_s=300.0", "warmup_s=30.0", "replications=2"]
SET = [word for change in SHORT for word in ("--set", change)]


def asked(*args, code=0):
    found = CliRunner().invoke(app, [str(a) for a in args])
    assert found.exit_code == code, found.output
    return found.output


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
    ]
    subset = 'router.subset=["qwen1.5-7b-chat@orin-b"]'
    words = [w for c in [*budgets, subset, "router.k=1", 'verdicts.inputs="nominal"'] for w in ("--set", c)]
    output = asked("capacity", "testbed", *SET, *words, "--tolerance", 0.5, "--out", tmp_path / "c")
    answer = json.loads((tmp_path / "c" / "capacity.json").read_text())
    assert answer["unit"] == "requests/s"
    assert answer["words"] in " ".join(output.split())
    points = pd.read_parquet(tmp_path / "c" / "points.parquet").set_index("load.requests_per_s")
    assert points.index.is_monotonic_increasing
    assert points.loc[answer["breaks"], "status"] == "violated"
    if answer["holds"] is not None:
        assert points.loc[answer["holds"], "status"] == "holds"
        assert answer["holds"] < answer["breaks"]
    assert (tmp_path / "c" / "figures" / "capacity.png").stat().st_size > 0


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
    assert by_name["twice the load"].load.requests_per_s == 2 * base.load.requests_per_s
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
            assert name == f"delay {changed.pop()} +0.1"
    output = asked("sensitivity", "testbed", *SET, "--by", 9, "--jobs", 1, "--out", tmp_path / "s")
    points = pd.read_parquet(tmp_path / "s" / "points.parquet").set_index("variant")
    other = points.index[points["subset"] != points["subset"].iloc[0]]
    assert len(other) > 0
    assert all(f"{name}: the choice becomes" in output for name in other)
    table = pd.read_parquet(tmp_path / "s" / "sweep.parquet").query("metric == 'accuracy' and category == 'all'")
    gains = 100 * table.set_index("variant").loc[other, "difference"]
    for name, gain in gains.items():  # the price is the paired gain over what the budget grew by
        if name.startswith("energy") and pd.notna(gain):
            assert f"{gain / (9 * base.energy_j_per_request):+.2g} per J" in output


def test_a_scenario_against_itself_makes_no_difference(tmp_path):
    """Paired differences of a scenario to itself are exactly 0, whatever the other's own seed was."""
    other = tmp_path / "other.toml"
    other.write_text('extends = "testbed"\nname = "other"\nseed = 99\n')
    plan = versus("testbed", other, SHORT, engine="compiled")
    assert {p.scenario.file.seed for p in plan.points} == {load("testbed").file.seed}
    asked("versus", "testbed", other, *SET, "--jobs", 1, "--out", tmp_path / "v")
    table = pd.read_parquet(tmp_path / "v" / "sweep.parquet").query("variant == 'other' and difference.notna()")
    assert len(table) > 0
    assert (table[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert (tmp_path / "v" / "figures" / "variants.png").exists()


@pytest.mark.parametrize("command", ["capacity", "whatif"])
def test_a_question_that_does_not_fit_is_refused(tmp_path, command):
    """Requests that name their experts have no router to ask: exit 2 and one message."""
    output = asked(command, write_small(tmp_path / "in"), "--out", tmp_path / "out", code=2)
    assert "name their experts" in " ".join(output.split())
