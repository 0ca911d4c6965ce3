"""Laws of the calibration's commands: from a server to a profile with its figure, and errors in one message."""

import json
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from calibration.meters.protocol import Reading
from calibration.profile import read_profile
from tests.calibration.fault_server import fault_server
from tests.calibration.recorded import write_decodes, write_prefills


def run(calibration_app, *words, status=0):
    result = CliRunner().invoke(calibration_app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


def test_from_a_server_to_a_profile(calibration_app, tmp_path, monkeypatch):
    """calibrate, then fit: a profile that reads back, and its figure; asked again nothing is measured twice."""
    monkeypatch.setattr("calibration.sessions._LEAST_GROWTH", 0.0)  # this server takes no time for prompts
    with fault_server("none", token_s=0.002) as address:
        options = ("--url", address, "--meter", "none", "--least-prompt", 8, "--most-prompt", 64)
        options += ("--output", "4,8", "--precision", 0.5)
        said = run(calibration_app, "calibrate", "--out", tmp_path / "r", *options)
        assert run(calibration_app, "calibrate", "--out", tmp_path / "r", *options) == said
    assert "0 with faults" in said
    run(
        calibration_app, "fit", tmp_path / "r", "--out", tmp_path / "p", "--device", "Test CPU", "--quantization", "f32"
    )
    profile = read_profile(tmp_path / "p" / "test-cpu--small--f32.json")
    assert profile.provenance.latency == "measured"
    assert (tmp_path / "p" / "test-cpu--small--f32.png").stat().st_size > 10_000
    assert "records in" in run(calibration_app, "export", tmp_path / "r", "--out", tmp_path / "e.jsonl")
    again = ("--device", "Test CPU", "--model", "again", "--no-figure")
    run(calibration_app, "fit", tmp_path / "e.jsonl", "--out", tmp_path / "p", *again)
    run(calibration_app, "fit", tmp_path / "e.jsonl", "--out", tmp_path / "p", status=2)
    assert read_profile(tmp_path / "p" / "test-cpu--again--unknown.json").seconds.decode_of(1, 32) > 0
    assert "valid" in run(calibration_app, "profiles", "validate", tmp_path / "p" / "test-cpu--small--f32.json")


TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def test_a_model_of_random_weights_in_this_process(calibration_app, tmp_path):
    """The whole path with no server and no download: a config's shape is made, measured and fitted, and said so."""
    config = tmp_path / "tiny" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps(TINY))
    options = ("--transformers", config, "--torch-device", "cpu", "--meter", "none", "--precision", 0.9)
    options += ("--least-prompt", 64, "--most-prompt", 1024, "--output", "4,12")
    said = run(calibration_app, "calibrate", "--out", tmp_path / "r", *options)
    assert "0 with faults" in said
    assert "it ended as every cell is measured" in said
    run(calibration_app, "fit", tmp_path / "r", "--out", tmp_path / "p", "--device", "Test CPU", "--no-figure")
    profile = read_profile(tmp_path / "p" / "test-cpu--tiny--fp32.json")
    assert "weights are random" in profile.evidence["weights"]
    assert (profile.provenance.latency, profile.joules) == ("measured", None)
    both = ("--url", "http://127.0.0.1:9")
    assert "give one of --url" in run(calibration_app, "calibrate", "--out", tmp_path / "x", *options, *both, status=2)
    assert "give one of --url" in run(calibration_app, "calibrate", "--out", tmp_path / "x", status=2)


def test_a_budget_that_ended_is_told_by_both_commands(calibration_app, tmp_path):
    """What the budget left out is named by `calibrate`, and by `fit` as long as nobody measured it."""
    config = tmp_path / "tiny" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps(TINY))
    options = ("--transformers", config, "--torch-device", "cpu", "--meter", "none", "--budget-s", 1e-9)
    options += ("--least-prompt", 64, "--most-prompt", 128, "--output", "4")
    said = run(calibration_app, "calibrate", "--out", tmp_path / "r", *options, status=1)
    assert "the budget of 1e-09 s is spent" in said
    assert "missing are b000-p000064-o00001-c001" in said
    said = run(calibration_app, "fit", tmp_path / "r", "--out", tmp_path / "p", status=2)
    assert "no good request of a lone sequence to fit; missing are b000-p000064-o00001-c001" in said


