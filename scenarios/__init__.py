"""What-if questions: scenario files, replications, verdicts, reports and the command line.

From Python: `load` a scenario, `run` it, `sweep` over a grid, `plan`; all give pandas tables.

>>> from scenarios import load, run, sweep
>>> short = load("testbed", ["duration_s=300.0", "warmup_s=0.0", "replications=2", "verdicts.max_replications=2"])
>>> result = run(load(short, ["router.k=1"]))
>>> sorted(result.tables.legs["status"].unique())
['served']
>>> result.judged.columns[:5].tolist()
['metric', 'label', 'budget', 'unit', 'estimate']
>>> sweep(short, vary={"k": [1, 2]}).points["router.k"].tolist()
[1, 2]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.files.loading import Scenario, bundled_scenarios, load
    from scenarios.plans.planning import Plan, plan
    from scenarios.runs.result import Result, run
    from scenarios.sweeps.swept import Swept, sweep

__all__ = ["Plan", "Result", "Scenario", "Swept", "bundled_scenarios", "load", "plan", "run", "sweep"]

_HOMES = {
    "Scenario": "files.loading",
    "bundled_scenarios": "files.loading",
    "load": "files.loading",
    "Plan": "plans.planning",
    "plan": "plans.planning",
    "Result": "runs.result",
    "run": "runs.result",
    "Swept": "sweeps.swept",
    "sweep": "sweeps.swept",
}


def __getattr__(name: str) -> Any:
    # Names are looked up when they are used, so that the command line does not load what a command does not need.
    if name not in _HOMES:
        raise AttributeError(f"module 'scenarios' has no attribute {name!r}")
    return getattr(import_module(f"scenarios.{_HOMES[name]}"), name)
