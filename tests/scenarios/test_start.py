"""What a run loads before it begins: for a short one that is nearly all of its time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import json, sys
from pathlib import Path
from scenarios.start import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, 1, 3), end.code
Path(sys.argv[sys.argv.index("--out") + 1], "loaded.json").write_text(json.dumps(sorted(sys.modules)))
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
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return what the second of two short runs with a radio has loaded; the first may compile."""
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
    return set(json.loads(Path(out, "loaded.json").read_text()))


def test_a_run_without_report_loads_what_it_needs(loaded: set[str]) -> None:
    """It simulates with the radio and compiled code, and loads no library that draws, trains, solves or compiles."""
    assert {"twin.engines.kernel", "twin.radio.attachment", "llvmlite.binding"} <= loaded
    assert loaded.intersection(NEVER) == set()
