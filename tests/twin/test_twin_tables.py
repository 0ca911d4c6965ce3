"""Tables and metrics: the contract's columns, the same bytes for the same seed, each metric by hand."""

from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from twin_plant import FixedRouter, expert, profile, prompt_pool, requests_at, run_all

from twin.gateway.routing import routed_legs
from twin.network import Network
from twin.records import metrics
from twin.records.tables import SCHEMAS, Tables, being_written, joined, read_tables, tabulate, write_tables
from twin.users.load import poisson_requests
from twin.world import simulate

ENERGY = {"prefill_j": (0.3, 0.1, 1e-3), "decode_j": (0.7, 0.2, 1e-3)}


def routed(seed: int, replication: int = 0, kv_capacity_tokens: int = 10, **costs) -> Tables:
    """Return the tables of a small routed run in which some requests are rejected."""
    pool, router = prompt_pool(), FixedRouter(1, 0)
    requests = poisson_requests(
        requests_per_s=4.0, n_users=3, duration_s=30.0, pool=pool, rows=np.arange(40), seed=seed
    )
    noisy = profile(residuals=((0.1, -0.1), (0.2, -0.2)), **{**ENERGY, **costs})
    run = simulate(
        experts=[expert(noisy, name=name, noise=True, kv_capacity_tokens=kv_capacity_tokens) for name in "ab"],
        requests=requests,
        legs=routed_legs(requests, router, pool),
        network=Network(access_delay_s=0.02, lan_delay_s=0.0005),
        duration_s=30.0,
        drain_cap_s=10.0,
        seed=seed,
    )
    return tabulate(run, replication=replication, pool=pool, router=router)


def digests(tables: Tables, folder) -> list[str]:
    folder.mkdir()
    write_tables(tables, folder)
    return [sha256((folder / f"{name}.parquet").read_bytes()).hexdigest() for name in SCHEMAS]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    """A run is a pure function of its arguments, down to the files."""
    one, again, other = (digests(routed(seed), tmp_path / f"{i}") for i, seed in enumerate((7, 7, 8)))
    assert one == again
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_tables_have_the_columns_and_types_of_the_contract_and_come_back_as_they_were(tmp_path):
    """What is missing is null in the file, whether or not anything is known, and a round trip changes no value."""
    unknown = tabulate(run_all(requests_at([0.0], [5], [5], ids=["x"]), expert(profile(prefill_j=None))))
    for i, tables in enumerate((joined([routed(1), routed(2, replication=1)]), unknown)):
        digests(tables, tmp_path / f"{i}")
        back = read_tables(tmp_path / f"{i}")
        for name, columns in SCHEMAS.items():
            written = getattr(tables, name)
            words = {c: written[c].astype(object).replace({np.nan: None}) for c in written.select_dtypes("category")}
            pd.testing.assert_frame_equal(getattr(back, name), written.assign(**words))
            schema = pq.read_schema(tmp_path / f"{i}" / f"{name}.parquet")
            assert schema.names == list(columns)
            found = {column: schema.field(column).type for column, kind in columns.items() if kind}
            assert found == {column: kind for column, kind in columns.items() if kind}
    nulls = pq.read_table(tmp_path / "1" / "legs.parquet")
    assert nulls["energy_j"].null_count == nulls["reason"].null_count == 1


def test_requests_join_their_legs():
    """n_legs, energy, status and finish of a request follow from its legs; the way back is the way there."""
    tables = routed(3)
    requests, legs = tables.requests.set_index("request_id"), tables.legs.groupby("request_id")
    assert set(requests.status) == {"served", "rejected", "unfinished"}
    assert (requests.n_legs == 2).all()
    np.testing.assert_allclose(requests.energy_j, legs.energy_j.sum(), rtol=1e-12)
    assert ((requests.status == "served") == (legs.status.agg(set) == {"served"})).all()
    served = requests[requests.status == "served"]
    np.testing.assert_allclose(served.finished_s, legs.finished_s.max()[served.index] + 0.0205, rtol=1e-12)
    first = tables.legs.drop_duplicates("request_id").set_index("request_id")
    np.testing.assert_array_equal(first.arrived_s, requests.arrived_s + 0.02 + 0.0005)
    assert requests.finished_s[requests.status != "served"].isna().all()


def test_answers_are_letters_of_served_requests_only():
    """The router's option k is the k-th letter; a request that was not served has neither answer nor correctness."""
    requests = routed(3).requests
    served = requests.status == "served"
    prompt = requests.question_id - 1000
    assert requests.answer[served].tolist() == ["ABCD"[p % 4] for p in prompt[served]]
    assert requests.correct[served].tolist() == [p % 2 == 0 for p in prompt[served]]
    assert requests[["answer", "correct"]][~served].isna().all(axis=None)


