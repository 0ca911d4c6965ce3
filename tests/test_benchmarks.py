"""Benchmarks can be run: `make bench` takes minutes, and what nothing runs breaks unseen."""

import importlib
import pkgutil

import pytest

import benchmarks
from benchmarks import sweep

NAMES = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.ispkg]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__main__"])
def test_a_benchmark_has_what_make_bench_calls(name):
    """Every module of the folder loads and has a `main`."""
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_the_command_of_the_sweep_s_benchmark_is_one_that_moe2_takes(tmp_path, monkeypatch):
    """With one short point in place of sixty it ends well, and its tables are there."""
    short = {"k=1,2,3,4": "k=1", "load.requests_per_s=0.02..0.3:0.02": "load.requests_per_s=0.1"}
    few = {"duration_s=600.0": "duration_s=120.0", "replications=5": "replications=2"}
    few["verdicts.max_replications=5"] = "verdicts.max_replications=2"
    monkeypatch.setattr(sweep, "WORDS", [(short | few).get(word, word) for word in sweep.WORDS])
    sweep.wall_s(tmp_path / "sweep")
    assert (tmp_path / "sweep" / "sweep.json").exists()
