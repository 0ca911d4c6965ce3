"""Tables that no run can have left are refused, each for what is wrong with it; those of a run are not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.scenarios.recorded_tables import tables_of
from twin.records.validity import check_tables

FLAWS = {  # what is said: the table, and how it is changed
    "requests.parquet: arrived_s of row 0 is null": ("requests", {"arrived_s": np.nan}),
    "requests.parquet: status 'fine': must be one of unfinished, served": ("requests", {"status": "fine"}),
    "requests.parquet: no column 'finished_s'": ("requests", "finished_s"),
    "legs.parquet: arrived_s = inf: must be finite": ("legs", {"arrived_s": np.inf}),
    "legs.parquet: started_s = -5: must be finite and at least 0": ("legs", {"started_s": -5.0}),
    "legs.parquet: prompt_tokens = -1: must be finite and at least 0": ("legs", {"prompt_tokens": -1}),
    "legs.parquet: column 'first_token_s' holds object, should be numbers": ("legs", {"first_token_s": "now"}),
    "legs.parquet: row 0: first_token_s = 200 is before started_s = 300": (
        "legs", {"started_s": 300.0, "first_token_s": 200.0, "finished_s": np.nan},
    ),
    "legs.parquet: request_id of row 0 is null": ("legs", {"request_id": None}),
    "legs.parquet: replication of row 0 is null": ("legs", {"replication": np.nan}),
    "legs.parquet has a leg of request 9999, requests.parquet has none": ("legs", {"request_id": 9999}),
    "legs.parquet has legs on device 'c', devices.parquet has none": ("legs", {"device": "c"}),
    "devices.parquet: device of row 0 is null": ("devices", {"device": None}),
}  # fmt: skip


@pytest.mark.parametrize("told", FLAWS)
def test_what_no_run_leaves_is_named(told):
    """The message begins with the folder and says the table, the column and what was found."""
    name, change = FLAWS[told]
    tables = tables_of(seed=1)
    frame: pd.DataFrame = getattr(tables, name)
    changed = frame.drop(columns=change) if isinstance(change, str) else frame.assign(**change)
    with pytest.raises(ValueError, match=r"^somewhere") as refused:
        check_tables(replace(tables, **{name: changed}), "somewhere")
    assert told in str(refused.value)


def test_what_is_missing_is_no_flaw():
    """Null instants, counts and joules are what a recorder was not told; so is a leg that was never sent."""
    tables = tables_of(seed=1, replications=2)
    check_tables(tables, "somewhere")
    unknown = dict.fromkeys(
        ("arrived_s", "started_s", "first_token_s", "finished_s", "output_tokens", "energy_j"), np.nan
    )
    check_tables(replace(tables, legs=tables.legs.assign(**unknown, status="unfinished")), "somewhere")
    check_tables(replace(tables, legs=tables.legs.iloc[:0]), "somewhere")