def table(finished_s, *, arrived_s=0.0, correct=None, energy_j=1.0) -> pd.DataFrame:
    """Return a requests table with the given finishes, NaN for rejected ones."""
    n = len(finished_s)
    status = np.where(np.isnan(finished_s), "rejected", "served")
    return pd.DataFrame(
        {
            "category": ["law", "maths"] * (n // 2) + ["law"] * (n % 2),
            "arrived_s": np.full(n, arrived_s),
            "finished_s": finished_s,
            "correct": pd.array(correct or [None] * n, dtype="boolean"),
            "energy_j": np.full(n, energy_j),
            "status": status,
        }
    )


def test_refusing_work_never_helps_a_percentile():
    """Rejected requests count as +inf: 10 % of them leave p50 alone and make p95 infinite; a mean ignores them."""
    requests = table([*np.arange(1.0, 91.0), *[np.nan] * 10])
    assert metrics.delay_percentile_s(requests, 50) == 50.0
    assert metrics.delay_percentile_s(requests, 90) == 90.0
    assert metrics.delay_percentile_s(requests, 95) == np.inf
    assert metrics.mean_delay_s(requests) == 45.5
    assert metrics.served_share(requests) == 0.9


def test_a_percentile_is_one_of_the_values_by_its_rank():
    """Of 100 values 1 … 100, the p-th percentile is p (nearest rank)."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert [metrics.percentile(values, p) for p in range(1, 101)] == list(range(1, 101))
    with pytest.raises(ValueError, match="percentile 0"):
        metrics.percentile(values, 0)


def test_warmup_is_cut_by_arrival():
    """A request that arrives at the end of warm-up counts."""
    requests = pd.concat([table([9.0], arrived_s=a) for a in (0.0, 4.9, 5.0, 6.0)])
    assert metrics.delays_s(metrics.after_warmup(requests, 5.0)).tolist() == [4.0, 3.0]


def test_accuracy_is_of_answers_whose_correctness_is_known():
    """Unknown is left out, wrong is not; nothing known gives NaN."""
    assert metrics.accuracy(table([1.0] * 4, correct=[True, False, None, True])) == pytest.approx(2 / 3)
    assert np.isnan(metrics.accuracy(table([1.0])))


def test_energy_per_request_is_all_joules_over_served_requests():
    """Idle joules count, rejected requests do not share them, an unknown device makes it unknown and is named."""
    requests = table([1.0, 2.0, np.nan, 3.0])
    devices = pd.DataFrame({"device": ["a", "b"], "energy_j": [100.0, 50.0]})
    assert metrics.energy_per_request_j(requests, devices) == 50.0
    assert metrics.leg_energy_per_request_j(requests) == pytest.approx(4 / 3)
    assert metrics.energy_per_request_j(table([np.nan]), devices) == np.inf
    devices.loc[1, "energy_j"] = np.nan
    assert metrics.energy_per_request_j(requests, devices) is None
    assert metrics.unmetered_devices(devices) == ["b"]
    assert metrics.leg_energy_per_request_j(table([1.0], energy_j=np.nan)) is None


def test_categories_and_devices_add_up_to_the_whole():
    """Requests by category, joules and legs by device sum to the totals of all replications."""
    tables = joined([routed(1), routed(2, replication=1)])
    categories = metrics.by_category(tables.requests)
    assert categories.category.tolist() == ["law", "maths"]
    assert categories.n_requests.sum() == len(tables.requests)
    assert categories.columns.tolist()[1:] == list(metrics.request_metrics(tables.requests))
    devices = metrics.by_device(tables.devices, tables.legs)
    assert devices.device.tolist() == ["device of a", "device of b"]
    assert devices.n_legs.sum() == (tables.legs.status == "served").sum()
    assert devices.energy_j.sum() == pytest.approx(tables.devices.energy_j.sum(), rel=1e-12)
    assert metrics.by_device(routed(1, prefill_j=None).devices, tables.legs).energy_j.isna().all()


def test_metrics_by_category_are_those_of_each_part():
    """Each category's metrics in each replication are those of its rows alone, in whatever order the rows stand."""
    requests = joined([routed(1), routed(2, replication=1)]).requests.sample(frac=1.0, random_state=3)
    found = metrics.category_metrics(requests)
    assert list(found) == ["law", "maths"]
    for category, each in found.items():
        assert list(each) == [0, 1]
        for number, measured in each.items():
            rows = requests[(requests["category"] == category) & (requests["replication"] == number)]
            assert measured == metrics.request_metrics(rows)


def test_statistics_of_nothing_are_nan_and_of_no_legs_null():
    """A statistic of nothing is NaN, never 0."""
    none = table([1.0]).iloc[:0]
    assert all(np.isnan(v) for k, v in metrics.request_metrics(none).items() if k != "n_requests")


def test_replications_joined_and_taken_apart_again_are_as_they_were():
    """Joining tables and yielding their replications gives every value back, whatever words each of them has."""
    parts = [routed(1), routed(2, replication=1, kv_capacity_tokens=3), routed(3, replication=2)]
    whole = joined(parts)
    assert isinstance(whole.legs["reason"].dtype, pd.CategoricalDtype)
    for name in SCHEMAS:
        frame = getattr(whole, name)
        shuffled = frame.sample(frac=1, random_state=1)
        for found in (dict(metrics.replications(frame)), dict(metrics.replications(shuffled))):
            assert list(found) == [0, 1, 2]
            for i, part in enumerate(parts):
                mine = found[i].sort_index().reset_index(drop=True)
                expected = getattr(part, name)
                assert mine.astype(object).equals(expected.astype(object))


def test_a_table_that_cannot_be_written_is_an_error(tmp_path):
    """What a writing thread meets is raised where the tables are whole: not lost, and after what is done meanwhile."""
    done = []
    with pytest.raises(FileNotFoundError), being_written(routed(1), tmp_path / "missing"):
        done.append("meanwhile")
    assert done == ["meanwhile"]
