"""Laws of comparing two runs: what is equal differs by nothing, a stretch is found as itself, and absence is said."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_tables import tables_of

from scenarios.comparing.comparison import compare
from scenarios.comparing.sides import pair
from scenarios.comparing.tolerances import Tolerance
from twin.records.tables import Tables


def figures(comparison, quantity, scope="overall", group=""):
    table = comparison.table
    rows = table[(table["scope"] == scope) & (table["quantity"] == quantity) & (table["group"] == group)]
    return rows.set_index("statistic")["difference"]


def test_a_run_differs_from_itself_by_nothing():
    """Every difference of a run to itself is 0, every interval is 0 wide, every tolerance of 0 is kept."""
    tables = tables_of(seed=1)
    limits = [
        Tolerance(scope="overall", quantity="e2e", statistic="p95", limit=0.0),
        Tolerance(scope="overall", quantity="leg_counts", statistic="", limit=0.0),
    ]
    found = compare(tables, tables, limits)
    assert found.table["difference"].abs().max() == 0.0
    assert found.table["difference"].notna().all()
    assert found.table[["low", "high"]].fillna(0.0).to_numpy().any() == np.False_
    assert found.exit_status == 0
    assert all(finding.status == "kept" for finding in found.findings)


@settings(max_examples=10, deadline=None)
@given(stretch=st.floats(0.5, 2.0), seed=st.integers(0, 99))
def test_a_stretch_of_all_times_is_every_error(stretch, seed):
    """Every duration times c: errors of mean and percentiles are c - 1, so is each request's, Wasserstein |c - 1|."""
    found = compare(tables_of(seed=seed), tables_of(seed=seed, stretch=stretch))
    for quantity in ("ttft", "tpot", "leg", "e2e"):
        errors = figures(found, quantity)
        assert errors[["mean", "p50", "p95", "p99"]].to_numpy() == pytest.approx(stretch - 1, abs=1e-6)
        assert errors[["wasserstein", "per_request"]].to_numpy() == pytest.approx(abs(stretch - 1), abs=1e-6)
    overall = found.table[(found.table["quantity"] == "e2e") & (found.table["statistic"] == "mean")].iloc[0]
    assert overall["low"] - 1e-6 <= stretch - 1 <= overall["high"] + 1e-6


def test_distances_are_those_of_the_empirical_distributions():
    """KS is the largest gap of the two distribution functions, Wasserstein the area between them over the mean."""
    real, twin = tables_of(seed=3), tables_of(seed=3, jitter=0.3)
    found = figures(compare(real, twin), "leg")
    x, y = ((t.legs["finished_s"] - t.legs["arrived_s"]).to_numpy() for t in (real, twin))
    grid = np.sort(np.concatenate([x, y]))
    gaps = np.abs((x <= grid[:, None]).mean(axis=1) - (y <= grid[:, None]).mean(axis=1))
    assert found["ks"] == pytest.approx(gaps.max())
    assert found["wasserstein"] == pytest.approx(float(np.sum(gaps[:-1] * np.diff(grid))) / x.mean())


def test_the_order_of_rows_does_not_matter():
    """Rows are matched by their ids: shuffled tables give the same differences."""
    real, twin = tables_of(seed=4), tables_of(seed=4, jitter=0.2)
    shuffled = Tables(
        requests=twin.requests.sample(frac=1, random_state=1),
        legs=twin.legs.sample(frac=1, random_state=2),
        devices=twin.devices,
    )
    pd.testing.assert_frame_equal(compare(real, shuffled).table, compare(real, twin).table)


def test_ids_that_are_text_on_one_side_are_matched_as_text():
    """An importer may have had to read ids as text."""
    real, twin = tables_of(seed=5), tables_of(seed=5)
    as_text = Tables(
        requests=twin.requests.astype({"request_id": str}).astype({"request_id": object}),
        legs=twin.legs.astype({"request_id": str}).astype({"request_id": object}),
        devices=twin.devices,
    )
    assert len(pair(real, as_text).requests) == len(real.requests)
    assert compare(real, as_text).table["difference"].abs().max() == 0.0


def test_of_a_leg_tried_again_the_last_attempt_counts():
    """A failed first attempt beside a served second one is one served leg."""
    real = tables_of(seed=6)
    first = real.legs.head(5).assign(status="failed", reason="timeout", finished_s=np.nan)
    tried = Tables(
        requests=real.requests,
        legs=pd.concat([first, real.legs.head(5).assign(attempt=2), real.legs.iloc[5:]], ignore_index=True),
        devices=real.devices,
    )
    pairs = pair(tried, real)
    assert len(pairs.legs) == len(real.legs)
    assert (pairs.legs["status_real"] == "served").all()


