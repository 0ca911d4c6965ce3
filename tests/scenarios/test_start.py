"""What a run loads before it begins: for a short one that is nearly all of its time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = """
import gc, json, sys
from pathlib import Path
from scenarios.start import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, 1, 3), end.code
found = {"loaded": sorted(sys.modules), "collected": gc.get_stats()[2]["collections"], "frozen": gc.get_freeze_count()}
Path(sys.argv[sys.argv.index("--out") + 1], "found.json").write_text(json.dumps(found))
"""

NEVER = [
    *("matplotlib", "seaborn", "plotly", "jinja2"),  # drawing
    *("dask", "distributed", "joblib"),  # several processes
    *("torch", "sklearn", "transformers", "sentence_transformers"),  # training and encoding
    *("scipy.optimize", "scipy.stats", "highspy"),  # fitting and solving
    *("numba", "simpy"),  # what compiles, once; worlds that answer back
    *("httpx", "pynvml", "gguf"),  # devices
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the second of two short runs with a radio did to start and end; the first may compile."""
    out = tmp_path_factory.mktemp("start") / "run"
    changes = [
        "replications=1",
        "verdicts.max_replications=1",
        "duration_s=20",
        "warmup_s=0",
        'verdicts.inputs="nominal"',
        "network.access_points.grid=[2, 2]",
    ]
    options = [part for change in changes for part in ("--set", change)]
    for _ in range(2):
        command = [sys.executable, "-c", RUN, "run", "testbed", "--out", out, "--no-report", "--quiet", *options]
        subprocess.run(command, check=True, capture_output=True)
    told: dict[str, Any] = json.loads(Path(out, "found.json").read_text())
    return told


def test_a_run_without_report_loads_what_it_needs(found: dict[str, Any]) -> None:
    """It simulates with the radio and compiled code, and loads no library that draws, trains, solves or compiles."""
    loaded = set(found["loaded"])
    assert {"twin.engines.kernel.server", "twin.radio.attachment", "llvmlite.binding"} <= loaded
    assert loaded.intersection(NEVER) == set()


def test_nothing_loaded_is_looked_through_for_garbage(found: dict[str, Any]) -> None:
    """A short run never looks through all its objects for garbage, and leaves none for the interpreter's end to do."""
    assert found["collected"] == 0
    assert found["frozen"] > 100_000  # nearly all there are
