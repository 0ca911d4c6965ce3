"""Benchmarks can be run: `make bench` takes minutes, and what nothing runs breaks unseen."""

import importlib

import pytest

from benchmarks import sweep
from benchmarks.__main__ import benchmarks


@pytest.mark.parametrize("name", benchmarks())
def test_a_benchmark_loads_and_has_a_main(name):
    """What `make bench` starts is there, whatever was renamed beside it."""
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_the_command_of_the_sweep_s_benchmark_is_one_that_moe2_takes(tmp_path, monkeypatch):
    """With one short point in place of sixty it ends well, and its tables are there."""
    short = {"k=1,2,3,4": "k=1", "load.requests_per_s=0.02..0.3:0.02": "load.requests_per_s=0.1"}
    few = {"duration_s=600.0": "duration_s=120.0", "replications=5": "replications=2"}
    few["verdicts.max_replications=5"] = "verdicts.max_replications=2"
    monkeypatch.setattr(sweep, "WORDS", [(short | few).get(word, word) for word in sweep.WORDS])
    sweep.wall_s(tmp_path / "sweep")
    assert (tmp_path / "sweep" / "sweep.json").exists()
