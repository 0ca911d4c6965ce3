"""Laws of `moe2 evaluate`: the table on the terminal and the costs that a scenario's experts give."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from moe2.answers import bundled_answers, write_answers
from scenarios.cli import app
from scenarios.files.loading import load
from scenarios.files.plant import build_experts
from scenarios.method.costs import scenario_costs


def test_costs_are_those_of_the_expert_alone():
    """A prompt costs the network's delay and the profile's leg; a model that no expert runs costs nobody knows what."""
    answers = bundled_answers()
    answers = answers.of(answers.rows("test")[:5])
    scenario = load("testbed", [])
    costs = scenario_costs(scenario, answers)
    for expert in build_experts(scenario):
        column = answers.models.index(expert.profile.model)
        lengths = answers.prompt_tokens + 1000, answers.output_tokens[:, column]
        network_s = 2 * (scenario.file.network.access_delay_s + scenario.file.network.lan_delay_s)
        assert costs.delay_s[:, column] == pytest.approx(network_s + expert.profile.seconds.leg_of(*lengths))
        assert costs.energy_j[:, column] == pytest.approx(expert.profile.joules.leg_of(*lengths))
    assert set(costs.delay_budget_s) <= {20.0, 40.0}
    strange = answers.for_models(answers.models[:2])
    object.__setattr__(strange, "models", ("stranger", strange.models[1]))
    found = scenario_costs(scenario, strange)
    assert np.isnan(found.delay_s[:, 0]).all()
    assert found.energy_j[:, 1] == pytest.approx(costs.energy_j[:, 1])


def test_the_table_has_costs_and_categories():
    """Overall and by category: every method has its loss, seconds and joules; the gate costs more with more experts."""
    done = CliRunner().invoke(app, ["evaluate", "--k", "1", "--k", "3", "--json"])
    assert done.exit_code == 0, done.output
    rows = {(row["method"], row["category"]): row for row in json.loads(done.output)}
    assert len({category for _, category in rows}) == 15
    for category in ("all", "law"):
        one, three = (rows[f"gate, k = {k}", category] for k in (1, 3))
        assert one["energy_j"] < three["energy_j"]
        assert one["delay_s"] < three["delay_s"]
        assert rows["cheapest that fits", category]["energy_j"] < three["energy_j"]
    shown = CliRunner().invoke(app, ["evaluate", "--k", "2", "--by-category"])
    assert shown.exit_code == 0, shown.output
    assert "philosophy" in shown.output
    assert "cheapest that fits" in shown.output


@pytest.mark.parametrize(
    "line", ['{"text": 5}', '{"question": "q", "options": "ab"}', '{"question": "q"}', "[1]", "5", ""]
)
def test_what_is_no_text_is_not_embedded(tmp_path, line):
    """One message that names the file, exit 2, and no file written; an empty file is no list of prompts either."""
    (tmp_path / "texts.jsonl").write_text(line)
    done = CliRunner().invoke(app, ["embed", str(tmp_path / "texts.jsonl"), "--out", str(tmp_path / "e.npz")])
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert "texts.jsonl" in done.output
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "--answers", "bundeld"), 'bundeld: no such file; name a file, or "bundled" for what comes along'),
        (("evaluate", "--gate", "bundeld"), 'bundeld: no such file; name a file, or "bundled" for what comes along'),
        (("evaluate", "--answers", "."), ".: not a readable answers table"),
        (("train", "--seed", "-1"), "--seed -1: should be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_way_out(words, said):
    """One line that says what was given and what may be; exit 2, no traceback."""
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert said in done.output


def test_training_on_few_prompts_is_refused_or_called_in_doubt(tmp_path):
    """Three questions: exit 2, one message, no checkpoint. Thirty: a checkpoint, and a warning beside the result."""
    pytest.importorskip("torch")
    answers, files = bundled_answers(), (tmp_path / "answers.parquet", tmp_path / "gate.safetensors")
    words = ["train", "--json", "--answers", str(files[0]), "--out", str(files[1])]
    write_answers(answers.of(answers.rows("train")[:3]), files[0])
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, refused.exception.__class__) == (2, SystemExit)
    assert "3 train and 0 validation prompts, must be at least 5 of each" in " ".join(refused.output.split())
    assert not files[1].exists()
    write_answers(answers.of(np.concatenate([answers.rows("train")[:20], answers.rows("validation")[:10]])), files[0])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (warning,) = json.loads(done.stdout)["warnings"]
    assert "20 train prompts" in warning
    assert f"warning: {warning}" in done.stderr
    assert files[1].exists()


@pytest.mark.parametrize("command", ["embed", "collect", "train"])
def test_what_is_read_is_not_written_over(tmp_path, command):
    """Naming an input as the result is refused before anything is asked or embedded; the input stays as it was."""
    file = tmp_path / "q.jsonl"
    file.write_text('{"id": 1, "question": "q", "options": ["a", "b"], "answer": "A"}')
    endpoints = tmp_path / "e.toml"
    endpoints.write_text('[[endpoints]]\nmodel = "m"\nurl = "http://127.0.0.1:9/v1"\nprecision = "p"\n')
    words = {
        "embed": ["embed"],
        "collect": ["answers", "collect", "--endpoints", str(endpoints), "--questions"],
        "train": ["train", "--answers"],
    }
    before = file.read_text()
    done = CliRunner().invoke(app, [*words[command], str(file), "--out", str(tmp_path / "." / "q.jsonl")])
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert "would be overwritten" in done.output
    assert file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.toml", "q.jsonl"]


def test_texts_that_are_not_utf_8_are_named(tmp_path):
    """Bytes of another encoding: the file is named, nothing is written."""
    (tmp_path / "texts.jsonl").write_bytes(b'{"text": "caf\xe9"}')
    done = CliRunner().invoke(app, ["embed", str(tmp_path / "texts.jsonl"), "--out", str(tmp_path / "e.npz")])
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert "texts.jsonl: not a readable text file" in " ".join(done.output.split())
    assert not (tmp_path / "e.npz").exists()
