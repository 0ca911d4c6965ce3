"""A server that really is slower is found: a real one, stopped for a third of the time as it is measured again."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from test_session import record
from typer.testing import CliRunner

from calibration.drift import described
from calibration.profile import write_profile
from calibration.session.plan import FIRST_LENGTHS, Plan
from calibration.session_profile import session_profile
from calibration.sessions import read_sessions
from scenarios.cli import app
from tests.llama_server import braked, llama_process, scheduled_ns, write_llama
from tools.results_testbed import CONTENDED

SHARE = 2 / 3  # of the time that a braked server runs: everything takes 1.5 times as long
LOOSE = 0.3
LEVEL = 0.05
ROUNDS = 8
PLAN = Plan(
    least_prompt=64,
    most_prompt=256,
    output_tokens=(16,),
    blocks=2,
    repeats=2,
    most_repeats=2,
    most_lengths=FIRST_LENGTHS,
)


def sync(profile, sessions):
    """Return what `moe2 sync` finds: its exit status, the first change it calls drift, and everything's with its p."""
    words = ["sync", profile, *sessions, "--json", "--level", LEVEL]
    result = CliRunner().invoke(app, [str(word) for word in words])
    told = json.loads(result.output)
    tests = {described(test["name"]): test for test in told["tests"]}
    everything, first = tests[described("everything")], tests[told["drift"][0]]["change"] if told["drift"] else 0.0
    return result.exit_code, first, everything["change"], everything["p"]


@pytest.mark.slow
def test_a_braked_server_has_drifted_and_an_undisturbed_one_has_not(tmp_path, capsys):
    """Sessions at two thirds of the speed are called drifted, slower by about so much; undisturbed ones are not.

    Sessions to fit, undisturbed and braked ones take turns, so that what else changes here is in all of them alike; the
    size is relative to the undisturbed. Those are called drifted by chance in at most a share LEVEL of runs. What
    each session says alone is printed, not asserted, and there is no law beyond the first where something else had
    the server's core.
    """
    sessions = {what: [tmp_path / what / str(n) for n in range(ROUNDS)] for what in ("fitted", "undisturbed", "braked")}
    ran_waited_ns = np.zeros(2)
    model = write_llama(tmp_path / "llama.gguf", layers=2, hidden=256, feed_forward=4352, context_tokens=2048)
    with llama_process(model, context_tokens=2048, core=max(os.sched_getaffinity(0))) as (address, pid):
        for n in range(ROUNDS):
            for what in list(sessions)[:: -1 if n % 2 else 1]:
                began_ns = max(scheduled_ns(pid).values())
                with braked(pid, SHARE) if what == "braked" else nullcontext():
                    record(sessions[what][n], address, replace(PLAN, seed=n))
                if what != "braked":
                    ran_waited_ns += np.subtract(max(scheduled_ns(pid).values()), began_ns)
    share = ran_waited_ns[0] / ran_waited_ns.sum()
    profile = tmp_path / "profile.json"
    fit = session_profile(read_sessions(sessions["fitted"]), name="loopback/random-llama/f32", quantization="f32")
    write_profile(fit, profile)
    found = {what: sync(profile, sessions[what]) for what in ("undisturbed", "braked")}
    with capsys.disabled():
        print(f"\nundisturbed, the server had its core for {share:.0%} of the time that it could use it")
        for what, (_, _, change, p) in found.items():
            alone = [sync(profile, [session]) for session in sessions[what]]
            n_found, changes = sum(status for status, *_ in alone), ", ".join(f"{one[2]:+.0%}" for one in alone)
            print(f"{what}: everything {change:+.1%}, p = {p:.2g}; alone {changes}: {n_found} of {ROUNDS} are drift")
    status, first, change, _ = found["braked"]
    assert status == 1
    assert min(first, change) > 0
    if share < CONTENDED:
        pytest.skip("something else took the server's core: what it did then is in no model")
    assert (1 + change) / (1 + found["undisturbed"][2]) == pytest.approx(1 / SHARE, rel=LOOSE)
    assert found["undisturbed"][0] == 0
