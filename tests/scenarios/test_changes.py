"""Laws of changed keys: what is changed is read, and who is to blame for what is wrong is named."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import run
from scenarios.files.keys import keys_of
from scenarios.files.loading import load, unread
from scenarios.files.schema import ScenarioFile
from scenarios.sweeps.sweeping import prepare_sweep
from tests.scenarios.sweep_plant import write_small

PER_USER = 'load={process="poisson", requests_per_s_per_user=0.001}'
TOTAL = "load.requests_per_s=0.2"
WAITING = 'load={process="closed_loop", think_s=60.0}'


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([TOTAL, "users.count=500"], r"load.requests_per_s = 0.2 is the rate of all users together; change that"),
        ([TOTAL, "users={count=500}"], "load.requests_per_s"),
        (["users.pause_s=[1.0, 2.0]"], "no access points; add network.access_points"),
        (["experts[0].token_budget=64"], r'experts\[0\].scheduler is "prefill_first"; it goes with "chunked"'),
        (["experts[7].block_tokens=8"], r'experts\[7\].kv is "reserve"; it goes with "paged"'),
        (["experts[1].load_model_s=9.0"], r"experts\[1\].load_model_at_start=true or a crash"),
        (["budgets.served_share=0.5"], 'it goes with "mean"'),
        (["gateway.retry=same"], "gateway.max_attempts is 1"),
        (['faults.devices=["orin-a"]'], "give faults.mtbf_s or faults.lan_mtbf_s"),
        (['load={process="gamma", requests_per_s=0.2, cv=2.0}', "users.count=5"], "load.requests_per_s says how much"),
    ],
)
def test_a_change_that_would_change_nothing_is_refused(changes, why):
    """The message names the change, and the key that is read in its place."""
    with pytest.raises(ValueError, match=rf"^--set .*nothing in 'testbed' reads .*{why}"):
        load("testbed", changes)


@pytest.mark.parametrize("short", ["k=2", "lan_delay_s=0.01", "energy_j_per_request=9.0", "seed=5"])
def test_a_short_key_stands_for_the_one_key_that_ends_in_it(short):
    """What `--set` takes by a short name is what it takes by the whole one."""
    key, _, value = short.partition("=")
    whole = next(k for k in keys_of(load("testbed").file) if k.rpartition(".")[2] == key)
    assert load("testbed", [short]).file == load("testbed", [f"{whole}={value}"]).file != load("testbed").file


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("max_batch=2", r"max_batch could be experts\[0\].max_batch, experts\[1\].max_batch"),
        ("lan_delay=2", r"no key of the scenario is or ends in lan_delay \(did you mean 'lan_delay_s'\?\)"),
        ("pause_s=[1.0, 2.0]", "nothing in 'testbed' reads users.pause_s"),
    ],
)
def test_a_short_key_of_several_or_none_is_refused(change, why):
    """The message says which keys it could be, or which is near; on a sweep too."""
    with pytest.raises(ValueError, match=rf"^--set .*{why}"):
        load("testbed", [change])
    with pytest.raises(ValueError, match=rf"^--set .*{why}"):
        prepare_sweep("testbed", ["router.k=1,2"], [change], engine="compiled")


@pytest.mark.parametrize(
    "changes",
    [
        [PER_USER, "users.count=500"],
        [WAITING, "users.count=500"],
        ["experts[0].scheduler=chunked", "experts[0].token_budget=64"],
        ["experts[0].token_budget=64", "experts[0].scheduler=chunked"],  # in any order
        ["experts[0].kv=paged", "experts[0].block_tokens=8"],
        ["experts[0].load_model_at_start=true", "experts[0].load_model_s=9.0", "experts[0].load_model_j=9.0"],
        ["faults={mtbf_s=900.0, mean_repair_s=60.0}", 'faults.devices=["orin-a"]', "experts[3].load_model_s=9.0"],
        ["gateway.max_attempts=2", "gateway.retry=same"],
        ["budgets.delay_statistic=mean", "budgets.served_share=0.5"],
        ["network.access_points={grid=[2, 2]}", "users.count=50"],
    ],
)
def test_a_change_that_is_read_is_taken(changes):
    """The same keys where something reads them."""
    load("testbed", changes)


def test_what_is_said_to_be_unread_changes_no_figure():
    """Of a scenario that sets every such key otherwise, in its own text, the tables have the same figures."""
    short = [
        "duration_s=200.0",
        "verdicts.inputs=nominal",
        "warmup_s=0.0",
        "replications=1",
        "verdicts.max_replications=1",
        TOTAL,
    ]
    given = load("testbed", short)
    data = given.file.model_dump(exclude_unset=True)
    data["users"] = {"count": 240, "pause_s": [1.0, 2.0], "speed_m_per_s": [3.0, 4.0]}
    data["gateway"] = {"retry": "same"}
    data["budgets"] = {**data["budgets"], "served_share": 0.1}
    data["faults"] = {"devices": ["orin-a"]}
    for expert in data["experts"]:
        expert |= {"token_budget": 3, "block_tokens": 5, "load_model_s": 7.0, "load_model_j": 8.0}
    other = type(given)(file=ScenarioFile.model_validate(data), source=given.source, folder=given.folder)
    said = [key for key in keys_of(other.file) if unread(other, key)]
    assert {key.rpartition(".")[2] for key in said} >= {
        *("count", "pause_s", "speed_m_per_s", "retry", "served_share", "devices"),
        *("token_budget", "block_tokens", "load_model_s", "load_model_j"),
    }
    one, two = run(given).tables, run(other).tables
    for name in ("legs", "devices", "requests"):  # another engine serves a gateway that has rules
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), rtol=1e-9)


def test_requests_that_name_their_experts_need_no_router(tmp_path):
    """Whether they do is in the file itself: without that column the router is read."""
    small = write_small(tmp_path)
    with pytest.raises(ValueError, match=r"router.k: the requests of requests.csv name their experts"):
        load(small, ["router.k=1"])
    rows = (tmp_path / "requests.csv").read_text().replace(",experts", "").replace(",a\n", "\n")
    (tmp_path / "requests.csv").write_text(rows)
    load(small, ["router.k=1"])


def test_over_a_grid_one_point_that_reads_a_key_is_enough():
    """A key that no point reads is refused, varied or set; one that some points read is a grid like any other."""
    chunks = ["experts[0].scheduler=prefill_first,chunked"]
    prepare_sweep("testbed", [*chunks, "experts[0].token_budget=64,128"], engine="compiled")
    prepare_sweep("testbed", chunks, ["experts[0].token_budget=64"], engine="compiled")
    with pytest.raises(ValueError, match=r"--vary users.count: nothing .* load.requests_per_s"):
        prepare_sweep("testbed", {"users.count": [100, 200]}, [TOTAL], engine="compiled")
    with pytest.raises(ValueError, match=r"--set experts\[0\].token_budget=64: nothing"):
        prepare_sweep("testbed", ["k=1,2"], ["experts[0].token_budget=64"], engine="compiled")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["router.k=0"], "^--set router.k=0: key router.k = 0: should be"),
        (["router.k=1", "network.lan_delay_s=99.0"], "^--set network.lan_delay_s=99.0: key network.lan_delay_s"),
        (["seed=2", "router={kk=1}"], "^--set router={kk=1}: key router.kk is not known"),
        (["warmup_s=1e9"], "^--set warmup_s=1e9: warmup_s = "),
        (["experts[0].max_batch[1]=2"], r"^--set experts\[0\].max_batch\[1\]=2: there is no 1 in 1"),
        (["router[0]=2"], r"^--set router\[0\]=2: there is no 0 in a table"),
    ],
)
def test_the_change_is_blamed_for_what_it_makes_wrong(changes, message):
    """The message begins with the option that is at fault, not with a file that is fine."""
    with pytest.raises(ValueError, match=message):
        load("testbed", changes)


def test_a_file_that_is_wrong_by_itself_is_blamed_whatever_is_set(tmp_path):
    """A change that has nothing to do with it is not named."""
    path = write_small(tmp_path)
    path.write_text(path.read_text().replace("max_batch = 2", "max_batch = 0"))
    with pytest.raises(ValueError, match=r"^.*small.toml: key experts\[0\].max_batch = 0"):
        load(path, ["seed=3"])


def test_every_wrong_key_is_named(tmp_path):
    """One is explained, the others are named: nobody has to start the program once for each."""
    path = write_small(tmp_path)
    path.write_text("colour = 1\n" + path.read_text().replace("[budgets]", "[budgets]\ndelay_ms = 3\nduration_h = 1"))
    with pytest.raises(ValueError, match="is not known") as told:
        load(path)
    assert all(key in str(told.value) for key in ("colour", "budgets.delay_ms", "budgets.duration_h"))


@given(k=st.integers(1, 12))
def test_no_more_experts_are_asked_than_there_are(k):
    """A k up to the number of experts is taken, above it refused with that number."""
    if k <= 8:
        assert load("testbed", [f"router.k={k}"]).file.router.k == k
    else:
        with pytest.raises(ValueError, match=f"router.k = {k}: there are 8 experts, so it should be at most 8"):
            load("testbed", [f"router.k={k}"])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_without_k_three_are_asked_or_all_of_fewer(n):
    """The resolved scenario says how many, so it can be read again."""
    experts = [e.model_dump(exclude_unset=True) for e in load("testbed").file.experts[:n]]
    load_of = {"process": "poisson", "requests_per_s": 0.1}
    file = ScenarioFile.model_validate({"name": "few", "duration_s": 60.0, "load": load_of, "experts": experts})
    assert file.router.k == min(3, n) == ScenarioFile.model_validate(file.model_dump()).router.k


def test_a_folder_given_for_a_scenario_is_told_from_a_file_that_is_not_there(tmp_path):
    """The message says what it is, and names the scenario of a run's folder."""
    with pytest.raises(ValueError, match="this is a folder; name a scenario file in it"):
        load(tmp_path)
    (tmp_path / "scenario.toml").touch()
    with pytest.raises(ValueError, match=r"this is a folder; did you mean .*scenario.toml"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "blamed", "why"),
    [
        (["load.requests_per_s=1e9"], 0, r"load: about 3.9e\+12 requests in one replication"),
        (["router.k=1", "duration_s=1e12"], 1, r"load: about 2e\+11 requests in one replication, at most 50,000,000"),
        ([PER_USER, "users.count=1000000000"], 1, r"load: about 3.9e\+09 requests"),
        ([WAITING, "users.count=2000000"], 0, "users.count = 2000000: should be at most 1,000,000"),
        (['load={process="sessions", sessions_per_s=1e6, turns=2, think_s=1.0}'], 0, r"3.9e\+09 sessions"),
        (["faults={mtbf_s=1e-6, mean_repair_s=1e-6}"], 0, r"faults.mtbf_s: about .* failures"),
        (["faults={lan_mtbf_s=1e-6, mean_lan_outage_s=1e-6}"], 0, r"faults.lan_mtbf_s: about .* failures"),
        (["experts[0].kv_capacity_tokens=99999999999999999999"], 0, "should be less than or equal to 1000000000"),
        (["load.prompt_prefix_tokens=99999999999999999999"], 0, "should be less than or equal to 10000000"),
        (["verdicts.max_replications=99999"], 0, "should be less than or equal to 10000"),
    ],
)
def test_what_no_machine_could_simulate_is_refused(changes, blamed, why):
    """What would fill the memory, or not end, is said before it begins, by the change that makes it so."""
    with pytest.raises(ValueError, match=why) as told:
        load("testbed", changes)
    assert str(told.value).startswith(f"--set {changes[blamed]}")


