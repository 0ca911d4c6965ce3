"""Laws of sweeps: what a point is, what pairs with what, what a cache may return, what a kill may leave behind."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from scenarios.cli import app as main_app
from scenarios.figures.sweep import pareto_front
from scenarios.files.loading import load
from scenarios.sweeps.cache import Cache, digest
from scenarios.sweeps.sweeping import Backend
from scenarios.sweeps.variations import read_variations
from scenarios.verdicts.pairing import paired
from tests.scenarios.sweep_plant import PROFILE, app, write_small

TABLES = ("sweep.parquet", "points.parquet", "replications.parquet", "verdicts.parquet")
SHORT = ("--set", "duration_s=300.0", "--set", "warmup_s=30.0", "--set", "replications=2")


def swept(*args, code=0):
    found = CliRunner().invoke(app, ["sweep", *(str(a) for a in args), "--no-figures"])
    assert found.exit_code == code, found.output
    return found.output


def contents(folder):
    return {name: (folder / name).read_bytes() for name in (*TABLES, "sweep.json")}


@pytest.fixture
def small(tmp_path):
    return write_small(tmp_path / "in")


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("k=1,2,3", "router.k", ("1", "2", "3")),
        ("users.count=100..300:100", "users.count", ("100", "200", "300")),
        ("count=1..3", "users.count", ("1", "2", "3")),
        ("requests_per_s=0.1..0.3:0.1,1", "load.requests_per_s", ("0.1", "0.2", "0.3", "1")),
        ('router.subset=["a","b"],"auto"', "router.subset", ('["a","b"]', '"auto"')),
        ("experts[0].max_batch=1,4", "experts[0].max_batch", ("1", "4")),
    ],
)
def test_a_variation_is_a_key_and_its_values(text, key, values):
    """Ranges include both ends and have no rounding; a short key stands for the only one that ends in it."""
    (found,) = read_variations([text], load("testbed").file)
    assert (found.key, found.values) == (key, values)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (["k"], "write it as key=value"),
        (["k="], "write it as key=value"),
        (["k=1,,2"], "a value between commas is empty"),
        (["k=1,1"], "the value 1 is given twice"),
        (["k=3..1"], "must go up"),
        (["k=1..3:0"], "must go up"),
        (["k=1..x"], "'x' is no number"),
        (["duration_s=1.5..3"], "needs a step"),
        (["max_batch=1,2"], "could be experts"),
        (["kk=1"], "did you mean 'k'"),
        (["router.kk=1"], "router.kk is not known"),
        (["k=1,0"], "at router.k=0: .*router.k = 0"),
        (["k=1", "router.k=2"], "varied twice"),
        (["seed=1..200", "k=1..200"], "at most 10000"),
        (["router.gate=nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_a_wrong_variation_is_refused_in_one_message(tmp_path, vary, message):
    """Exit 2, one message, no traceback, nothing that looks complete."""
    words = [word for text in vary for word in ("--vary", text)]
    output = " ".join(swept("testbed", *words, "--out", tmp_path / "out", "--jobs", 1, code=2).split())
    assert pd.Series([output]).str.contains(message).all(), output
    assert "Traceback" not in output
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_a_point_is_the_run_with_its_values_set(tmp_path):
    """Every figure of a point is that of `moe2 run` with the same keys set."""
    swept("testbed", "--vary", "k=1,2", "--out", tmp_path / "s", "--jobs", 1, *SHORT)
    words = ["run", "testbed", "--out", str(tmp_path / "r"), "--no-report", "--set", "router.k=2", *SHORT]
    CliRunner().invoke(main_app, words)
    run = json.loads((tmp_path / "r" / "summary.json").read_text())
    points = pd.read_parquet(tmp_path / "s" / "points.parquet")
    assert points["router.k"].tolist() == [1, 2]
    at = points.iloc[1]
    assert at["status"] == run["status"]
    assert at["accuracy"] == run["metrics"]["overall"]["accuracy"]["value"]
    assert at["delay_s"] == pytest.approx(float(run["metrics"]["overall"]["delay_p95_s"]["value"]))
    assert at["energy_j_per_request"] == run["metrics"]["energy"]["per_request_j"]["value"]
    assert at["subset"].split("|") == run["subset"]["experts"]
    verdicts = pd.read_parquet(tmp_path / "s" / "verdicts.parquet").query("point == 1")
    assert verdicts["status"].tolist() == [v["status"] for v in run["verdicts"]]
    assert verdicts["budget"].tolist() == [v["budget"] for v in run["verdicts"]]


def test_points_share_their_chance(tmp_path):
    """Requests of a replication are the same ones at every point; the base point's differences are exactly nothing.

    A point may have more replications than another: they are added until its budgets are decided.
    """
    swept("testbed", "--vary", "k=1,2", "--out", tmp_path / "s", "--jobs", 1, *SHORT)
    raw = pd.read_parquet(tmp_path / "s" / "replications.parquet").query("metric == 'n_requests'")
    wide = raw.pivot_table(index=["category", "replication"], columns="point", values="value").dropna()
    assert wide.index.get_level_values("replication").nunique() >= 2
    assert (wide[0] == wide[1]).all()
    table = pd.read_parquet(tmp_path / "s" / "sweep.parquet").query("point == 0 and difference.notna()")
    assert (table[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


@given(st.lists(st.tuples(st.floats(-99, 99), st.floats(-99, 99)), min_size=2, max_size=9))
def test_a_paired_interval_is_that_of_a_paired_t_test(pairs):
    """SciPy's paired t test gives the same interval."""
    x, y = np.array(pairs).T
    found = paired(x.tolist(), y.tolist())
    if np.ptp(x - y) < 1e-6:
        return
    oracle = stats.ttest_rel(x, y).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-6, abs=1e-9)


