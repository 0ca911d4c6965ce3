"""What an OpenAI-compatible server is sent for one generation, and what its stream of events says."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from calibration.runtimes.faults import MOST_TOLD, plain
from calibration.runtimes.generation import Generation, judged
from calibration.runtimes.wire import AsyncWire, Wire

__all__ = ["HEADERS", "Stream", "request_body"]

_MOST = 2**53  # of counts and milliseconds: beyond it a number is not exact
_MOST_BYTES = 2**20  # of a stream, and for each token asked for, so that no server fills the client's memory
_MOST_BYTES_OF_TOKEN = 2**14
_TOLD = 80  # characters of what is no event
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
        self.n_bytes = self.n_events = 0
        self.chunk_s: list[float] = []
        self.finished_s: float | None = None
        self.usage: dict[str, int] = {}
        self.timings: dict[str, float] = {}
        self.error = ""
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
        self.n_bytes += len(part)

    @property
    def overflown(self) -> str:
        """The fault of a stream that is far longer than its tokens could make it, '' before."""
        most = _MOST_BYTES + _MOST_BYTES_OF_TOKEN * self.asked[1]
        return f"garbage: more than {most} bytes came for {self.asked[1]} tokens" if self.n_bytes > most else ""

    def parsed(self, fault: str) -> str:
        """Read all that came; returns the fault of what it says, else the one of its transport, '' for none."""
        try:
            for at_s, line in self._lines():
                self.take(line, at_s)
        except ValueError as error:
            return f"garbage: {plain(str(error))}"
        if self.error:
            return f"error: {plain(self.error)}"
        if fault or self.done:
            return fault
        if self.parts and not self.n_events:
            return f"garbage: no stream of events but {plain(self.parts[0][1][:_TOLD].decode('utf-8', 'replace'))}"
        return "cut: the stream ended without its end mark"

    def _lines(self) -> Iterator[tuple[float, str]]:
        """Yield the lines of server-sent events; a line came when its last byte did, and one without an end is none.

        Only the end mark needs no end of its own.
        """
        rest = b""
        for at_s, part in self.parts:
            *lines, rest = (rest + part).split(b"\n")
            yield from ((at_s, line.decode("utf-8", "replace").rstrip("\r")) for line in lines)
        if rest.rstrip().endswith(b"[DONE]"):
            yield self.parts[-1][0], rest.decode("utf-8", "replace")

    def take(self, line: str, at_s: float) -> None:
        """Take one line of server-sent events that came at an instant; ValueError for what is none of the interface."""
        if not line.startswith("data:"):
            return
        self.n_events += 1
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return
        event = _parsed(data)
        try:
            self._take(event, at_s)
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"an event is not of the interface: {data[:_TOLD]}") from None

    def _take(self, event: Mapping[str, Any], at_s: float) -> None:
        if error := event.get("error"):
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)[:MOST_TOLD]
            return
        for choice in event["choices"]:
            delta = choice.get("delta") or choice
            if delta.get("text") or delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"):
                if self.finished_s is not None:
                    raise ValueError("text came after the event that ended the answer")
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


def _parsed(data: str) -> Mapping[str, Any]:
    try:
        event = json.loads(data, parse_constant=_no_number)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"an event is no JSON: {data[:_TOLD]}") from None
    if not isinstance(event, dict):
        raise ValueError(f"an event is no JSON object: {data[:_TOLD]}")
    return event


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