def test_a_file_of_another_editor_is_read_and_a_key_given_twice_is_named(tmp_path):
    """A byte order mark and carriage returns change nothing; a key that stands twice is told with its line."""
    path = write_small(tmp_path)
    plain = load(path).file
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load(path).file == plain
    path.write_text("seed = 1\nseed = 2\n")
    with pytest.raises(ValueError, match=r"small.toml: not TOML: a key is given twice \(at line 2"):
        load(path)
    with pytest.raises(ValueError, match="'' names no scenario; bundled are: add-a-4090"):
        load("")


def test_one_rate_takes_the_place_of_the_other(tmp_path):
    """A total rate said of a scenario with a rate per user, by a change or a difference, is the rate; and back."""
    path = tmp_path / "busy.toml"
    path.write_text('name = "busy"\nextends = "testbed"\n[load]\nrequests_per_s = 0.5\n')
    for found in (load("testbed", ["load.requests_per_s=0.5"]), load(path)):
        assert (found.file.load.requests_per_s, found.file.load.requests_per_s_per_user) == (0.5, None)
    back = load(path, ["load.requests_per_s_per_user=0.001"]).file.load
    assert (back.requests_per_s, back.requests_per_s_per_user) == (None, 0.001)
    path.write_text(f"{path.read_text()}requests_per_s_per_user = 0.001\n")
    with pytest.raises(ValueError, match="exactly one of"):
        load(path)
