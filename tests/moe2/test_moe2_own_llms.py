"""The whole way with LLMs of one's own: collect, embed, train, evaluate, run; against real llama.cpp servers."""

import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from moe2.answers import read_answers
from moe2.gate import read_gate
from scenarios.cli import app
from scenarios.figures import budget_curves
from tests.llama_server import llama_server, write_llama

NEEDED = {"sentence_transformers": "encoder", "torch": "gate", "xllamacpp": "testbed"}  # found and not imported: slow
pytestmark = [
    pytest.mark.skipif(find_spec(name) is None, reason=f"extra {extra!r} is not installed")
    for name, extra in NEEDED.items()
]

MODELS = ("ada-7b", "bob-13b")
SCENARIO = """
name = "mine"
duration_s = 300.0
replications = 3
[load]
process = "poisson"
requests_per_s = 0.5
prompt_prefix_tokens = 0
[router]
answers = "answers.parquet"
gate = "gate.safetensors"
k = 2
[budgets]
delay_s = { default = 60.0 }
"""


def command(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def write_questions(path, n=60):  # 8 of them are validation, and 5 are needed
    things = ["sum", "product", "difference"]
    with path.open("w") as file:
        for i in range(n):
            options = [str(i + j) for j in range(4)]
            text = f"What is the {things[i % 3]} of {i} and {i % 7}?"
            question = {"category": things[i % 3], "question": text, "options": options, "answer": "ABCD"[i % 4]}
            file.write(json.dumps({"id": i, **question}) + "\n")
    return path


def write_profile(path, model, seconds):
    profile = {
        "schema": 1, "name": f"here/{model}/f32", "device": "here", "model": model, "quantization": "f32",
        "runtime": "llama.cpp", "power_mode": "any", "context_tokens": 8192, "knee_tokens": 0,
        "provenance": {"latency": "assumed", "energy": "assumed"}, "energy_scope": "board",
        "prefill_s": [seconds, 0.001, 0.0],
        "decode_s": {"base": seconds, "per_sequence": 0.0, "per_context_token": 0.0},
        "prefill_j": [1.0, 0.1, 0.0], "decode_j": {"base": 2.0, "per_sequence": 0.0, "per_context_token": 0.0},
        "idle_w": 10.0, "residuals": {"prefill": [0.0], "decode": [0.0]}, "evidence": {"assumed": "for a test"},
    }  # fmt: skip
    path.write_text(json.dumps(profile))


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Return a folder with questions, the answers of two real servers to them, and a gate trained on these."""
    folder = tmp_path_factory.mktemp("own")
    questions = write_questions(folder / "questions.jsonl")
    with (
        llama_server(write_llama(folder / "ada.gguf", seed=1)) as ada,
        llama_server(write_llama(folder / "bob.gguf", seed=2)) as bob,
    ):
        tables = [
            f'[[endpoints]]\nmodel = "{model}"\nurl = "{address}/v1"\nprecision = "f32"\n'
            for model, address in zip(MODELS, (ada, bob), strict=True)
        ]
        (folder / "endpoints.toml").write_text("".join(tables))
        arguments = ("--endpoints", folder / "endpoints.toml", "--questions", questions)
        command("answers", "collect", *arguments, "--out", folder / "answers.parquet")
    command("train", "--answers", folder / "answers.parquet", "--out", folder / "gate.safetensors")
    experts = ""
    for i, model in enumerate(MODELS):
        write_profile(folder / f"{model}.json", model, 0.01 * (i + 1))
        experts += f'[[experts]]\nname = "{model}@here"\ndevice = "d{i}"\nprofile = "{model}.json"\n'
    (folder / "mine.toml").write_text(SCENARIO + experts)
    return folder


def test_embedding_the_questions_gives_what_the_table_holds(collected):
    """`moe2 embed` of the same JSONL: the same encoder and, but for the table's int8, the same vectors."""
    command("embed", collected / "questions.jsonl", "--out", collected / "embedding.npz")
    table = read_answers(collected / "answers.parquet")
    with np.load(collected / "embedding.npz") as made:
        vectors, encoder = made["embedding"], str(made["encoder"])
    assert encoder == table.encoder
    assert np.allclose(vectors, table.embedding, atol=np.abs(vectors).max() / 127)


def test_the_gate_is_trained_for_these_models_on_this_table(collected):
    """The checkpoint carries the table's hash, its models and its encoder."""
    table, gate = read_answers(collected / "answers.parquet"), read_gate(collected / "gate.safetensors")
    assert gate.models == table.models == MODELS
    assert (gate.encoder, gate.evidence["answers_sha256"]) == (table.encoder, table.sha256)


def test_evaluation_and_a_run_use_the_table_and_the_gate(collected):
    """Costs are those of the scenario's profiles; a run answers as the table says, by experts of the table's models."""
    files = ("--answers", collected / "answers.parquet", "--gate", collected / "gate.safetensors")
    found = json.loads(command("evaluate", *files, "--scenario", collected / "mine.toml", "--k", 2, "--json"))
    row = next(r for r in found if r["method"] == "gate, k = 2" and r["category"] == "all")
    table = read_answers(collected / "answers.parquet")
    test = table.rows("test")
    legs_j = 1.0 + 0.1 * table.prompt_tokens[test, None] + 2.0 * (table.output_tokens[test] - 1)
    assert row["energy_j"] == pytest.approx(legs_j.sum(axis=1).mean())
    the_scenario_s = json.loads(command("evaluate", "--scenario", collected / "mine.toml", "--k", 2, "--json"))
    assert the_scenario_s == found
    command("run", collected / "mine.toml", "--out", collected / "run", "--no-report")
    summary = json.loads((collected / "run" / "summary.json").read_text())
    requests = pd.read_parquet(collected / "run" / "requests.parquet")
    asked = pd.read_parquet(collected / "run" / "legs.parquet")
    assert set(requests["question_id"]) <= set(table.question_id[test].tolist())
    assert set(asked["expert"]) <= {f"{model}@here" for model in MODELS}
    assert summary["verdicts"]


def test_curves_are_of_the_answers_and_the_gate_that_were_named(collected):
    """The bundled table knows none of the scenario's models: its curves are refused, not drawn of other answers."""
    where = ["--scenario", str(collected / "mine.toml"), "--curves", str(collected / "curves")]
    words = ["evaluate", "--answers", "bundled", "--gate", "bundled", *where]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "no answers of model 'ada-7b'" in refused.output
    assert not (collected / "curves").exists()


def test_curves_name_their_experts_and_no_two_methods_look_alike(collected, monkeypatch):
    """The table beside the pictures names experts as the scenario does; each method has its own colour and dashes."""
    drawn = []
    save = budget_curves.save

    def kept(canvas, *words, **more):
        drawn.append(canvas)
        return save(canvas, *words, **more)

    monkeypatch.setattr(budget_curves, "save", kept)
    pictures = collected / "pictures"
    command("evaluate", "--scenario", collected / "mine.toml", "--curves", pictures)
    table = pd.read_csv(pictures / "curves.csv", keep_default_na=False)
    named = {name for names in table["experts"] if names for name in names.split("|")}
    assert named
    assert named <= {f"{model}@here" for model in MODELS}
    kinds = {f"accuracy_by_{kind}.png" for kind in set(table["kind"])}
    assert {path.name for path in pictures.iterdir()} == {"curves.csv", *kinds}
    for canvas in drawn:
        lines = canvas.axes[0].lines
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines) == 10


def test_more_experts_than_there_are_cannot_be_asked(collected):
    """One message with what is allowed; without --k there is a row for each k up to the two models."""
    words = ["evaluate", "--scenario", str(collected / "mine.toml")]
    refused = CliRunner().invoke(app, [*words, "--k", "3"])
    assert (refused.exit_code, "k is 3, must be at most 2" in refused.output) == (2, True)
    routers = {row["method"] for row in json.loads(command(*words, "--json")) if row["kind"] == "router"}
    assert routers == {"gate, k = 1", "gate, k = 2"}
