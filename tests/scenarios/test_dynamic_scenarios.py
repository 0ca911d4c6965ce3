"""Scenarios in which devices fail, the gateway has rules and users wait: what they say is what runs."""

import json
import re

import pandas as pd
import pytest
from rich.console import Console

from scenarios.files.loading import load
from scenarios.files.schema import json_schema
from scenarios.running import perform, prepare
from scenarios.story.happenings import happenings, not_modelled
from scenarios.story.story import FREE_GATE, STEADY_DEVICES

SMALL = """
name = "small"
duration_s = 600.0
replications = 2
[load]
process = "poisson"
requests_per_s = 0.05
[router]
k = 2
subset = ["llama-3.1-8b-instruct@a", "phi-3-mini-4k-instruct@b", "gemma-7b@c"]
[[experts]]
name = "llama-3.1-8b-instruct@a"
device = "a"
profile = "rtx-4090/llama-3.1-8b-instruct/bf16"
max_batch = 8
noise = true
power_modes = { slow = "rtx-4090/llama-3.1-8b-instruct/bf16" }
load_model_s = 9.0
load_model_j = 100.0
[[experts]]
name = "phi-3-mini-4k-instruct@b"
device = "b"
profile = "rtx-4090/phi-3-mini-4k-instruct/bf16"
max_batch = 8
[[experts]]
name = "gemma-7b@c"
device = "b"
profile = "agx-orin-64gb/gemma-7b/fp16"
[verdicts]
inputs = "nominal"
"""
FAULTS = """
[faults]
mtbf_s = 300.0
mean_repair_s = 40.0
lan_mtbf_s = 200.0
mean_lan_outage_s = 20.0
[[faults.crashes]]
device = "b"
at_s = 100.0
repaired_s = 130.0
[[faults.slow_downs]]
device = "a"
at_s = 200.0
ends_s = 400.0
factor = 2.0
[[faults.outages]]
link = "lan"
at_s = 300.0
ends_s = 320.0
[[faults.outages]]
link = "lan"
device = "b"
at_s = 400.0
ends_s = 430.0
[[power_switches]]
device = "a"
at_s = 50.0
mode = "slow"
switch_s = 3.0
switch_j = 5.0
"""
GATEWAY = """
[gateway]
gate_s = 0.01
quorum = 1
timeout_s = 20.0
max_attempts = 3
backoff_s = 1.0
admission_limit = 50
load_aware_top_m = 3
"""


def scenario(tmp_path, text):
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def run(path, out):
    perform(prepare(load(path), out), report=False, console=Console(quiet=True))
    return {name: (out / f"{name}.parquet").read_bytes() for name in ("requests", "legs", "devices")}


CLOSED = '[load]\nprocess = "closed_loop"\nthink_s = 60.0\n[users]\ncount = 5'
SESSIONS = '[load]\nprocess = "sessions"\nsessions_per_s = 0.02\nturns = 3\nthink_s = 10.0\nthink = "constant"'
OPEN = '[load]\nprocess = "poisson"\nrequests_per_s = 0.05'


