"""Laws of the files that say whom to ask what: one message that names the file, what is wrong, and the way out."""

import json

import pytest

from scenarios.method.endpoints import read_endpoints
from scenarios.method.questions import read_questions


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
        ([{"id": 1.5, "question": "q", "options": ["a", "b"], "answer": "A"}], "id is 1.5"),
        ([{"id": True, "question": "q", "options": ["a", "b"], "answer": "A"}], "id is True"),
        ([{"id": 2**63, "question": "q", "options": ["a", "b"], "answer": "A"}], "id is 9223372036854775808"),
        ([{"id": 1, "question": None, "options": ["a", "b"], "answer": "A"}], "needs a text"),
        ([{"id": 1, "question": "q", "options": ["a", None], "answer": "A"}], "a list of 2 to 26 options"),
        ([{"id": 1, "question": "q", "options": ["a", "b"], "answer": "A", "category": None}], "a category that is"),
        (["[1]"], "line 1: not a question"),
        (["7"], "line 1: not a question"),
    ],
)
def test_wrong_questions_are_refused(tmp_path, lines, message):
    """The file and the line are named."""
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    with pytest.raises(ValueError, match=message):
        read_questions(path)


def test_a_question_without_a_category_has_one_all_the_same(tmp_path):
    """Budgets by category and `evaluate` need a name, and "all" means every category there."""
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"id": "7", "question": "q", "options": ["a", 2], "answer": "b"}))
    (question,) = read_questions(path)
    assert (question.id, question.category, question.options, question.gold) == (7, "general", ("a", "2"), 1)


@pytest.mark.parametrize(
    ("read", "holds"),
    [(read_endpoints, r"of endpoints; write a table"), (read_questions, "of questions; write one JSON")],
)
def test_a_file_that_is_not_there_is_told_with_what_it_should_hold(tmp_path, read, holds):
    """Of two files on one command line the message says which is missing."""
    with pytest.raises(ValueError, match=f"none: no such file {holds}"):
        read(tmp_path / "none")
