"""What an OpenAI-compatible server is sent for one generation, and what its stream of events says."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from calibration.runtimes.generation import Generation, judged
from calibration.runtimes.wire import AsyncWire, Wire

__all__ = ["DROPPED", "HEADERS", "Stream", "request_body"]

_MOST = 2**53  # of counts and milliseconds: beyond it a number is not exact
DROPPED = "cut: the connection was dropped before any answer"
# A packed stream has no instants. Connections are new for each stream: llama.cpp's server closes them after one.
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "Connection": "close"}


def request_body(model: str | None, prompt: Sequence[int] | str, output_tokens: int) -> bytes:
    """Return the body of one request for completion: token ids or a text, output length forced, caching off."""
    body = {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": False,
    }
    return json.dumps(body, separators=(",", ":")).encode()


class Stream:
    """What has come of one stream: parts with the instant each came, and what they say once parsed.

    `prompt_tokens` None: a text was sent, and the server's count stands for what was asked.
    """

    def __init__(self, prompt_tokens: int | None, output_tokens: int) -> None:
        self.asked = (prompt_tokens, output_tokens)
        self.parts: list[tuple[float, bytes]] = []
        self.chunk_s: list[float] = []
        self.finished_s: float | None = None
        self.usage: dict[str, int] = {}
        self.timings: dict[str, float] = {}
        self.answered = False
        self._wire: Wire | AsyncWire | None = None
        self.done = False
        self.sent_s = time.monotonic()

    def answered_by(self, wire: object) -> None:
        """Take the instant at which the request left from its connection, where that is a wire."""
        self.answered = True
        self._wire = wire if isinstance(wire, (Wire, AsyncWire)) else None
        if self._wire is not None:
            self.sent_s = self._wire.sent_s

    def came(self, part: bytes) -> None:
        """Keep a part with the instant at which it came."""
        self.parts.append((time.monotonic() if self._wire is None else self._wire.came_s, part))

    def parsed(self, fault: str) -> str:
        """Read all that came; returns the fault of what it says, else the one of its transport, '' for none."""
        try:
            for at_s, line in self._lines():
                self.take(line, at_s)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"garbage: {error}".encode("utf-8", "replace").decode()  # half a character cannot be written down
        return fault or ("" if self.done else "cut: the stream ended without its end mark")

    def _lines(self) -> Iterator[tuple[float, str]]:
        """Yield the lines of server-sent events; a line came when its last byte did."""
        rest = b""
        for at_s, part in self.parts:
            *lines, rest = (rest + part).split(b"\n")
            yield from ((at_s, line.decode("utf-8", "replace").rstrip("\r")) for line in lines)
        if rest:
            yield self.parts[-1][0], rest.decode("utf-8", "replace")

    def take(self, line: str, at_s: float) -> None:
        """Take one line of server-sent events that came at an instant; ValueError for what is no JSON."""
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data, parse_constant=_no_number)
        if not isinstance(event, dict):
            raise ValueError(f"an event is no JSON object: {data[:80]}")
        if "error" in event:
            raise ValueError(f"the server says {str(event['error'])[:200]}")
        for choice in event["choices"]:
            delta = choice.get("delta") or choice
            if delta.get("text") or delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"):
                self.chunk_s.append(at_s)
            if choice.get("finish_reason"):
                self.finished_s = at_s
        self.usage = _counts(event.get("usage") or {}) or self.usage
        self.timings = _timings(event.get("timings") or {}) or self.timings

    def generation(self, fault: str) -> Generation:
        """Return what came as one record; without another fault, its claims are judged."""
        counted = self.usage.get("prompt_tokens")
        asked = self.asked[0]
        generation = Generation(
            asked_prompt_tokens=(counted or 0) if asked is None else asked,
            asked_output_tokens=self.asked[1],
            sent_s=self.sent_s,
            first_token_s=self._first_token_s(),
            finished_s=self.finished_s,
            chunk_s=tuple(self.chunk_s),
            prompt_tokens=counted,
            output_tokens=self.usage.get("completion_tokens"),
            cached_tokens=self.usage.get("cached_tokens"),
            server_prefill_s=self.timings.get("prompt_ms"),
            server_decode_s=self.timings.get("predicted_ms"),
            fault=fault,
        )
        return generation if fault else replace(generation, fault=judged(generation))

    def _first_token_s(self) -> float | None:
        """Return when the first text came; a lone token that is part of a character has none, and ends the answer."""
        if self.chunk_s:
            return self.chunk_s[0]
        return self.finished_s if self.asked[1] == 1 else None


def _counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return what a server counted, by the names of the interface; ValueError for what is no count."""
    details = usage.get("prompt_tokens_details") or {}
    claimed = {key: usage.get(key) for key in ("prompt_tokens", "completion_tokens")}
    claimed["cached_tokens"] = details.get("cached_tokens")
    for key, value in claimed.items():
        if value is not None and not (type(value) is int and 0 <= value < _MOST):
            raise ValueError(f"usage: {key} = {value!r}, should be a count")
    return {key: value for key, value in claimed.items() if value is not None}


def _timings(told: Mapping[str, Any]) -> dict[str, float]:
    """Return the server's own seconds, by its names; ValueError for what are none."""
    claimed = {key: told[key] for key in ("prompt_ms", "predicted_ms") if told.get(key) is not None}
    for key, value in claimed.items():
        if type(value) not in {int, float} or not 0 <= value < _MOST:
            raise ValueError(f"timings: {key} = {value!r}, should be milliseconds")
    return {key: value / 1000 for key, value in claimed.items()}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