@pytest.mark.parametrize("users", [OPEN, CLOSED, SESSIONS], ids=["open", "closed loop", "sessions"])
def test_a_resolved_scenario_runs_again_to_the_same_bytes(tmp_path, users):
    """With faults, power modes, a shared device and a gateway with rules, for users who wait and who do not."""
    path = scenario(tmp_path, SMALL.replace(OPEN, users) + FAULTS + GATEWAY)
    first = run(path, tmp_path / "first")
    assert run(tmp_path / "first" / "scenario.toml", tmp_path / "again") == first
    tables = {name: pd.read_parquet(tmp_path / "first" / f"{name}.parquet") for name in first}
    assert set(tables["devices"].device) == {"a", "b"}
    legs = tables["legs"].groupby(["replication", "device"]).energy_j.sum()
    devices = tables["devices"].set_index(["replication", "device"])
    spent = legs + devices.idle_energy_j + devices.overhead_energy_j
    pd.testing.assert_series_equal(spent.sort_index(), devices.energy_j.sort_index(), check_names=False, rtol=1e-9)
    assert (devices.overhead_energy_j > 0).any()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[[faults.crashes]]\ndevice = "z"\nat_s = 1.0', "no expert has device 'z'; devices: a, b"),
        ('[[faults.crashes]]\ndevice = "a"\nat_s = 5.0\nrepaired_s = 4.0', "repaired_s = 4.0 must be later"),
        ("[faults]\nmtbf_s = 5.0", "both of mtbf_s and mean_repair_s"),
        ("[faults]\nlan_mtbf_s = 5.0", "both of lan_mtbf_s and mean_lan_outage_s"),
        (
            '[[faults.outages]]\nlink = "access"\ndevice = "a"\nat_s = 1.0\nends_s = 2.0',
            "device = 'a' goes with link = \"lan\"",
        ),
        (
            '[[faults.outages]]\nlink = "lan"\ndevice = "z"\nat_s = 1.0\nends_s = 2.0',
            "no expert has device 'z'; devices: a, b",
        ),
        (
            '[[power_switches]]\ndevice = "a"\nat_s = 1.0\nmode = "slo"\nswitch_s = 0.0\nswitch_j = 0.0',
            "mode 'slo'.*power_modes of expert 'llama-3.1-8b-instruct@a': slow",
        ),
        ("[gateway]\nquorum = 3", "quorum is 3, must be at most router.k = 2"),
        ("[gateway]\nload_aware_top_m = 1", "load_aware_top_m is 1, must be at least router.k = 2"),
        ("[gateway]\ntimeout = 3.0", "key gateway.timeout is not known .did you mean 'timeout_s'"),
        ("[gateway]\nbackoff_s = 3.0", "goes with max_attempts above 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_message(tmp_path, more, message):
    """The message names the file, the key, what was found and what is allowed."""
    path = scenario(tmp_path, f"{SMALL}\n{more}\n")
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_every_number_of_the_dynamic_world_has_its_unit_in_its_key():
    """Keys of the new tables end with a unit, or count something, or are names."""
    definitions = json_schema()["$defs"]
    plain = {"max_attempts", "quorum", "admission_limit", "load_aware_top_m", "factor", "turns", "prompt_prefix_tokens"}
    for table in ("Faults", "CrashSpec", "SlowDownSpec", "PowerSwitchSpec", "Gateway", "ClosedLoop", "Sessions"):
        for key, what in definitions[table]["properties"].items():
            if re.search(r'"(number|integer)"', json.dumps(what)) and key not in plain:
                assert re.search(r"_(s|j|w|per_s)$", key), f"{table}.{key} has no unit"


def test_unknown_joules_of_a_load_leave_the_energy_undecided(tmp_path):
    """Without load_model_j the energy of a device that loads is not known, and the verdict names it."""
    text = SMALL.replace("load_model_j = 100.0\n", "") + "[budgets]\nenergy_j_per_request = 1e9\n"
    run(scenario(tmp_path, text), tmp_path / "out")
    (verdict,) = json.loads((tmp_path / "out" / "summary.json").read_text())["verdicts"]
    assert verdict["status"] == "undecided"
    assert "load_model_j" in verdict["note"]


def test_the_report_says_what_happens_and_what_the_gateway_does(tmp_path):
    """Each fault, switch and rule is in the facts, and what is modelled is not listed as left out."""
    file = load(scenario(tmp_path, SMALL + FAULTS + GATEWAY)).file
    facts = dict(happenings(file))
    for words in (
        "b crashes at 100 s, until 130 s",
        "a takes 2 times as long",
        "the lan link is down",
        "link of b is down",
    ):
        assert words in facts["Faults"]
    assert facts["Power modes"] == "a goes to slow at 50 s"
    for words in ("1 answers suffice", "after 20 s", "3 times", "beyond 50", "10 ms a prompt", "gate's 3 best"):
        assert words in facts["Gateway"]
    assert not {STEADY_DEVICES, FREE_GATE} & set(not_modelled(file))
    plain = load(scenario(tmp_path, SMALL)).file
    assert happenings(plain) == []
    assert {STEADY_DEVICES, FREE_GATE} <= set(not_modelled(plain))
