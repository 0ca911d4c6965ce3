"""Laws of `moe2 calibrate`: what it says at its end, its exit status, and that wrong input leaves nothing behind."""

import json
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from calibration.session.store import Store
from tests.calibration.fault_server import fault_server

LENGTHS = ("--least-prompt", 64, "--most-prompt", 128, "--output", "4", "--precision", 0.9)


def calibrate(calibration_app, out, address, *words, status=0):
    """Run the command with its default options for a small plan; returns what it printed."""
    options = ("calibrate", "--url", address, "--meter", "none", "--out", out, *LENGTHS, *words)
    result = CliRunner().invoke(calibration_app, [str(word) for word in options])
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def test_a_server_that_dies_is_said_and_gone_on_with(calibration_app, tmp_path):
    """How many cells are measured and how many had which fault, a status that is not 0, and how to go on."""
    with fault_server("http 500", ok_first=8) as address:
        said = calibrate(calibration_app, tmp_path / "r", address, status=1)
        assert "does not do as asked in the warm-up, http 500" in calibrate(
            calibration_app, tmp_path / "r", address, status=2
        )
    assert "1 of 24 cells are measured, 5 have faults" in said
    assert "  5 cells: http 500: out of memory" in said
    assert "it ended as 5 cells in a row had faults, the last 'http 500: out of memory'" in said
    assert "the same command goes on: it measures what is missing, and again what had faults" in said
    with fault_server("none") as address:
        said = calibrate(calibration_app, tmp_path / "r", address)
        told = json.loads(calibrate(calibration_app, tmp_path / "r", address, "--json"))
    assert "24 of 24 cells are measured, 0 have faults" in said
    assert "it ended as every cell is measured" in said
    assert (told["measured"], told["faulty"], told["missing"], told["faults"]) == (24, {}, [], 5)
    assert "client overhead is not known: the server does not tell its own prompt time" in said


def test_an_interruption_says_how_to_go_on(calibration_app, tmp_path, monkeypatch):
    """Ctrl-C: status 130, what is recorded, how to go on; before the first cell there is nothing, and none is left."""
    measured = []

    def interrupted_after(n):
        def measure(bench, cell):
            if len(measured) == n:
                raise KeyboardInterrupt
            measured.append(cell)
            return known(bench, cell)

        return measure

    from calibration.session.measuring import measure as known

    with fault_server("none") as address:
        monkeypatch.setattr("calibration.session.course.measure", interrupted_after(3))
        said = calibrate(calibration_app, tmp_path / "r", address, status=130)
        assert "3 of 24 cells are measured, 0 have faults" in said
        assert "it ended as it was interrupted" in said
        assert "the same command goes on" in said
        monkeypatch.setattr("calibration.session.course.measure", known)
        assert "24 of 24 cells are measured" in calibrate(calibration_app, tmp_path / "r", address)

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("calibration.session.calibrating.self_test", interrupt)
        said = calibrate(calibration_app, tmp_path / "x", address, status=130)
    assert "interrupted before the first cell; the same command begins again" in said
    assert not (tmp_path / "x").exists()


PROGRAM = """
import calibration.session.calibrating as calibrating
calibrating.thermometer = lambda: None
from scenarios.start import main
main()
"""


def test_a_real_interrupt_ends_with_the_state_of_the_recording(tmp_path):
    """SIGINT in the middle of a session: status 130, what is measured, how to go on, and no word of starting anew."""
    with fault_server("none", token_s=0.02) as address:
        words = ["calibrate", "--url", address, "--meter", "none", "--out", tmp_path / "r", *LENGTHS]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, words)], **streams)
        while process.poll() is None and len(Store(folder=tmp_path / "r").keys()) < 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (130, "")
    measured = sum(fault == "" for fault in Store(folder=tmp_path / "r").states().values())
    assert f"{measured} of 24 cells are measured, 0 have faults" in said
    assert "the same command goes on" in said


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("--seed", -1), "seed: found -1, must be at least 0"),
        (("--stall-s", 0), "stall_s: found 0.0, must be above 0 seconds and finite"),
        (("--stall-s", "nan"), "stall_s: found nan, must be above 0"),
        (("--budget-s", "inf"), "budget_s: found inf, must be above 0 seconds and finite"),
        (("--concurrency", "1,1"), "concurrency: found 1,1, each must stand there once"),
        (("--concurrency", "0"), "concurrency at least 1"),
        (("--output", "1"), "output_tokens must be at least 2 each"),
        (("--precision", 0), "precision: found 0.0, must be between 0 and 1"),
        (("--most-prompt", 65), "too near each other"),
        (("--meter", "nvlm"), "meter 'nvlm': must be one of"),
        (("--correction", "nvml"), "correction 'nvml': must be one of"),
        (("--allow", "heat"), "--allow heat: must be one of"),
        (("--model", "smal"), "asked for model 'smal', it serves small; did you mean 'small'"),
        (("--model-file", "absent.gguf"), "there is no such file of weights"),
        (("--transformers", "llama-3.2-1b"), "give one of --url"),
        (("--key-variable", "NO_SUCH_KEY"), "the environment has no variable NO_SUCH_KEY"),
    ],
)
def test_wrong_input_leaves_nothing_behind(calibration_app, tmp_path, wrong, told):
    """One message that names the option, status 2, and no folder."""
    with fault_server("none") as address:
        said = calibrate(calibration_app, tmp_path / "deep" / "r", address, *wrong, status=2)
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_message(calibration_app, tmp_path):
    """A file in the way: its name and what is wrong, before anything is measured."""
    (tmp_path / "file").write_text("mine")
    with fault_server("none") as address:
        for place in (tmp_path / "file", tmp_path / "file" / "r"):
            said = calibrate(calibration_app, place, address, status=2)
            assert "is not a folder" in said
            assert len(said.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_api_key_is_sent_and_never_stored(calibration_app, tmp_path, monkeypatch):
    """The key comes from the environment, opens a server that asks for one, and stands in no file of the recording."""
    key = "sk-0123456789"
    with fault_server("none", key=key) as address:
        said = calibrate(calibration_app, tmp_path / "x", address, status=2)
        assert "401" in said
        assert "does it ask for a key? see --key-variable" in said
        monkeypatch.setenv("MY_KEY", f"{key}\n")
        calibrate(calibration_app, tmp_path / "r", address, "--key-variable", "MY_KEY", "--stall-s", 120)
    with fault_server("none") as address:
        calibrate(calibration_app, tmp_path / "p", address.replace("http://", f"http://me:{key}@"))
    files = [path.read_bytes() for folder in ("r", "p") for path in (tmp_path / folder).iterdir()]
    assert len(files) > 48
    assert not any(key.encode() in content for content in files)
    monkeypatch.setenv("MY_KEY", f"{key}\r\nX: y")
    assert key not in calibrate(
        calibration_app, tmp_path / "y", "http://127.0.0.1:9", "--key-variable", "MY_KEY", status=2
    )


def test_the_clients_overhead_is_printed(calibration_app, tmp_path):
    """Where the server tells its prompt time, the median of what TTFT is longer is printed, and in the JSON."""
    began_s = time.monotonic()
    with fault_server("none", prompt_ms=0.0) as address:
        said = calibrate(calibration_app, tmp_path / "r", address)
        told = json.loads(calibrate(calibration_app, tmp_path / "r", address, "--json"))
    (line,) = [line for line in said.splitlines() if line.startswith("client overhead")]
    assert line.endswith(f"median {1000 * told['client_overhead_s']['median']:.2f} ms of {told['requests']} requests")
    assert 0 < told["client_overhead_s"]["median"] < time.monotonic() - began_s
