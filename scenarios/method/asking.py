"""Asking LLMs behind OpenAI-compatible endpoints multiple-choice questions, one record per answer, resumable."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import httpx

from moe2.answers import text_key_of
from moe2.encoder import prompt_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Endpoint", "Question", "ask_all", "read_endpoints", "read_questions"]

TEMPLATE = "{prompt}\nAnswer with the letter of the one right option and nothing else.\nAnswer:"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SAMPLES = 5  # letters sampled where the server gives no log-probabilities
TIMEOUT_S = 120.0
TRIES = 3
BUSY = frozenset({429, 500, 502, 503, 504})  # HTTP status of a server that may answer the next time
MAX_TOKENS = 8  # of an answer: a letter needs one or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One multiple-choice question."""

    id: int
    category: str
    text: str
    options: tuple[str, ...]
    gold: int  # 0-based


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One LLM behind an address."""

    model: str  # the name it has in the answers table
    url: str  # up to and including /v1
    served_name: str  # the name the server knows it by
    precision: str
    max_tokens: int = MAX_TOKENS


def read_endpoints(path: Path) -> list[Endpoint]:
    """Return the endpoints of a TOML file: tables [[endpoints]] with model, url, precision, served_name, max_tokens."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("endpoints", [])
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: not a readable TOML file: {error}") from None
    if not tables or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: no endpoint; write a table [[endpoints]] with model, url and precision for each LLM")
    endpoints = [_endpoint(table, f"{path}: endpoint {i}") for i, table in enumerate(tables, start=1)]
    double = [model for model, n in Counter(e.model for e in endpoints).items() if n > 1]
    if double:
        raise ValueError(f"{path}: model {double[0]!r} is named twice; each needs a name of its own")
    return endpoints


def _endpoint(table: Mapping[str, Any], where: str) -> Endpoint:
    known = ("model", "url", "precision", "served_name", "max_tokens")
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: unknown key {key!r}, allowed are {', '.join(known)}{hint}")
    max_tokens = table.get("max_tokens", MAX_TOKENS)
    if type(max_tokens) is not int or max_tokens < 1:
        raise ValueError(f"{where}: max_tokens is {max_tokens!r}, must be an integer of at least 1")
    model, url, precision = (_word(table, key, where) for key in ("model", "url", "precision"))
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{where}: url is {url!r}, must be an address up to /v1, as http://localhost:8080/v1")
    served_name = _word({"served_name": model, **table}, "served_name", where)
    return Endpoint(
        model=model, url=url.rstrip("/"), served_name=served_name, precision=precision, max_tokens=max_tokens
    )


