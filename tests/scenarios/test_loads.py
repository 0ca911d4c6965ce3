"""Every kind of load runs from a scenario file."""

import pytest
from rich.console import Console

from scenarios.files.loading import load
from scenarios.running import perform, prepare

LOADS = {
    "gamma": '{process="gamma", requests_per_s=0.2, cv=3.0}',
    "mmpp": '{process="mmpp", states=[{requests_per_s=0.1, mean_s=60.0}, {requests_per_s=0.5, mean_s=30.0}]}',
    "diurnal": '{process="diurnal", requests_per_s=0.2, shape=[1.0, 2.0], period_s=600.0}',
}
CHANGES = ("replications=2", "duration_s=900.0", "warmup_s=0.0", "verdicts.max_replications=2", 'router.subset="auto"')


@pytest.mark.parametrize("name", LOADS)
def test_random_loads_run(tmp_path, name):
    """The tables hold about as many requests as the load's rate says, all with a user and a prompt."""
    scenario = load("testbed", [*CHANGES, f"load={LOADS[name]}"])
    tables = perform(prepare(scenario, tmp_path / "out"), report=False, console=Console(quiet=True)).tables
    assert 200 < len(tables.requests) < 700
    assert tables.requests["question_id"].notna().all()
    assert tables.requests["user_id"].notna().all()


def test_a_trace_keeps_its_lengths(tmp_path, data):
    """Legs have the trace's token counts, whatever expert they go to, and answers are still judged."""
    path = data / "traces" / "AzureLLMInferenceTrace_conv_2023.csv.gz"
    trace = f'load={{process="trace", format="azure", path="{path}", rate_scale=0.05}}'
    result = perform(
        prepare(load("testbed", [*CHANGES, trace]), tmp_path / "out"), report=False, console=Console(quiet=True)
    )
    legs = result.tables.legs[result.tables.legs["request_id"] == 0]
    assert set(legs["prompt_tokens"]) == {374}
    assert set(legs["output_tokens"]) == {44}
    assert result.tables.requests["correct"].notna().any()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{process="mmpp", states=[{requests_per_s=0.1, mean_s=60.0}]}', "should have at least 2 entries"),
        ('{process="diurnal", requests_per_s=0.1, shape=[]}', "should have at least one entry"),
    ],
)
def test_a_list_that_is_too_short_is_told_how_long_it_has_to_be(given, told):
    """As many entries as the load needs, and no other number."""
    with pytest.raises(ValueError, match=told):
        load("testbed", [f"load={given}"])
