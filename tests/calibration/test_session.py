"""Laws of sessions: cells are recorded once, whole, whatever kills the process; faults are rows."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from itertools import count
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fault_server import fault_server
from law_runtime import LawRuntime

from calibration.meters.protocol import NoMeter, Reading
from calibration.runtimes.endpoint import Endpoint
from calibration.session.calibrating import calibrate
from calibration.session.conditions import elsewhere, host, preflight, wait_until_settled
from calibration.session.measuring import Bench, measure
from calibration.session.plan import MOST_LENGTHS, Plan, added_lengths, cells_of, first_lengths
from calibration.session.store import Store
from calibration.sessions import read_sessions

PLAN = Plan(
    least_prompt=8, most_prompt=64, output_tokens=(4,), blocks=2, repeats=2, most_repeats=2, most_lengths=4
)  # a busy machine would else ask for more


def record(folder: Path, address: str, plan: Plan = PLAN, meter=None, *, stall_s=60.0, **options) -> Store:
    endpoint = Endpoint(address, stall_s=stall_s)
    at_once = {"self_test_s": 0.3, "settle": lambda: {"reason": "no thermometer"}}
    try:
        return calibrate(endpoint, meter or NoMeter(), folder, plan, **{**at_once, **options})
    finally:
        endpoint.close()


def requests_of(store):
    frame = store.read()
    return frame[frame["kind"] == "request"]


def test_a_session_holds_every_cell_once(tmp_path):
    """Each block has each length and output once, in an order of its own; energies are null without a meter."""
    with fault_server("none") as address:
        store = record(tmp_path, address)
        frame = requests_of(store)
        record(tmp_path, address)  # nothing left to do
    assert len(set(frame["cell"])) == 2 * 4 * 2
    assert len(requests_of(store)) == len(frame)
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
        other = replace(PLAN, most_prompt=128)
        told = r"manifest.json: the recording there has plan.most_prompt 64, this session 128; .*record into another"
        with pytest.raises(ValueError, match=told):
            record(tmp_path, address, other)


@pytest.mark.parametrize(
    ("fault", "told"), [("cut", "cut"), ("stall", "stalled"), ("lying output", "usage"), ("garbage", "garbage")]
)
def test_faults_in_a_session_are_rows(tmp_path, fault, told):
    """A server that goes wrong after the warm-up leaves rows that say how; the session goes on, and ends when it must.

    Every planned cell is then there: with its rows, or as one that is missing.
    """
    plan = replace(PLAN, most_prompt=16, blocks=1)
    stalls = fault == "stall"  # each costs the patience of whoever asks
    with fault_server(fault, ok_first=4, then=3 if stalls else inf) as address:
        frame = record(tmp_path, address, plan, stall_s=2.0 if stalls else 60.0).read()
    faults = frame[frame["fault"] != ""]
    assert len(faults) >= 3
    assert faults["fault"].str.startswith(told).all()
    assert {c.key for c in cells_of(plan, first_lengths(plan), 0)} == set(
        frame[frame["kind"].isin(["request", "missing"])]["cell"]
    )


class LittleMeter:
    """A gpu meter of 40 and 40.1 W in turn, until it is gone."""

    name, scope, covers, refresh_s, poll_s = "steady", "gpu", "a steady 40 W", 0.005, 0.005

    def __init__(self):
        self.n, self.gone = 0, False

    def read(self):
        self.n += 1
        if self.gone:
            raise ValueError("meter steady: gone (unplugged)")
        return Reading(at_ns=time.monotonic_ns(), power_w=40.0 + 0.1 * (self.n % 2), energy_j=None)

    def close(self):
        pass


def test_energy_is_of_windows_and_a_meter_that_goes_is_told(tmp_path, monkeypatch):
    """Windows of distinct requests carry joules of at least the stated time; a meter that goes leaves the reason."""
    monkeypatch.setattr("calibration.session.calibrating._IDLE_S", 0.3)
    plan = Plan(
        least_prompt=8,
        most_prompt=16,
        output_tokens=(4,),
        blocks=1,
        repeats=1,
        most_repeats=1,
        window_s=0.3,
        most_lengths=4,
    )
    meter = LittleMeter()

    def unplug(done, planned, _left_s):
        meter.gone = 2 * done >= planned

    with fault_server("none", token_s=0.002) as address:
        store = record(tmp_path, address, plan, meter, progress=unplug)
    frame = store.read()
    windows = frame[frame["kind"] == "window"].sort_values("sent_s")
    good, gone = windows.iloc[:4], windows.iloc[4:]
    seconds = good["finished_s"] - good["sent_s"]
    assert (seconds >= 0.3).all()
    assert good["n_requests"].sum() > len(good)
    assert (good["energy_j"] / seconds).to_list() == pytest.approx([40.05] * 4, rel=0.01)
    assert (good["net_energy_j"] / seconds).to_list() == pytest.approx([0.0] * 4, abs=0.1)
    idle = frame[frame["kind"] == "idle"].set_index("cell")
    assert sorted(idle.index) == ["idle-after", "idle-before", "idle-loaded"]
    for lost in (gone, idle.loc[["idle-after"]]):
        assert lost["energy_j"].isna().all()
        assert lost["reason"].str.contains("gone").all()
    assert len(gone) == 4
    assert store.manifest()["meter"]["scope"] == "gpu"


def test_killed_at_any_moment_it_resumes_without_a_duplicate(tmp_path):
    """SIGKILL in a loop: after each the recording reads back, no cell is there twice, and it is finished in the end."""
    rng, kills = np.random.default_rng(3), 0
    with fault_server("none", token_s=0.01) as address:
        for n in count():  # a busy machine may be late for a kill
            kills += killed_until_finished(tmp_path / str(n), address, rng)
            if kills >= 3:
                break


def killed_until_finished(folder, address, rng):
    """Kill recordings into a folder, each once it added four cells, until one was finished before; return how many."""
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.calibration.test_session import record\n"
        "record(Path(sys.argv[1]), sys.argv[2])\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)])}
    store, kills = Store(folder=folder), 0
    while True:
        known = len(store.keys())
        child = subprocess.Popen([sys.executable, "-c", program, str(folder), address], env=environment, cwd=root)
        while child.poll() is None and len(store.keys()) < known + 4:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.08))
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
        assert len(store.keys()) >= known + 4
        assert not requests_of(store).duplicated(["cell", "repeat"]).any()
    frame = requests_of(store)
    assert child.returncode == 0
    assert not frame.duplicated(["cell", "repeat"]).any()
    assert len(set(frame["cell"])) >= 16
    assert not list(folder.glob(".*.draft"))
    return kills


def test_lengths_are_added_where_the_fit_is_least_certain():
    """A precise fit asks for nothing; a noisy one for as many lengths as bring it within the target, eight in all."""
    lengths = [32, 128, 512, 2048]
    P = pd.Series(lengths * 6)
    exact = (0.01 + 1e-4 * P).tolist()
    assert added_lengths(P.tolist(), exact, 0.05) == ()
    noisy = [s * (1 + 0.3 * (-1) ** n) for n, s in enumerate(exact)]
    all_of_them = added_lengths(P.tolist(), noisy, 0.05)
    assert len(all_of_them) == MOST_LENGTHS - len(lengths)
    assert all(32 < added < 2048 for added in all_of_them)
    asked = [added_lengths(P.tolist(), noisy, precision) for precision in np.linspace(0.05, 0.6, 50)]
    assert all(found == all_of_them[: len(found)] for found in asked)
    assert {len(found) for found in asked} >= {0, 1, 4}
    many = list(range(100, 100 * (MOST_LENGTHS + 1), 100))
    assert added_lengths(many * 2, noisy[: 2 * len(many)], 0.001) == ()


def law_session(folder, plan, **runtime):
    settled = {"reason": "settled", "temperature_c": 40.0, "slope_c_per_s": 0.001}
    return calibrate(LawRuntime(**runtime), NoMeter(), folder, plan, self_test_s=0.1, settle=lambda: settled)


def test_a_session_goes_on_until_it_is_certain(tmp_path):
    """A noisy device gets several more lengths at once, up to eight, each in every later block; a quiet one none.

    The last row says why the session ended and how certain it is; every block has its thermal gate.
    """
    plan = Plan(least_prompt=32, most_prompt=2048, output_tokens=(8,), blocks=1, repeats=3, most_repeats=3)
    quiet, noisy = (law_session(tmp_path / str(n), plan, noise=n).read() for n in (0.0, 0.2))
    assert set(quiet[quiet["kind"] == "request"]["block"]) == {0}
    lengths = noisy[noisy["kind"] == "request"].groupby("block")["asked_prompt_tokens"].unique()
    assert len(lengths) > 1  # more blocks than were asked for, as lengths were wanted
    assert len(lengths.iloc[1]) >= len(lengths.iloc[0]) + 2
    assert len(lengths.iloc[-1]) <= MOST_LENGTHS
    assert all(set(a) <= set(b) for a, b in zip(lengths.iloc[:-1], lengths.iloc[1:], strict=True))
    for frame, blocks in ((quiet, 1), (noisy, len(lengths))):
        gates = frame[frame["kind"] == "gate"]
        assert gates[["reason", "temperature_c"]].to_numpy().tolist() == [["settled", 40.0]] * blocks
        (end,) = frame[frame["kind"] == "end"]["reason"]
        assert "no further length is wanted; the least certain prefill is known within" in end
        assert not (frame["kind"] == "missing").any()


def test_a_budget_that_ends_names_what_is_missing(tmp_path):
    """Cells that the budget left out are named in the recording and by the fit, until a later session measures them."""
    plan = Plan(least_prompt=32, most_prompt=2048, output_tokens=(8,), blocks=2, repeats=2, most_repeats=2)
    first = replace(plan, budget_s=1e-9)
    law_session(tmp_path, first)
    planned = {cell.key for block in (0, 1) for cell in cells_of(first, first_lengths(first), block)}
    frame = Store(folder=tmp_path).read()
    assert set(frame[frame["kind"] == "missing"]["cell"]) == planned
    with pytest.raises(ValueError, match="no good request of a lone sequence"):
        read_sessions([tmp_path])
    cell = cells_of(first, first_lengths(first), 0)[0]
    bench = Bench(runtime=LawRuntime(), meter=NoMeter(), refresh_s=None, plan=first, session="by hand")
    Store(folder=tmp_path).add(cell.key, measure(bench, cell))
    found = read_sessions([tmp_path])
    assert set(found.missing) == planned - {cell.key}
    assert found.record["ended"] == [
        next(r for r in frame[frame["kind"] == "end"]["reason"]),
        "killed before its end",
    ]
    assert "budget of 1e-09 s is spent" in found.record["ended"][0]


def test_more_side_by_side_than_slots_is_refused(tmp_path):
    """Requests that would wait for each other inside the server are not measured as a batch."""
    plan = replace(PLAN, concurrency=(1, 4))
    with pytest.raises(ValueError, match="concurrency 4: the server has 2 slots"):
        law_session(tmp_path, plan, slots=2)


def test_preflight_refuses_and_remembers_what_was_allowed():
    """Throttling, strangers on the GPU and unlocked clocks are refused, each by its name, unless allowed."""
    gpu = {"throttled_by": ("power cap",), "processes": (1, 2)}
    jetson = {"board": "Jetson", "power_mode": "pmode:0000", "cpu_governors": ["schedutil"]}
    for found, check in (({"gpu": gpu}, "throttled"), (jetson, "clocks"), ({"board": "Jetson"}, "power-mode")):
        with pytest.raises(ValueError, match=rf"preflight, {check}: .*--allow {check}"):
            preflight(found)
        preflight(found, allowed=frozenset({"throttled", "processes", "clocks", "power-mode"}))
    preflight({"board": None, "gpu": None})
    with pytest.raises(ValueError, match=r"--allow clock: must be one of elsewhere, .*did you mean 'clocks'"):
        preflight({"board": None}, allowed=frozenset({"clock"}))


def test_clocks_are_locked_when_they_cannot_move(tmp_path):
    """jetson_clocks sets each clock's least to its most, and leaves the governor alone: that passes, else none does."""
    cpu, gpu = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq", tmp_path / "sys/class/devfreq/17000000.gpu"
    for folder, low, high in ((cpu, "scaling_min_freq", "scaling_max_freq"), (gpu, "min_freq", "max_freq")):
        folder.mkdir(parents=True)
        (folder / high).write_text("1300500\n")
        (folder / low).write_text("306000\n")
    (cpu / "scaling_governor").write_text("schedutil\n")
    board = {"board": "Jetson", "power_mode": "pmode:0000"}
    with pytest.raises(
        ValueError, match=r"preflight, clocks: .*\(cpu 306 to 1300 MHz, gpu 0 to 1 MHz\); run jetson_clocks"
    ):
        preflight({**host(tmp_path), **board})
    (cpu / "scaling_governor").write_text("performance\n")
    with pytest.raises(ValueError, match=r"\(gpu 0 to 1 MHz\)"):
        preflight({**host(tmp_path), **board})
    (cpu / "scaling_governor").write_text("schedutil\n")
    for path in (cpu / "scaling_min_freq", gpu / "min_freq"):
        path.write_text("1300500\n")
    found = host(tmp_path)
    assert (found["cpu_clock_hz"], found["gpu_clock_hz"]) == ([[1.3005e9, 1.3005e9]], [[1300500.0, 1300500.0]])
    preflight({**found, **board})


