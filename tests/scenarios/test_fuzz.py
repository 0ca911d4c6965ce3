"""Whatever a scenario file holds, it is valid or it is refused in one message."""

import io
import json
import random
import shutil
import signal
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scenarios.files.loading import bundled_scenarios, load
from scenarios.runs.replicating import assemble
from scenarios.start import main

BUNDLED = bundled_scenarios()
ODD = [
    "",
    "nan",
    "-1",
    "0",
    "1e999",
    "[]",
    "{}",
    '"x"',
    "true",
    "1979-05-27",
    "[1, 2]",
    "{ a = 1 }",
    "99999999999999999999",
]


def refusal(attempt):
    """Return the message of a ValueError, nothing without one; any other exception fails the test."""
    try:
        attempt()
    except ValueError as error:
        return str(error)
    return ""


RUN = {"summary.json", "scenario.toml", "requests.parquet", "legs.parquet", "devices.parquet"}
SHORT = ("duration_s=300.0", "warmup_s=0.0", "replications=1", "verdicts={max_replications=1, inputs='nominal'}")
MOST_CPU_S = 30  # of one case; processor time, so a busy machine changes nothing


@contextmanager
def without_a_hang():
    """Fail a block that takes more processor time than a short run can."""

    def end(*_):
        pytest.fail(f"still at it after {MOST_CPU_S} s of processor time")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run_through_the_command_line(scenario, out, changes=()):
    """Run a scenario by the program's own entry point; return its exit status, after its promises were checked."""
    words = ["run", str(scenario), "--out", str(out), "--no-report", *(w for c in changes for w in ("--set", c))]
    said, wrong = io.StringIO(), io.StringIO()
    called, ends = patch.object(sys, "argv", ["moe2", *words]), pytest.raises(SystemExit)
    with called, redirect_stdout(said), redirect_stderr(wrong), without_a_hang(), ends as ended:
        main()
    status = ended.value.code
    if status == 2:
        (line,) = wrong.getvalue().splitlines()
        assert line.startswith("moe2: ")
        assert not out.exists()
    else:
        assert status in {0, 1, 3}, wrong.getvalue()
        assert wrong.getvalue() == ""
        assert {path.name for path in out.iterdir()} >= RUN
        assert json.loads((out / "summary.json").read_text())["status"] in {"holds", "violated", "undecided", None}
        shutil.rmtree(out)
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")] == []
    return status


def mutated(original, chance):
    """Return the bytes changed, dropped, doubled, swapped at one to twenty places."""
    data = bytearray(original)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at : at + chance.randrange(1, 30)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
        else:
            data[at:at] = chance.choice(ODD).encode()
    return bytes(data)


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bytes_changed_at_random(name, tmp_path):
    """400 mutations of every bundled scenario: bytes changed, dropped, doubled, swapped."""
    original = BUNDLED[name].read_bytes()
    chance = random.Random(name)  # noqa: S311
    path = tmp_path / f"{name}.toml"
    for _ in range(400):
        path.write_bytes(mutated(original, chance))
        message = refusal(lambda: load(path))
        assert not message or str(path) in message, f"the message does not name the file: {message}"
        assert len(message) < 1500


@pytest.mark.parametrize("n_runs", [3, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bytes_changed_at_random_through_the_command_line(name, n_runs, tmp_path):
    """Mutations that can still be read, and some that cannot, run by the entry point: refused in one line, or whole."""
    original = BUNDLED[name].read_bytes()
    chance = random.Random(f"{name}, run")  # noqa: S311
    path = tmp_path / f"{name}.toml"
    statuses = []
    while len(statuses) < n_runs or not set(statuses) - {2}:
        path.write_bytes(mutated(original, chance))
        if not refusal(lambda: load(path)) or chance.random() < 0.02:
            statuses.append(run_through_the_command_line(path, tmp_path / "out", SHORT))
    assert len(statuses) < 10 * n_runs, "of so many some should run"


keys = st.sampled_from(
    [
        *("duration_s", "warmup_s", "seed", "replications", "load", "users", "network", "router", "experts", "budgets"),
        *("load.process", "load.requests_per_s", "users.count", "network.lan_delay_s", "router.k", "router.subset"),
        *("router.gate", "experts[0]", "experts[0].name", "experts[1].profile", "experts[2].max_batch"),
        *("experts[3].kv_capacity_tokens", "budgets.delay_s", "budgets.delay_statistic", "verdicts.inputs"),
        "budgets.energy_j_per_request",
        *("faults", "faults.mtbf_s", "faults.mean_repair_s", "faults.devices", "faults.crashes", "faults.slow_downs"),
        *("power_switches", "experts[0].power_modes", "experts[0].load_model_s", "experts[0].load_model_j"),
        *("experts[1].device", "gateway", "gateway.quorum", "gateway.timeout_s", "gateway.max_attempts"),
        *("users.mobility", "users.area_m", "users.speed_m_per_s", "users.positions", "network.radio"),
        *("network.access_points", "network.access_points.grid", "network.access_points.path"),
        *("network.radio.carrier_hz", "network.radio.shadowing_los_db", "network.radio.interruption_s"),
        *(
            "gateway.retry",
            "gateway.admission_limit",
            "gateway.load_aware_top_m",
            "gateway.gate_s",
            "gateway.backoff_s",
        ),
    ]
)
values = st.one_of(st.sampled_from(ODD), st.integers().map(str), st.floats().map(repr), st.text(max_size=20))


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(keys, values), min_size=1, max_size=3))
def test_values_changed_at_random(changes):
    """600 sets of changes to the testbed's keys: valid, or refused with a message that names what is wrong."""
    message = refusal(lambda: load("testbed", [f"{key}={value}" for key, value in changes]))
    assert not message or "testbed.toml" in message or "--set" in message


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(keys, values), min_size=1, max_size=2))
def test_what_loads_assembles_or_is_refused(changes):
    """60 sets of changes followed to the profiles, the gate and the selector: ready to run, or refused."""
    message = refusal(lambda: assemble(load("testbed", [f"{key}={value}" for key, value in changes])))
    assert "Traceback" not in message


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(keys, values), min_size=1, max_size=2))
@example([("duration_s", "\x1e\x85\u2028\x1b[2J")])  # what ends a line, or clears a screen
def test_what_is_changed_at_random_runs_or_is_refused(tmp_path, changes):
    """20 sets of changes through the entry point: exit status 2 with one line and no folder, or a whole run."""
    wild = [f"{key}={value}" for key, value in changes if "\0" not in value]
    tame = [change for change in SHORT if not any(f"{key}=" in change for key, _ in changes)]
    run_through_the_command_line("testbed", tmp_path / "out", [*wild, *tame])