def _word(table: Mapping[str, Any], key: str, where: str) -> str:
    if key not in table:
        raise ValueError(f"{where}: {key} is missing")
    if not isinstance(table[key], str) or not table[key].strip():
        raise ValueError(f"{where}: {key} is {table[key]!r}, must be a text")
    return str(table[key])


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a JSONL file: id, category, question, options, answer (a letter) on each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable text file: {error}") from None
    questions = [_question(line, f"{path}, line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not questions:
        raise ValueError(f"{path}: no question; write one JSON object per line")
    double = [number for number, n in Counter(q.id for q in questions).items() if n > 1]
    if double:
        raise ValueError(f"{path}: id {double[0]} is used twice; ids must be unique")
    return questions


def _question(line: str, where: str) -> Question:
    try:
        found = json.loads(line)
        options = tuple(str(option) for option in found["options"]) if isinstance(found["options"], list) else ()
        letter = str(found["answer"]).strip().upper()
        question = Question(
            id=int(found["id"]),
            category=str(found.get("category", "all")),
            text=str(found["question"]),
            options=options,
            gold=LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS else -1,
        )
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: not a question: {error!r}; needed: id (integer), question, options (a list), answer (a letter), "
            "and category if there are several"
        ) from None
    if not 2 <= len(options) <= len(LETTERS) or not 0 <= question.gold < len(options) or not question.text.strip():
        raise ValueError(
            f"{where}: needs a text, a list of 2 to 26 options, and an answer that is the letter of one of them"
        )
    return question


def ask_all(
    endpoint: Endpoint,
    questions: Sequence[Question],
    log: Path,
    *,
    progress: Callable[[int], None] = lambda _n: None,
) -> list[dict[str, Any]]:
    """Return one record per question, asking only those that `log` (JSONL, appended to) does not hold yet.

    A record has question, key (of endpoint, template and text), choice (-1: no letter found), probabilities (of the
    options), how ("logprobs" or "sampled"), prompt_tokens, output_tokens. Raises ValueError when the server does not
    answer; what was answered before is kept.
    """
    done = _read_log(log)
    records = []
    with httpx.Client(timeout=TIMEOUT_S) as client, log.open("a", encoding="utf-8") as file:
        if file.tell() and not log.read_text(encoding="utf-8").endswith("\n"):
            file.write("\n")  # the last line was cut off
        for n, question in enumerate(questions, start=1):
            key = _key(endpoint, question)
            if key not in done:
                done[key] = {"question": question.id, "key": key, **_ask(client, endpoint, question)}
                file.write(json.dumps(done[key]) + "\n")
                file.flush()
            records.append(done[key])
            progress(n)
    return records


def _key(endpoint: Endpoint, question: Question) -> str:
    parts = [endpoint.model, endpoint.served_name, endpoint.precision, TEMPLATE, question.text, *question.options]
    return hashlib.blake2b(json.dumps([*parts, text_key_of(question.text)]).encode(), digest_size=12).hexdigest()


def _read_log(log: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that was cut off
        found[record["key"]] = record
    return found


def _ask(client: httpx.Client, endpoint: Endpoint, question: Question) -> dict[str, Any]:
    reply = _complete(client, endpoint, question, temperature=0.0)
    shares = letter_shares(reply["first_token"], len(question.options))
    replies = [reply]
    how = "logprobs"
    if shares is None:
        how = "sampled"
        replies += [_complete(client, endpoint, question, temperature=0.7, seed=i) for i in range(1, SAMPLES)]
        letters = [letter_in(r["text"], len(question.options)) for r in replies]
        found = [letter for letter in letters if letter >= 0]
        shares = [found.count(i) / len(found) for i in range(len(question.options))] if found else None
    return {
        "choice": -1 if shares is None else max(range(len(shares)), key=lambda i: (shares[i], -i)),
        "probabilities": shares,
        "how": how,
        "prompt_tokens": reply["prompt_tokens"],
        "output_tokens": max(1, reply["output_tokens"]),
    }


def _complete(
    client: httpx.Client, endpoint: Endpoint, question: Question, *, temperature: float, seed: int = 0
) -> dict[str, Any]:
    content = TEMPLATE.format(prompt=prompt_text(question.text, question.options))
    body = {
        "model": endpoint.served_name,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": endpoint.max_tokens,
        "temperature": temperature,
        "seed": seed,
        "logprobs": True,
        "top_logprobs": 20,
    }
    answer = _post(client, f"{endpoint.url}/chat/completions", body)
    try:
        choice = answer["choices"][0]
        tokens = ((choice.get("logprobs") or {}).get("content")) or []
        usage = answer.get("usage") or {}
        return {
            "text": choice["message"].get("content") or "",
            "first_token": tokens[0].get("top_logprobs") or [] if tokens else [],
            "prompt_tokens": int(usage.get("prompt_tokens") or max(1, len(content) // 4)),
            "output_tokens": int(usage.get("completion_tokens") or len(tokens)),
        }
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{endpoint.url}: not an OpenAI-compatible reply ({error!r}): {str(answer)[:200]}") from None


def _post(client: httpx.Client, url: str, body: Mapping[str, Any]) -> Any:
    why = ""
    for _ in range(TRIES):
        try:
            reply = client.post(url, json=body)
            if reply.is_success:
                return reply.json()
            why = f"the server says {reply.status_code} {reply.reason_phrase}: {' '.join(reply.text.split())[:200]}"
            if reply.status_code not in BUSY:
                break
        except json.JSONDecodeError:
            why = f"its reply is no JSON: {reply.text[:60]!r}"
        except httpx.TransportError as error:
            why = str(error)
    raise ValueError(f"{url}: no answer: {why}; what was answered is kept, start again to resume")


def letter_shares(top: Sequence[Mapping[str, Any]], n_options: int) -> list[float] | None:
    """Return each option's share among the letters in the first token's alternatives; None when none is a letter.

    >>> letter_shares([{"token": " B", "logprob": -0.5}, {"token": "the", "logprob": -1.0}], 2)
    [0.0, 1.0]
    """
    mass = [0.0] * n_options
    for entry in top:
        token = str(entry.get("token", "")).strip(" \t\n().:*").upper()
        if len(token) == 1 and token in LETTERS[:n_options]:
            mass[LETTERS.index(token)] += math.exp(float(entry["logprob"]))
    total = sum(mass)
    return [m / total for m in mass] if total > 0 else None


def letter_in(text: str, n_options: int) -> int:
    """Return the option that a text names, -1 for none: "answer is (C)", else its first free-standing letter.

    >>> letter_in("The answer is (C).", 4), letter_in("B", 4), letter_in("none of these", 4)
    (2, 1, -1)
    """
    letters = LETTERS[:n_options]
    named = re.search(rf"answer\s*(?:is|:)?\s*\(?([{letters}])\b", text, re.IGNORECASE)
    free = named or re.search(rf"(?<![A-Za-z])([{letters}])(?![A-Za-z'])", text)
    return LETTERS.index(free.group(1).upper()) if free else -1