def test_a_server_on_another_machine_is_not_metered_here(tmp_path):
    """Its conditions are not this machine's: refused, and when allowed without a meter the device is not told."""
    runtime = LawRuntime()
    runtime.url = "http://192.0.2.1:8080"  # an address that no machine has (RFC 5737)
    assert elsewhere(runtime) == runtime.url
    with pytest.raises(ValueError, match=r"preflight, elsewhere: http://192\.0\.2\.1:8080 is on another machine"):
        calibrate(runtime, NoMeter(), tmp_path, PLAN)
    allowed = frozenset({"elsewhere"})
    with pytest.raises(ValueError, match="and steady reads this one; run moe2 calibrate there"):
        calibrate(runtime, LittleMeter(), tmp_path, PLAN, allowed=allowed)
    settled = {"self_test_s": 0.1, "settle": lambda: {"reason": "settled"}}
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_bytes(b"tokens")
    store = calibrate(runtime, NoMeter(), tmp_path / "r", PLAN, allowed=allowed, model_file=model, **settled)
    found = store.manifest()
    assert (found["device"], found["host"]["elsewhere"], found["allowed"]) == ("not told", runtime.url, ["elsewhere"])
    assert found["model_sha256"] == sha256(b"weights").hexdigest()
    assert found["tokenizer_sha256"] == sha256(b"tokens").hexdigest()
    for here in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://no-such-machine.invalid:1"):
        runtime.url = here
        assert elsewhere(runtime) is None


def test_lengths_too_near_to_tell_a_fit_are_refused():
    """Two prompt lengths do not tell three terms apart: said before anything is measured."""
    with pytest.raises(ValueError, match="least_prompt 8 to most_prompt 9: too near each other for the 3 lengths"):
        Plan(least_prompt=8, most_prompt=9)
    with pytest.raises(ValueError, match="output_tokens must be at least 2 each"):
        Plan(output_tokens=())


def test_the_thermal_gate_waits_for_a_slope_under_one_degree_a_minute():
    """A device that warms by 6 °C a minute is waited for; one that never settles ends with that word."""
    warming = iter([50 + 0.1 * min(n, 40) for n in range(200)])
    found = wait_until_settled(lambda: next(warming), sleep=lambda _: None)
    assert found["reason"] == "settled"
    assert abs(found["slope_c_per_s"]) < 1 / 60
    rising = iter(range(1000))
    assert wait_until_settled(lambda: next(rising), sleep=lambda _: None)["reason"] == "not settled"
    assert wait_until_settled(None) == {"reason": "no thermometer"}
