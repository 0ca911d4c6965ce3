"""Any OpenAI-compatible streaming endpoint that takes prompts as token ids (llama.cpp's server, vLLM and others)."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from calibration.profile import did_you_mean
from calibration.runtimes.generation import Generation, judged

_DROPPED = "cut: the connection was dropped before any answer"
_VOCABULARY = 30_000  # ids that every tokenizer of a present-day model has, where the server does not tell


class Endpoint:
    """A server at `url`, asked for `model` (None: the only one it has); connections are kept open between requests."""

    def __init__(self, url: str, model: str | None = None, *, stall_s: float = 60.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model = model
        self.stall_s = stall_s
        self.vocabulary = _VOCABULARY
        timeout = httpx.Timeout(stall_s, connect=min(stall_s, 10.0))
        self._client = httpx.Client(base_url=self.url, timeout=timeout)

    def report(self) -> dict[str, Any]:
        """Return the server's model, build, slots and context; ValueError when it is not ready or has another model."""
        try:
            models = self._client.get("/v1/models").raise_for_status().json()["data"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.url}: no OpenAI-compatible endpoint is ready there ({error})") from error
        names = [str(model.get("id")) for model in models]
        if self.model is None and len(names) == 1:
            self.model = names[0]
        if self.model not in names:
            near = did_you_mean(self.model or "", names)
            raise ValueError(f"{self.url}: asked for model {self.model!r}, it serves {', '.join(names)}{near}")
        meta = next(model for model in models if model.get("id") == self.model).get("meta") or {}
        self.vocabulary = int(meta.get("n_vocab") or _VOCABULARY)
        return {"url": self.url, "model": self.model, "model_meta": meta, **self._props()}

    def generate(self, prompt: Sequence[int], output_tokens: int) -> Generation:
        """Send one prompt of token ids, with its output length forced and caching off."""
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_prompt": False,
        }
        seen, fault = self._asked(body)
        if (
            fault == _DROPPED
        ):  # servers close idle connections: one that was dropped before any answer is tried once more
            seen, fault = self._asked(body)
        return seen.generation(fault)

    def _asked(self, body: dict[str, Any]) -> tuple["_Seen", str]:
        """Send a request; returns what came and the fault of its transport, '' for none."""
        seen = _Seen(len(body["prompt"]), body["max_tokens"])
        try:
            with self._client.stream("POST", "/v1/completions", json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    return seen, f"http {answer.status_code}: {answer.read().decode('utf-8', 'replace')[:200]}"
                seen.answered = True
                for line in answer.iter_lines():
                    seen.take(line)
        except httpx.TimeoutException:
            return seen, f"stalled: nothing came for {self.stall_s:g} s"
        except httpx.RemoteProtocolError as error:
            return seen, f"cut: {error}" if seen.answered else _DROPPED
        except httpx.HTTPError as error:
            return seen, f"unreachable: {error}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return seen, f"garbage: {error}"
        return seen, "" if seen.done else "cut: the stream ended without its end mark"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _props(self) -> dict[str, Any]:
        """Return what llama.cpp's server tells beyond the common interface; nothing from other servers."""
        try:
            props = self._client.get("/props").raise_for_status().json()
            return {
                "build": props.get("build_info"),
                "slots": props.get("total_slots"),
                "context_tokens": props["default_generation_settings"]["n_ctx"],
                "model_file_type": props.get("model_ftype"),
            }
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return {}


class _Seen:
    """What has come of one stream so far."""

    def __init__(self, prompt_tokens: int, output_tokens: int) -> None:
        self.asked = (prompt_tokens, output_tokens)
        self.sent_s = time.monotonic()
        self.chunk_s: list[float] = []
        self.finished_s: float | None = None
        self.usage: dict[str, Any] = {}
        self.timings: dict[str, Any] = {}
        self.answered = False
        self.done = False

    def take(self, line: str) -> None:
        """Take one line of server-sent events; ValueError for what is no JSON."""
        at_s = time.monotonic()
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if "error" in event:
            raise ValueError(f"the server says {str(event['error'])[:200]}")
        for choice in event["choices"]:
            delta = choice.get("delta") or choice
            if delta.get("text") or delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"):
                self.chunk_s.append(at_s)
            if choice.get("finish_reason"):
                self.finished_s = at_s
        self.usage = event.get("usage") or self.usage
        self.timings = event.get("timings") or self.timings

    def generation(self, fault: str) -> Generation:
        """Return what came as one record; without another fault, its claims are judged."""
        details = self.usage.get("prompt_tokens_details") or {}
        generation = Generation(
            asked_prompt_tokens=self.asked[0],
            asked_output_tokens=self.asked[1],
            sent_s=self.sent_s,
            first_token_s=self._first_token_s(),
            finished_s=self.finished_s,
            chunk_s=tuple(self.chunk_s),
            prompt_tokens=self.usage.get("prompt_tokens"),
            output_tokens=self.usage.get("completion_tokens"),
            cached_tokens=details.get("cached_tokens"),
            server_prefill_s=_seconds(self.timings.get("prompt_ms")),
            server_decode_s=_seconds(self.timings.get("predicted_ms")),
            fault=fault,
        )
        return generation if fault else replace(generation, fault=judged(generation))

    def _first_token_s(self) -> float | None:
        """Return when the first text came; a lone token that is part of a character has none, and ends the answer."""
        if self.chunk_s:
            return self.chunk_s[0]
        return self.finished_s if self.asked[1] == 1 else None


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else float(ms) / 1000