def test_a_point_without_a_subset_is_a_row_with_its_reason(tmp_path):
    """Where no subset holds, the status is infeasible and the selector's reason is in the row; the rest is there."""
    vary = "budgets.energy_j_per_request=2500.0,1.0"
    output = swept("testbed", "--vary", vary, "--out", tmp_path / "s", "--jobs", 1, *SHORT)
    points = pd.read_parquet(tmp_path / "s" / "points.parquet")
    assert points["status"].tolist()[1] == "infeasible"
    assert "energy_j_per_request is 1 J" in points["reason"].iloc[1]
    assert "infeasible, 1.0: " in output
    rows = pd.read_parquet(tmp_path / "s" / "sweep.parquet").query("point == 1")
    assert len(rows) == 1
    assert rows["value"].isna().all()
    assert pd.read_parquet(tmp_path / "s" / "sweep.parquet").query("point == 0")["value"].notna().any()


def test_processes_change_nothing(small, tmp_path):
    """One process or two, the tables have the same bytes."""
    vary = ("--vary", "experts[0].max_batch=1,2", "--vary", "seed=1,2")
    swept(small, *vary, "--out", tmp_path / "one", "--jobs", 1)
    swept(small, *vary, "--out", tmp_path / "two", "--jobs", 2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_was_measured_is_not_measured_again(small, tmp_path, monkeypatch):
    """A repeated sweep and one that overlaps measure only what is new; a moved folder loses nothing."""
    measured = []
    plain = Backend.outcomes
    monkeypatch.setattr(Backend, "outcomes", lambda self, tasks: (measured.append(len(tasks)), plain(self, tasks))[1])
    first = ("--vary", "seed=1,2", "--jobs", 1)
    swept(small, *first, "--out", tmp_path / "s")
    before = contents(tmp_path / "s")
    swept(small, *first, "--out", tmp_path / "s")
    swept(small, "--vary", "seed=2,1,3", "--jobs", 1, "--out", tmp_path / "s")
    assert measured == [2, 1]
    shutil.move(small.parent, tmp_path / "elsewhere")
    swept(tmp_path / "elsewhere" / "small.toml", *first, "--out", tmp_path / "t", "--cache", tmp_path / "s" / "cache")
    assert measured == [2, 1]
    assert contents(tmp_path / "t") == before


def test_a_damaged_entry_is_measured_again(small, tmp_path):
    """A cache file that is cut short, or of another point, is no result."""
    swept(small, "--vary", "seed=1,2", "--out", tmp_path / "s", "--jobs", 1)
    before = contents(tmp_path / "s")
    (tmp_path / "s" / "sweep.json").unlink()  # else the finished sweep is left as it is
    one, two = sorted((tmp_path / "s" / "cache").iterdir())
    one.write_bytes(two.read_bytes())
    two.write_bytes(two.read_bytes()[:-9])
    swept(small, "--vary", "seed=1,2", "--out", tmp_path / "s", "--jobs", 1)
    assert contents(tmp_path / "s") == before


def test_a_result_is_kept_by_all_it_depends_on(small):
    """Keys, profiles, request files and the engine change the digest; words about the scenario do not."""
    before = digest(load(small), "simpy")
    assert digest(load(small, ["description=other words"]), "simpy") == before
    found = {before, digest(load(small), "other"), digest(load(small, ["seed=6"]), "simpy")}
    (small.parent / "bench.json").write_text(json.dumps({**PROFILE, "idle_w": 2.0}))
    found.add(digest(load(small), "simpy"))
    requests = small.parent / "requests.csv"
    requests.write_text(requests.read_text().replace("law", "math"))
    found.add(digest(load(small), "simpy"))
    assert len(found) == 5


def test_a_cache_gives_back_what_was_put(tmp_path):
    """Numbers come back to the last bit; a key that was never put gives nothing."""
    cache = Cache(folder=tmp_path / "cache")
    cache.put("k", {"values": [0.1 + 0.2, None, "inf"]})
    assert cache.get("k") == {"digest": "k", "values": [0.1 + 0.2, None, "inf"]}
    assert cache.get("j") is None


def test_figures_are_drawn_when_asked_for(small, tmp_path):
    """A response curve per key, a heat map per pair, a Pareto front; asked for later, they come from the cache."""
    words = [str(small), "--vary", "seed=1,2", "--vary", "experts[0].max_batch=1,2", "--jobs", "1"]
    swept(*words, "--out", tmp_path / "s")
    assert not (tmp_path / "s" / "figures").exists()
    assert CliRunner().invoke(app, ["sweep", *words, "--out", str(tmp_path / "s")]).exit_code == 0
    drawn = {p.name for p in (tmp_path / "s" / "figures").iterdir()}
    pair = "heat_seed_experts_0__max_batch.png"
    assert drawn == {"response_seed.png", "response_experts_0__max_batch.png", pair, "pareto.png"}


def test_other_peoples_folders_are_left_alone(small):
    """A folder with files that no sweep wrote is refused."""
    output = swept(small, "--vary", "seed=1", "--out", small.parent, code=2)
    assert "other files in it" in " ".join(output.split())


@pytest.mark.parametrize("n_kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_sweep_resumes_to_the_same_bytes(tmp_path, n_kills):
    """SIGKILL at random moments, then resumed: every table equals that of a sweep left alone, byte for byte."""
    small = write_small(tmp_path / "in", n_requests=60)
    words = [str(small), "--vary", f"seed=1..{4 * n_kills}", "--jobs", "1"]
    command = [sys.executable, "-c", "from tests.scenarios.sweep_plant import app; app()", "sweep", *words]
    command += ["--no-figures", "--out"]
    out, cache = tmp_path / "killed", tmp_path / "killed" / "cache"
    chance = random.Random(n_kills)  # noqa: S311
    for _ in range(n_kills):
        before = len(list(cache.glob("*.json"))) if cache.exists() else 0
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(cache.glob("*.json"))) < before + 1:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.wait()
        if process.returncode == 0:  # else it may have been killed after its last word
            assert (out / "sweep.json").exists()
    subprocess.run([*command, str(out)], check=True, stdout=subprocess.DEVNULL)
    swept(*words, "--out", tmp_path / "alone")
    assert contents(out) == contents(tmp_path / "alone")


DYING = """
import os, signal, sys
from functools import partial
from pathlib import Path
from scenarios.runs.workers import performed

def work(folder, i, n_deaths):
    deaths = len(list(Path(folder).iterdir()))
    if i == 3 and deaths < n_deaths:
        (Path(folder) / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * i

if __name__ == "__main__":
    tasks = [partial(work, sys.argv[1], i, int(sys.argv[2])) for i in range(6)]
    try:
        print(sorted(performed(tasks, 2)))
    except ChildProcessError as error:
        print("refused:", error)
"""


@pytest.mark.parametrize(
    ("n_deaths", "said"),
    [(1, "[(0, 0), (1, 10), (2, 20), (3, 30), (4, 40), (5, 50)]"), (99, "refused: a process was killed")],
)
def test_what_a_killed_worker_did_is_done_again_once(tmp_path, n_deaths, said):
    """Every result is there when a worker is killed; when one is killed again there is one clear message."""
    (tmp_path / "program.py").write_text(DYING)
    (tmp_path / "deaths").mkdir()
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "deaths"), str(n_deaths)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.startswith(said), found.stderr