def test_counts_are_exact_and_by_replication():
    """One more failed request is named; one more here and one fewer there do not make up for each other."""
    real, twin = tables_of(seed=7, replications=2), tables_of(seed=7, replications=2)
    twin.requests.loc[0, "status"] = "failed"
    found = compare(real, twin)
    assert found.exit_status == 1
    exceeded = [finding.words for finding in found.findings if finding.status == "exceeded"]
    assert exceeded == [
        "counts of status 'failed': 0 measured, 1 simulated, 1 apart, beyond the tolerance 0",
        f"counts of status 'served': {len(real.requests)} measured, {len(real.requests) - 1} simulated, 1 apart, "
        "beyond the tolerance 0",
    ]
    real.requests.loc[len(real.requests) - 1, "status"] = "failed"  # of the other replication
    swapped = compare(real, twin)
    assert figures(swapped, "counts").to_dict() == {"failed": 2.0, "served": 2.0}
    assert swapped.exit_status == 1


def test_an_unanswered_request_is_infinitely_late():
    """E2E percentiles count it as +∞ (as budgets do); means and distances are of those served on both sides."""
    real, twin = tables_of(seed=8), tables_of(seed=8)
    lost = twin.requests.index[:20]
    twin.requests.loc[lost, ["status", "finished_s"]] = ["failed", np.nan]
    found = compare(real, twin)
    errors = figures(found, "e2e")
    assert errors["p99"] == np.inf
    assert errors["mean"] == 0.0
    assert errors["wasserstein"] == 0.0
    assert found.as_json()["differences"][0]["quantity"] == "ttft"
    assert "Infinity" not in json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize("side", ["real", "twin"])
def test_what_a_side_does_not_know_is_said_and_never_zero(side):
    """Without a meter every energy difference is unknown, with the side and the device; its tolerance is not kept."""
    both = {"real": tables_of(seed=9), "twin": tables_of(seed=9)}
    dark = both[side]
    both[side] = Tables(
        requests=dark.requests.assign(energy_j=np.nan),
        legs=dark.legs.assign(energy_j=np.nan),
        devices=dark.devices.assign(energy_j=np.nan),
    )
    limits = [Tolerance(scope="overall", quantity="energy_total", statistic="per_request", limit=0.5)]
    found = compare(both["real"], both["twin"], limits)
    energies = found.table[found.table["quantity"].isin(["energy", "energy_total"])]
    assert energies["difference"].isna().all()
    assert energies["note"].str.contains(side.upper()).all()
    assert found.exit_status == 3
    assert found.findings[0].words == (
        f"energy_total.per_request: not judged, {side.upper()} does not know the energy of a, b"
    )


def test_load_levels_count_the_others_at_the_server():
    """Of legs that arrive 1 s apart and stay 2.5 s, the first meets none, the second one, all later ones two."""
    n = 40
    legs = pd.DataFrame({"request_id": np.arange(n), "arrived_s": np.arange(n) * 1.0, "finished_s": np.arange(n) + 2.5})
    tables = tables_of(seed=0, legs=legs)
    levels = pair(tables, tables).legs["level"].tolist()
    assert levels == ["0", "1", *["2-3"] * (n - 2)]
    found = compare(tables, tables, [Tolerance(scope="by_load", quantity="leg", statistic="mean", limit=0.1)])
    assert [f.words.split(":")[0] for f in found.findings] == ["by_load.leg.mean of 2-3"]  # the others are too few


def test_a_leg_that_failed_is_not_at_the_server_for_good():
    """Legs 10 s apart meet nobody, though the first five failed, or were rejected, and have no end."""
    n = 40
    legs = pd.DataFrame({"request_id": np.arange(n), "arrived_s": 10.0 * np.arange(n)})
    legs["finished_s"] = (legs["arrived_s"] + 2.5).where(legs.index >= 5)
    legs["status"] = np.where(legs.index >= 5, "served", np.where(legs.index % 2, "failed", "rejected"))
    tables = tables_of(seed=0, legs=legs.assign(reason=np.where(legs.index >= 5, None, "crash")))
    assert set(pair(tables, tables).legs["level"]) == {"0"}
    tables.legs.loc[0, ["status", "reason"]] = ["unfinished", None]
    assert pair(tables, tables).legs["level"].tolist() == ["0", *["1"] * (n - 1)]
