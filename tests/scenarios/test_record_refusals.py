"""What cannot be recorded is refused in one message before anything is sent."""

import re

import pytest
from record_sample import ROWS, moe2, write_sample
from testbed_server import testbed_server

from scenarios.recording.recording import journal_of

FLAWS = {
    "expert 'b' would run and has no endpoint": lambda text: text.split("[[endpoints]]")[1].join(["[[endpoints]]", ""]),
    "key urll is not known (did you mean 'url'?)": lambda text: text.replace("url", "urll"),
    "no expert 'bb' (did you mean 'b'?)": lambda text: text.replace('"b"', '"bb"'),
    "key meter = 'volt': must be one of": lambda text: text + 'meter = "volt"\n',
    "key timeout_s = 0": lambda text: text.replace("60.0", "0"),
    "key url = 'ftp": lambda text: text.replace("http", "ftp"),
    "key url = 'http://127.0.0.2:99999'": lambda text: re.sub(r"2:\d+", "2:99999", text),
    "key url = 'http://'": lambda text: re.sub(r"//[^\"]+", "//", text),
    "key model is missing or empty": lambda text: text + 'model = ""\n',
    "key rails = [1]": lambda text: text + 'meter = "ina3221"\nrails = [1]\n',
    "key gpu = -1": lambda text: text + 'meter = "nvml"\ngpu = -1\n',
    "tell a meter where to look, and there is none": lambda text: text + 'rails = ["VDD_GPU_SOC"]\n',
    "key endpoint is not known (did you mean 'endpoints'?)": lambda text: text.replace("[[endpoints]]", "[[endpoint]]"),
    "the environment has no variable NO_SUCH_KEY": lambda text: text + 'key_variable = "NO_SUCH_KEY"\n',
    "has an endpoint already": lambda text: text.replace('"b"', '"a"'),
    "cannot be read as a TOML file": lambda text: text + "[",
    "no OpenAI-compatible endpoint is ready there": lambda text: text,
}


@pytest.mark.parametrize("message", FLAWS)
def test_wrong_endpoints_are_refused_in_one_message(tmp_path, message):
    """Whatever is wrong with the endpoints or their servers is said in one message, before anything is sent."""
    with testbed_server() as a:
        addresses = {"a": a.address, "b": a.address.replace("127.0.0.1", "127.0.0.2")}
        scenario, endpoints = write_sample(tmp_path / "in", ROWS, addresses)
        endpoints.write_text(FLAWS[message](endpoints.read_text()))
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert message in found.output
    assert "Traceback" not in found.output
    assert not (tmp_path / "out").exists()
    assert not journal_of(tmp_path / "out").exists()


@pytest.mark.parametrize("models", ['{"data": null}', '{"data": ["small"]}', '{"data": []}', "<html>"])
def test_a_server_that_lists_no_models_is_refused(tmp_path, models):
    """Whatever stands where the list of models should: one message with the expert and the address, nothing sent."""
    with testbed_server(models=models) as a:
        scenario, endpoints = write_sample(tmp_path / "in", ROWS[:1], {"a": a.address})
        found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out")
        assert a.asked == []
    assert found.exit_code == 2
    assert found.output.startswith(f"moe2: endpoint of 'a': {a.address}: ")


def test_a_load_that_waits_for_answers_is_refused(tmp_path):
    """What users ask after an answer has no instants to be sent at: it is refused, with what can be recorded."""
    scenario, endpoints = write_sample(tmp_path / "in", ROWS, {"a": "http://127.0.0.1:9"})
    again = 'load={process="recorded", path="somewhere"}'
    found = moe2("record", scenario, "--endpoints", endpoints, "--out", tmp_path / "out", "--set", again)
    assert found.exit_code == 2
    assert "process = 'recorded'" in found.output
    assert "poisson" in found.output