WORKING = """
import sys, time
from pathlib import Path
from functools import partial
from scenarios.runs.workers import performed

def work(folder):
    import os
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(performed([partial(work, sys.argv[1])] * 2, 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_a_process_that_is_killed(tmp_path):
    """After a SIGKILL of the parent none of its workers is left, though each was in the middle of its work."""
    (tmp_path / "program.py").write_text(WORKING)
    (tmp_path / "pids").mkdir()
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), str(tmp_path / "pids")])
    waits = 0
    while len(list((tmp_path / "pids").iterdir())) < 2:
        assert process.poll() is None
        assert (waits := waits + 1) < 6000
        time.sleep(0.02)
    pids = [int(p.name) for p in (tmp_path / "pids").iterdir()]
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    process.kill()
    process.wait()
    for _ in range(3000):
        if not any(_works(pid) for pid in pids):
            break
        time.sleep(0.02)
    assert not any(_works(pid) for pid in pids)


def _works(pid):
    """Whether a process is there and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@given(
    st.lists(
        st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.4, float("inf"), float("nan")])] * 3), min_size=1, max_size=12
    )
)
def test_the_front_beats_what_is_not_on_it(rows):
    """No point of the front is beaten; every other finite point is beaten by one of the front."""
    table = pd.DataFrame(rows, columns=["accuracy", "delay_s", "energy_j_per_request"])
    front = pareto_front(table)
    costs = table.assign(accuracy=-table["accuracy"]).to_numpy()
    if np.isnan(costs[:, 2]).all():
        costs[:, 2] = 0.0

    def beats(a, b):
        return (a <= b).all() and (a < b).any()

    finite = np.isfinite(costs).all(axis=1)
    for i, cost in enumerate(costs):
        beaten = any(beats(other, cost) for other in costs[front])
        assert front[i] == (finite[i] and not beaten)
