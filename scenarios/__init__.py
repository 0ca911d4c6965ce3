"""What-if questions: scenario files, replications, verdicts, reports and the command line.

From Python: `load` a scenario, `run` it, and read pandas tables.

>>> from scenarios import load, run
>>> result = run(load("testbed", ["duration_s=300.0", "warmup_s=0.0", "replications=2", "router.k=1"]))
>>> sorted(result.tables.legs["status"].unique())
['served']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.files.loading import Scenario, bundled_scenarios, load
    from scenarios.runs.result import Result, run

__all__ = ["Result", "Scenario", "bundled_scenarios", "load", "run"]

_HOMES = {
    "Scenario": "files.loading",
    "bundled_scenarios": "files.loading",
    "load": "files.loading",
    "Result": "runs.result",
    "run": "runs.result",
}


def __getattr__(name: str) -> Any:
    # Names are looked up when they are used, so that the command line does not load what a command does not need.
    if name not in _HOMES:
        raise AttributeError(f"module 'scenarios' has no attribute {name!r}")
    return getattr(import_module(f"scenarios.{_HOMES[name]}"), name)
