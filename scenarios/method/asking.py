"""Asking LLMs behind OpenAI-compatible endpoints multiple-choice questions, one record per answer, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from moe2.answers import text_key_of
from moe2.encoder import prompt_text
from scenarios.method.endpoints import Endpoint
from scenarios.method.letters import letter_in, letter_shares
from scenarios.method.questions import Question

__all__ = ["ask_all"]

TEMPLATE = "{prompt}\nAnswer with the letter of the one right option and nothing else.\nAnswer:"
SAMPLES = 5  # letters sampled where the server gives no log-probabilities
TIMEOUT_S = 120.0
TRIES = 3
BUSY = frozenset({429, 500, 502, 503, 504})  # HTTP status of a server that may answer the next time
UNKNOWN_FIELD = frozenset({400, 422})  # HTTP status of a server that does not know what it was asked for
CHARS_PER_TOKEN = 4  # where a server counts no tokens
RECORDED = {"question", "key", "choice", "probabilities", "how", "prompt_tokens", "output_tokens"}


def ask_all(
    endpoint: Endpoint,
    questions: Sequence[Question],
    log: Path,
    *,
    progress: Callable[[int], None] = lambda _n: None,
) -> list[dict[str, Any]]:
    """Return one record per question, asking only those that `log` (JSONL, appended to) does not hold yet.

    A record has question, key (of endpoint, template and text), choice (-1: no letter found), probabilities (of the
    options), how ("logprobs" or "sampled"), prompt_tokens, output_tokens, counted ("server", or "characters" where it
    counts no tokens). Raises ValueError when the server does not answer; what was answered before is kept.
    """
    done = _read_log(log)
    records = []
    with httpx.Client(timeout=TIMEOUT_S) as client:
        server = _Server(client=client, endpoint=endpoint)
        for n, question in enumerate(questions, start=1):
            key = _key(endpoint, question)
            if key not in done:
                done[key] = {"question": question.id, "key": key, **server.ask(question)}
                _append(log, done[key])
            records.append(done[key])
            progress(n)
    return records


def _key(endpoint: Endpoint, question: Question) -> str:
    asked = [endpoint.model, endpoint.served_name, endpoint.precision, endpoint.max_tokens, TEMPLATE]
    parts = [*asked, question.text, *question.options, text_key_of(question.text)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def _read_log(log: Path) -> dict[str, dict[str, Any]]:
    found = {}
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):  # the last line of a run that was cut off
            record = json.loads(line)
            if isinstance(record, dict) and record.keys() >= RECORDED:
                found[record["key"]] = record
    return found


def _append(log: Path, record: Mapping[str, Any]) -> None:
    """Write a record as a line of its own, also after a line that was cut off."""
    with log.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


@dataclass(slots=True, kw_only=True)
class _Server:
    """An endpoint while it is asked, and whether it may still be asked for log-probabilities."""

    client: httpx.Client
    endpoint: Endpoint
    log_probabilities: bool = True

    def ask(self, question: Question) -> dict[str, Any]:
        """Return the answer as a record: by log-probabilities where the server gives them, else by sampled letters."""
        n = len(question.options)
        replies = [self._reply(question, temperature=0.0)]
        shares, how = letter_shares(replies[0]["first_token"], n), "logprobs"
        if shares is None:
            how = "sampled"
            replies += [self._reply(question, temperature=0.7, seed=i) for i in range(1, SAMPLES)]
            found = [letter for letter in (letter_in(r["text"], n) for r in replies) if letter >= 0]
            shares = [found.count(i) / len(found) for i in range(n)] if found else None
        return {
            "choice": -1 if shares is None else max(range(n), key=lambda i: (shares[i], -i)),
            "probabilities": shares,
            "how": how,
            **{name: replies[0][name] for name in ("prompt_tokens", "output_tokens", "counted")},
        }

    def _reply(self, question: Question, *, temperature: float, seed: int = 0) -> dict[str, Any]:
        content = TEMPLATE.format(prompt=prompt_text(question.text, question.options))
        body = {
            "model": self.endpoint.served_name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.endpoint.max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        found = self._post(body)
        try:
            return _read_reply(found, content)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{self.endpoint.url}: not an OpenAI-compatible reply ({error!r}): {str(found)[:200]}"
            ) from None

    def _post(self, body: Mapping[str, Any]) -> Any:
        url, why = f"{self.endpoint.url}/chat/completions", ""
        for _ in range(TRIES):
            asked = {**body, "logprobs": True, "top_logprobs": 20} if self.log_probabilities else body
            try:
                reply = self.client.post(url, json=asked)
                if self.log_probabilities and reply.status_code in UNKNOWN_FIELD:
                    self.log_probabilities = False  # perhaps that is what it refuses; letters are sampled then
                    reply = self.client.post(url, json=body)
                if reply.is_success:
                    return reply.json()
                why = f"the server says {reply.status_code} {reply.reason_phrase}: {' '.join(reply.text.split())[:200]}"
                if reply.status_code not in BUSY:
                    break
            except ValueError:
                why = f"its reply is no JSON: {reply.text[:60]!r}"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = str(error)
        raise ValueError(f"{url}: no answer: {why}; what was answered is kept, start again to resume")


def _read_reply(found: Any, content: str) -> dict[str, Any]:
    """Return text, alternatives of the first token, and token counts of a reply; KeyError and so on if it is none."""
    choice = found["choices"][0]
    text = choice["message"].get("content") or ""
    tokens = (choice.get("logprobs") or {}).get("content") or []
    top = (tokens[0].get("top_logprobs") or []) if tokens else []
    usage = found.get("usage") or {}
    counted = bool(usage.get("prompt_tokens") and usage.get("completion_tokens"))
    lengths = (len(content) // CHARS_PER_TOKEN, len(tokens) or len(text) // CHARS_PER_TOKEN)
    if counted:
        lengths = (int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
    return {
        "text": text.strip(),
        "first_token": [{"token": str(entry["token"]), "logprob": float(entry["logprob"])} for entry in top],
        "prompt_tokens": max(1, lengths[0]),
        "output_tokens": max(1, lengths[1]),
        "counted": "server" if counted else "characters",
    }
