"""A sweep on a real Dask cluster loses no point when a worker dies."""

import os
import signal
import threading
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.scenarios.sweep_plant import app, write_small

distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # what Dask says when a worker is shot is not this project's


def swept(*args):
    return CliRunner().invoke(app, ["sweep", *(str(a) for a in args), "--no-figures"])


def kill_in_the_middle(pid, cache):
    """Kill a process once the cache holds a few points."""
    while len(list(cache.glob("*.json"))) < 4:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)


def test_every_point_is_there_when_a_worker_dies(tmp_path, monkeypatch):
    """Two worker processes, one killed in the middle: all points, and the same bytes as without Dask."""
    small = write_small(tmp_path / "in", n_requests=20)
    vary = ("--vary", "seed=1..12")
    monkeypatch.setattr("scenarios.sweeps.backends.ANSWERS_WITHIN", "60s")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        killer = threading.Thread(target=kill_in_the_middle, args=(victim, tmp_path / "dask" / "cache"), daemon=True)
        killer.start()
        there = ("--backend", "dask", "--scheduler", cluster.scheduler_address)
        found = swept(small, *vary, "--out", tmp_path / "dask", *there)
        killer.join(60)
    assert found.exit_code == 0, found.output
    assert not killer.is_alive()
    assert len(pd.read_parquet(tmp_path / "dask" / "points.parquet")) == 12
    assert swept(small, *vary, "--out", tmp_path / "here", "--jobs", 1).exit_code == 0
    for name in ("sweep.parquet", "replications.parquet"):
        assert (tmp_path / "dask" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_scheduler_that_does_not_answer_is_bad_input(tmp_path, monkeypatch):
    """Exit 2 and one message that names the address."""
    monkeypatch.setattr("scenarios.sweeps.backends.ANSWERS_WITHIN", "1s")
    small = write_small(tmp_path / "in")
    words = ("--backend", "dask", "--scheduler", "tcp://127.0.0.1:9")
    found = swept(small, "--vary", "seed=1", "--out", tmp_path / "s", *words)
    assert found.exit_code == 2
    assert "tcp://127.0.0.1:9" in " ".join(found.output.split())
