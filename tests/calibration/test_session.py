"""Laws of sessions: cells are recorded once, whole, whatever kills the process; faults are rows."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fault_server import fault_server

from calibration.meters.protocol import NoMeter, Reading
from calibration.meters.selftest import self_test
from calibration.runtimes.endpoint import Endpoint
from calibration.session.calibrating import calibrate
from calibration.session.conditions import preflight, wait_until_settled
from calibration.session.plan import MOST_LENGTHS, Plan, cells_of, first_lengths, next_length
from calibration.session.store import Store

PLAN = Plan(least_prompt=8, most_prompt=64, output_tokens=(4,), blocks=2, repeats=2, most_repeats=2)


def record(folder: Path, address: str, plan: Plan = PLAN, meter=None, *, stall_s=0.5, **options) -> Store:
    meter = meter or NoMeter()
    endpoint = Endpoint(address, stall_s=stall_s)
    try:
        return calibrate(endpoint, meter, folder, plan, self_test=self_test(meter, seconds=0.3), **options)
    finally:
        endpoint.close()


def test_a_session_holds_every_cell_once(tmp_path):
    """Each block has each length and output once, in an order of its own; energies are null without a meter."""
    with fault_server("none") as address:
        store = record(tmp_path, address)
        frame = store.read()
        again = record(tmp_path, address)  # nothing left to do
    assert len(store.keys()) >= 2 * 4 * 2
    assert again.keys() == store.keys()
    assert not frame.duplicated(["cell", "repeat"]).any()
    assert (frame["fault"] == "").all()
    assert frame["energy_j"].isna().all()
    manifest = store.manifest()
    assert manifest["formulas"]["output_tokens"].startswith("usage.completion_tokens")
    assert "unknown, not zero" in manifest["meter"]["self_test"]["warnings"][0]
    orders = [[c.prompt_tokens for c in cells_of(PLAN, first_lengths(PLAN), block)] for block in (0, 1)]
    assert orders[0] != orders[1]


def test_a_recording_of_something_else_is_not_continued(tmp_path):
    """Another plan in the same folder is refused, with what differs."""
    with fault_server("none") as address:
        record(tmp_path, address)
        other = Plan(least_prompt=8, most_prompt=128, output_tokens=(4,), blocks=1)
        with pytest.raises(ValueError, match=r"manifest.json: the recording there has plan .*record into another"):
            record(tmp_path, address, other)


@pytest.mark.parametrize(
    ("fault", "told"), [("cut", "cut"), ("stall", "stalled"), ("lying output", "usage"), ("garbage", "garbage")]
)
def test_faults_in_a_session_are_rows(tmp_path, fault, told):
    """A server that goes wrong after the warm-up leaves rows that say how; the session goes on and nothing is lost."""
    plan = Plan(least_prompt=8, most_prompt=16, output_tokens=(4,), blocks=1, repeats=2, most_repeats=2)
    with fault_server(fault, ok_first=4) as address:
        frame = record(tmp_path, address, plan).read()
    faults = frame[frame["fault"] != ""]
    assert len(faults) >= 3
    assert faults["fault"].str.startswith(told).mean() > 0.4
    assert set(frame["cell"]) == {c.key for c in cells_of(plan, first_lengths(plan), 0)}


class LittleMeter:
    """A gpu meter of a steady 40 W."""

    name, scope, covers, refresh_s, poll_s = "steady", "gpu", "a steady 40 W", 0.005, 0.005

    def __init__(self, dies_after=10**9):
        self.n, self.dies_after = 0, dies_after

    def read(self):
        self.n += 1
        if self.n > self.dies_after:
            raise ValueError("meter steady: gone (unplugged)")
        return Reading(at_ns=time.monotonic_ns(), power_w=40.0 + 0.1 * (self.n % 2), energy_j=None)

    def close(self):
        pass


def test_energy_is_of_windows_and_a_meter_that_goes_is_told(tmp_path, monkeypatch):
    """Windows of distinct requests carry joules of at least the stated time; a meter that goes leaves the reason."""
    monkeypatch.setattr("calibration.session.calibrating._IDLE_S", 0.3)
    plan = Plan(least_prompt=8, most_prompt=16, output_tokens=(4,), blocks=1, repeats=1, most_repeats=1, window_s=0.3)
    with fault_server("none", token_s=0.002) as address:
        frame = record(tmp_path / "good", address, plan, LittleMeter()).read()
        gone = record(tmp_path / "gone", address, plan, LittleMeter(dies_after=300)).read()
    windows = frame[frame["kind"] == "window"]
    seconds = windows["finished_s"] - windows["sent_s"]
    assert len(windows) == 2 * (len(set(frame["asked_prompt_tokens"]) - {0}))
    assert (seconds >= 0.3).all()
    assert (windows["n_requests"] > 3).all()
    assert (windows["energy_j"] / seconds).to_list() == pytest.approx([40.05] * len(windows), rel=0.01)
    assert list(frame[frame["kind"] == "idle"]["block"].sort_values()) == [-1, 999]
    assert gone[gone["kind"] == "idle"]["reason"].str.contains("gone").any()


def test_killed_at_any_moment_it_resumes_without_a_duplicate(tmp_path):
    """SIGKILL in a loop: after each the recording reads back, no cell is there twice, and it is finished in the end."""
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.calibration.test_session import PLAN, record\n"
        "record(Path(sys.argv[1]), sys.argv[2])\n"
    )
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(Path(__file__).parent)])
    rng = np.random.default_rng(3)
    store, kills = Store(folder=tmp_path), 0
    with fault_server("none", token_s=0.01) as address:
        while True:
            known = len(store.keys())
            child = subprocess.Popen(
                [sys.executable, "-c", program, str(tmp_path), address],
                env={**os.environ, "PYTHONPATH": paths},
                cwd=root,
            )
            while child.poll() is None and len(store.keys()) < known + 3:
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.08))
            if child.poll() is not None:
                break
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            assert len(store.keys()) >= known + 3
            assert not store.read().duplicated(["cell", "repeat"]).any()
    frame = Store(folder=tmp_path).read()
    assert kills >= 3
    assert child.returncode == 0
    assert not frame.duplicated(["cell", "repeat"]).any()
    assert len(set(frame["cell"])) >= 16
    assert not list(tmp_path.glob(".*.draft"))


def test_lengths_are_added_where_the_fit_is_least_certain():
    """A precise fit asks for nothing; a noisy one asks between measured lengths, up to eight lengths in all."""
    lengths = [32, 128, 512, 2048]
    P = pd.Series(lengths * 6)
    exact = (0.01 + 1e-4 * P).tolist()
    assert next_length(P.tolist(), exact, 0.05) is None
    noisy = [s * (1 + 0.3 * (-1) ** n) for n, s in enumerate(exact)]
    added = next_length(P.tolist(), noisy, 0.05)
    assert added is not None
    assert 32 < added < 2048
    many = list(range(100, 100 * (MOST_LENGTHS + 1), 100))
    assert next_length(many * 2, noisy[: 2 * len(many)], 0.001) is None


def test_preflight_refuses_and_remembers_what_was_allowed():
    """Throttling, strangers on the GPU and unlocked clocks are refused, each by its name, unless allowed."""
    gpu = {"throttled_by": ("power cap",), "processes": (1, 2)}
    jetson = {"board": "Jetson", "power_mode": "pmode:0000", "cpu_governors": ["schedutil"]}
    for found, check in (({"gpu": gpu}, "throttled"), (jetson, "clocks"), ({"board": "Jetson"}, "power-mode")):
        with pytest.raises(ValueError, match=rf"preflight, {check}: .*--allow {check}"):
            preflight(found)
        preflight(found, allowed=frozenset({"throttled", "processes", "clocks", "power-mode"}))
    preflight({"board": None, "gpu": None})


def test_the_thermal_gate_waits_for_a_slope_under_one_degree_a_minute():
    """A device that warms by 6 °C a minute is waited for; one that never settles ends with that word."""
    warming = iter([50 + 0.1 * min(n, 40) for n in range(200)])
    found = wait_until_settled(lambda: next(warming), sleep=lambda _: None)
    assert found["gate"] == "settled"
    assert abs(found["c_per_s"]) < 1 / 60
    rising = iter(range(1000))
    assert wait_until_settled(lambda: next(rising), sleep=lambda _: None)["gate"] == "not settled"
    assert wait_until_settled(None) == {"gate": "no thermometer"}