def test_corrections_are_stated_and_of_one_meter(calibration_app, tmp_path):
    """Each is listed with its source and error; asked for another meter, or misnamed, it is refused."""
    said = run(calibration_app, "meters", "corrections")
    assert "nvml-rtx-4090: joules under load x 1.02 (± 1%)" in said
    with fault_server("none") as address:
        options = ("--url", address, "--meter", "none", "--out", tmp_path / "r", "--correction")
        assert "this session's meter is 'none'" in run(
            calibration_app, "calibrate", *options, "nvml-rtx-4090", status=2
        )
        assert "did you mean 'nvml-rtx-4090'?" in run(calibration_app, "calibrate", *options, "nvml-4090", status=2)


def test_profiles_are_listed_shown_compared(calibration_app):
    """Every bundled profile is listed; two are compared with their scopes told apart; a near name is offered."""
    assert "rtx-4090/gemma-7b/bf16" in run(calibration_app, "profiles", "list")
    assert '"prefill_s"' in run(calibration_app, "profiles", "show", "rtx-4090/gemma-7b/bf16")
    said = run(calibration_app, "profiles", "compare", "rtx-4090/gemma-7b/bf16", "agx-orin-64gb/gemma-7b/fp16")
    assert len(said.splitlines()) >= 5
    assert "*" not in said
    orin = "agx-orin-64gb/deepseek-r1-distill-llama-8b/fp16"
    said = run(calibration_app, "profiles", "compare", orin, "rtx-4090/gemma-7b/bf16", "--output", 5000)
    assert "* beyond the lengths that the profile was fitted on: extrapolated" in said
    told = json.loads(
        run(calibration_app, "profiles", "compare", orin, "rtx-4090/gemma-7b/bf16", "--output", 5000, "--json")
    )
    assert [row["extrapolated"][0] for row in told["costs"]] == [True] * 4
    run(calibration_app, "profiles", "show", "rtx-4090/gemma-7b/bf1", status=2)


def test_a_profile_is_scaled_to_a_device_and_a_model(calibration_app, tmp_path):
    """Both transfers write a profile that reads back as scaled, with measured errors; one needs a target."""
    name = "rtx-4090/llama-3.1-8b-instruct/bf16"
    run(calibration_app, "profiles", "scale", name, "--device", "rtx-3090", "--model", "gemma-7b", "--out", tmp_path)
    found = read_profile(tmp_path / "rtx-3090--gemma-7b--bf16.json")
    assert (found.provenance.latency, found.joules) == ("scaled", None)
    assert len(found.evidence["transfer_errors"]) > 20
    assert len(found.evidence["source_transfer_errors"]) == 3
    assert "give --device, --model or both" in run(
        calibration_app, "profiles", "scale", name, "--out", tmp_path, status=2
    )
    slip = ("--device", "rtx-309", "--out", tmp_path)
    assert "did you mean 'rtx-3090'" in run(calibration_app, "profiles", "scale", name, *slip, status=2)


