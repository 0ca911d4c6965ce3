"""What a recording leaves beside its times: joules of meters, a report that says what was real, and no secret."""

import json
import time
from base64 import b64encode

import numpy as np
import pytest
from record_sample import ROWS, moe2, record, write_sample
from testbed_server import testbed_server

from calibration.meters.protocol import Reading


class SteadyMeter:
    """A meter of a steady 40 W."""

    name, scope, covers, refresh_s, poll_s = "steady", "gpu", "a steady 40 W", 0.005, 0.005

    def read(self):
        return Reading(at_ns=time.monotonic_ns(), power_w=40.0, energy_j=None)

    def close(self):
        pass


class NoScope(SteadyMeter):
    scope = None


def test_joules_are_the_meters(tmp_path, monkeypatch):
    """A steady 40 W over the run's time are its joules, busy and idle together; a device without a meter has none."""
    opened = {"nvml": SteadyMeter}
    monkeypatch.setattr("scenarios.recording.metering.open_meter", lambda kind, **_: opened.get(kind, NoScope)())
    rows = [(0.3 * i, 8, 40, "a|b") for i in range(5)]
    with testbed_server(token_s=0.004) as a, testbed_server() as b:
        budget = "[budgets]\nenergy_j_per_request = 1000.0\n"
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address, "b": b.address}, more=budget)
        endpoints.write_text(endpoints.read_text().replace('expert = "a"', 'expert = "a"\nmeter = "nvml"'))
        devices = record(scenario, endpoints, tmp_path / "out")["devices"].set_index("device")
    metered, other = devices.loc["device of a"], devices.loc["device of b"]
    assert metered["energy_j"] == pytest.approx(40 * (metered["busy_s"] + metered["idle_s"]), rel=1e-6)
    assert metered["busy_energy_j"] == pytest.approx(40 * metered["busy_s"], rel=1e-6)
    assert metered["busy_energy_j"] + metered["idle_energy_j"] == pytest.approx(metered["energy_j"])
    assert np.isnan([other["energy_j"], other["idle_energy_j"]]).all()
    verdict = json.loads((tmp_path / "out" / "summary.json").read_text())["verdicts"][0]
    assert verdict["status"] == "undecided"
    assert "device of b was not measured" in verdict["note"]


def test_a_report_says_that_it_was_recorded(tmp_path):
    """The page of a recording, and the one drawn again from its folder, say what was real, and how to record again."""
    rows = [(0.02 * i, 8, 4, "a") for i in range(20)]
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", rows, {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--json")
    assert json.loads(found.stdout)["engine"] == "recorded"
    page = tmp_path / "out" / "report.html"
    first = page.read_text(encoding="utf-8")
    again = moe2("report", tmp_path / "out")
    assert again.exit_code == 0, again.output
    for text in (first, page.read_text(encoding="utf-8")):
        assert "Servers, devices and their network were real" in text
        assert "moe2 record" in text


def test_the_key_of_an_api_is_sent_and_not_written(tmp_path, monkeypatch):
    """A secret comes from the environment, a password from the URL; neither is in what the recording leaves behind."""
    monkeypatch.setenv("BENCH_KEY", "s3cret")
    with testbed_server() as a:
        scenario, endpoints = write_sample(tmp_path / "in", ROWS[:4:2], {"a": a.address.replace("//", "//me:s3cret@")})
        record(scenario, endpoints, tmp_path / "out")
        basic = b64encode(b"me:s3cret").decode().lower()
        assert all(f"authorization: basic {basic}" in head.lower() for head in a.heads)
        endpoints.write_text(endpoints.read_text().replace("me:s3cret@", "") + 'key_variable = "BENCH_KEY"\n')
        a.heads.clear()
        record(scenario, endpoints, tmp_path / "key")
        assert all("authorization: bearer s3cret" in head.lower() for head in a.heads)
    written = [p.read_bytes() for name in ("out", "key") for p in (tmp_path / name).rglob("*") if p.is_file()]
    assert len(written) > 10
    assert not any(b"s3cret" in content for content in written)
