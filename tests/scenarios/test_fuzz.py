"""Whatever a scenario file holds, it is valid or it is refused in one message."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.files.loading import bundled_scenarios, load
from scenarios.runs.replicating import assemble

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


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bytes_changed_at_random(name, tmp_path):
    """400 mutations of every bundled scenario: bytes changed, dropped, doubled, swapped."""
    original = BUNDLED[name].read_bytes()
    chance = random.Random(name)  # noqa: S311
    path = tmp_path / f"{name}.toml"
    for _ in range(400):
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
        path.write_bytes(bytes(data))
        message = refusal(lambda: load(path))
        assert not message or str(path) in message, f"the message does not name the file: {message}"
        assert len(message) < 1500


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