def test_a_machine_without_a_meter_says_so(calibration_app):
    """The self-test of no meter is no failure, and says that energies will be unknown; no endpoint is bad input."""
    assert "unknown, not zero" in run(calibration_app, "meters", "test", "--quick", "--meter", "none")
    run(calibration_app, "meters", "test", "--meter", "nvlm", status=2)
    for meter in ("ina3221", "tegrastats", "jtop"):
        assert "so it is no Jetson" in run(calibration_app, "meters", "test", "--meter", meter, status=2)
    here = ("calibrate", "--out", "x", "--url", "http://127.0.0.1:9", "--meter", "none")
    for wrong, told in (
        ((), "no OpenAI-compatible endpoint is ready there"),
        (("--output", "16,b"), "--output: found '16,b', must be whole numbers joined by commas"),
        (("--concurrency", ","), "--concurrency: found ','"),
        (("--most-prompt", 33), "too near each other for the 3 lengths"),
        (("--precision", 3), "precision: found 3.0, must be between 0 and 1"),
        (("--allow", "clock"), "did you mean 'clocks'"),
        (("--model-file", "none.gguf"), "there is no such file of weights"),
    ):
        assert told in run(calibration_app, *here, *wrong, status=2)
    assert "there is no such folder" in run(calibration_app, "export", "nowhere", "--out", "e.jsonl", status=2)


def test_profiles_that_are_none_are_refused(calibration_app, tmp_path):
    """A file that is absent, no JSON or of other bytes, and a folder: one message with its name, exit status 2."""
    (tmp_path / "half.json").write_text('{"schema": 1')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, told in (
        ("half.json", "half.json: is no JSON text"),
        ("bytes.json", "bytes.json: is no JSON text"),
        ("absent.json", "absent.json: cannot be read as a profile"),
        (".", "cannot be read as a profile"),
    ):
        assert told in run(calibration_app, "profiles", "validate", tmp_path / name, status=2)
    run(calibration_app, "profiles", "compare", tmp_path / "absent.json", "rtx-4090/gemma-7b/bf16", status=2)


def test_a_gpu_that_nothing_loads_is_said_to_idle(calibration_app, monkeypatch):
    """The self-test of a GPU's meter loads it with a model; without CUDA it says that the comparison is of idling."""
    meter = SimpleNamespace(name="g", covers="g", scope="gpu", refresh_s=None, poll_s=0.002, close=lambda: None)
    meter.read = lambda: Reading(at_ns=time.monotonic_ns(), power_w=50.0 + time.monotonic() % 1, energy_j=None)
    monkeypatch.setattr("calibration.meters.opening.open_meter", lambda *_, **__: meter)
    monkeypatch.setattr("calibration.meters.selftest.QUICK_S", 0.3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = json.loads(run(calibration_app, "meters", "test", "--quick", "--json"))
    assert "nothing loaded the GPU (llama-3.2-1b on cuda: torch cannot make it" in said["unloaded"]


def test_every_recording_has_its_figure_and_every_line_its_profile(calibration_app, tmp_path):
    """A fit writes a figure beside each profile, prints the measured coverage, and names whose rows were refused."""
    models = ("Model-A", "Model-B (distilled)")
    files = [write_prefills(tmp_path / "p.csv", models=models, noise=0.01, idle=2)]
    files.append(write_decodes(tmp_path / "d.csv", models=models, noise=0.01))
    said = run(calibration_app, "fit", *files, "--out", tmp_path / "out")
    names = [f"agx-orin-64gb--{model}--fp16" for model in ("model-a", "model-b-distilled")]
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted(2 * names)
    for name in names:
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
        profile = name.replace("--", "/")
        assert f"{profile}: refused for prefill_j: 2 rows, mean power is at idle level" in " ".join(said.split())
        coverage = read_profile(tmp_path / "out" / f"{name}.json").evidence["decode_s"]["interval"]["coverage"]
        assert 0.8 <= coverage <= 1.0
    assert "covered" in said
    assert "90 % interval of prefill_s: cross-conformal, 10 folds, 32 cells" in said


def test_the_overhead_of_the_client_is_told_where_the_server_tells_its_time(calibration_app, tmp_path, monkeypatch):
    """The median of TTFT less the server's own prompt time is printed with how many requests tell it, else why not."""
    monkeypatch.setattr("calibration.sessions._LEAST_GROWTH", 0.0)  # this server takes no time for prompts
    options = ("--meter", "none", "--least-prompt", 8, "--most-prompt", 64, "--output", "4,8", "--precision", 0.5)
    told = ((0.01, "ms, median of TTFT less the server's own prompt time in"), (None, "unknown, the server"))
    for prompt_ms, words in told:
        with fault_server("none", token_s=0.001, prompt_ms=prompt_ms) as address:
            run(calibration_app, "calibrate", "--url", address, "--out", tmp_path / f"r{prompt_ms}", *options)
        said = run(
            calibration_app,
            "fit",
            tmp_path / f"r{prompt_ms}",
            "--out",
            tmp_path / "p",
            "--device",
            "CPU",
            "--no-figure",
        )
        assert "client overhead: " in said
        assert words in said


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (None, "nowher.csv", "nowher.csv: there is no such file or folder; did you mean 'nowhere.csv'?"),
        ("folder", "r", "r: holds no manifest.json, so it is no recording of `moe2 calibrate`"),
        ("", "e.csv", "e.csv: is empty; a recording begins with the names of its columns"),
        ("device,model,batch,prompt_tokens,ttft_s,avg_power_w,total_energy_j\n", "c.csv", "did you mean 'ttft_s'?"),
        ('[{"n_prompt": 5', "t.json", "t.json: cannot be read as the output of llama-bench -o json"),
        ("{}", "o.json", "o.json: is no output of llama-bench -o json, which is a list of tests"),
        (json.dumps([{"n_prompt": 5}]), "k.json", "k.json, test 1: has no model_filename, cpu_info"),
        ("", "a.jsonl", "a.jsonl: holds no records"),
    ],
)
def test_what_is_no_recording_is_refused_and_nothing_is_left_behind(calibration_app, tmp_path, text, name, message):
    """One message that names the file and the way out, exit status 2, and no folder of output."""
    (tmp_path / "nowhere.csv").write_text("a\n")
    if text == "folder":
        (tmp_path / name).mkdir()
    elif text is not None:
        (tmp_path / name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    told = ("--device", "d", "--model", "m")
    assert message in run(calibration_app, "fit", tmp_path / name, "--out", tmp_path / "out", *told, status=2)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("ns", [-1.0, 0, float("nan"), float("inf"), "soon", None, True])
def test_samples_that_are_no_times_are_refused(calibration_app, tmp_path, ns):
    """A duration of llama-bench must be a number of nanoseconds above 0; the message names the test."""
    test = {"build_commit": "c", "build_number": 1, "cpu_info": "c", "model_filename": "m", "n_prompt": 8, "n_gen": 0}
    (tmp_path / "b.json").write_text(json.dumps([{**test, "samples_ns": [1e6]}, {**test, "samples_ns": [ns]}]))
    said = run(calibration_app, "fit", tmp_path / "b.json", "--out", tmp_path / "out", status=2)
    assert "b.json, test 2: samples_ns is" in said
    assert not (tmp_path / "out").exists()


def test_a_transfer_tells_its_error_and_validation_is_to_the_letter(calibration_app, tmp_path):
    """`scale` prints the leave-one-out error; `validate` refuses an origin of joules that are not there."""
    name = "rtx-4090/llama-3.1-8b-instruct/bf16"
    said = run(calibration_app, "profiles", "scale", name, "--device", "rtx-3090", "--out", tmp_path)
    assert "transfer error prefill time" in said
    assert "each device left out" in said
    assert "its joules are not known" in said
    path = tmp_path / "rtx-3090--llama-3.1-8b-instruct--bf16.json"
    assert "valid" in run(calibration_app, "profiles", "validate", path)
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "energy_scope": "gpu"}))
    assert "energy_scope: found 'gpu', must be null" in run(calibration_app, "profiles", "validate", path, status=2)
    assert "rtx-pro-6000/llama-3.1-8b-instruct/bf16" in run(calibration_app, "profiles", "validate")  # all bundled ones
