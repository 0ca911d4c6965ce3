"""Any OpenAI-compatible streaming endpoint that takes prompts as token ids (llama.cpp's server, vLLM and others)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import httpx

from calibration.profile import did_you_mean
from calibration.runtimes.faults import DROPPED, MOST_TOLD, of_answer, of_transport, timeout
from calibration.runtimes.generation import Generation
from calibration.runtimes.stream import HEADERS, Stream, request_body
from calibration.runtimes.wire import stamp_wires

_VOCABULARY = 30_000  # ids that every tokenizer of a present-day model has, where the server does not tell


class Endpoint:
    """A server at `url`, asked for `model` (None: the only one it has)."""

    def __init__(self, url: str, model: str | None = None, *, stall_s: float = 60.0, key: str | None = None) -> None:
        """`stall_s` is how long nothing may come before a generation has failed; `key` is the secret of its API.

        Raises ValueError for what is no URL or no patience. A password in the URL is used and told nowhere.
        """
        if not 0 < stall_s < inf:
            raise ValueError(f"stall_s: found {stall_s}, must be above 0 seconds and finite")
        address = url.rstrip("/").removesuffix("/v1")
        self.url = _without_password(address)
        self.model = model
        self.stall_s = stall_s
        self.vocabulary = _VOCABULARY
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self._client = httpx.Client(base_url=address, timeout=timeout(stall_s), headers=headers)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url}: not a URL ({error}); it should be one like http://127.0.0.1:8080") from error
        stamp_wires(self._client)

    def report(self) -> dict[str, Any]:
        """Return the server's model, build, slots and context; ValueError when it is not ready or has another model."""
        try:
            models = self._client.get("/v1/models").raise_for_status().json()["data"]
            names = [str(model["id"]) for model in models]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.url}: no OpenAI-compatible endpoint is ready there ({_why(error)})") from error
        if self.model is None and len(names) == 1:
            self.model = names[0]
        if self.model not in names:
            near = did_you_mean(self.model or "", names)
            raise ValueError(
                f"{self.url}: asked for model {self.model!r}, it serves {', '.join(names) or 'none'}{near}"
            )
        meta = next(model for model in models if model.get("id") == self.model).get("meta") or {}
        self.vocabulary = int(meta.get("n_vocab") or _VOCABULARY)
        return {"url": self.url, "model": self.model, "model_meta": meta, **self._props()}

    def generate(self, prompt: Sequence[int], output_tokens: int) -> Generation:
        """Send one prompt of token ids, with its output length forced and caching off.

        The clock starts when the finished request begins to leave, and what comes is stamped as it comes and parsed
        after the last byte, so that no work of the client's is in any duration.
        """
        body, lengths = request_body(self.model, prompt, output_tokens), (len(prompt), output_tokens)
        self._connect()
        stream, fault = self._asked(body, lengths)
        if fault == DROPPED:  # servers close idle connections: dropped before any answer, it is tried once more
            stream, fault = self._asked(body, lengths)
        return stream.generation(fault)

    def _connect(self) -> None:
        """Leave a fresh open connection in the pool, so that opening one is in no duration; a fault is met later."""
        with suppress(httpx.HTTPError):
            self._client.get("/health")

    def _asked(self, body: bytes, lengths: tuple[int, int]) -> tuple[Stream, str]:
        """Send a request; returns what came and its fault, '' for none."""
        request = self._client.build_request("POST", "/v1/completions", content=body, headers=HEADERS)
        stream = Stream(*lengths)
        fault = self._received(request, stream)
        return stream, stream.parsed(fault)

    def _received(self, request: httpx.Request, stream: Stream) -> str:
        """Stamp what comes until the stream ends; returns the fault of its transport, '' for none."""
        try:
            answer = self._client.send(request, stream=True)
            try:
                if answer.status_code != httpx.codes.OK:
                    return of_answer(answer, _begin(answer.iter_raw()))
                stream.answered_by(answer.extensions.get("network_stream"))
                for part in answer.iter_raw():
                    stream.came(part)
                    if fault := stream.overflown:
                        return fault
            finally:
                answer.close()
        except httpx.HTTPError as error:
            return of_transport(error, answered=stream.answered, stall_s=self.stall_s)
        return ""

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


def _begin(parts: Iterator[bytes]) -> bytes:
    """Return the first bytes of a refusal, as they came, packed or not."""
    told = b""
    for part in parts:
        told += part
        if len(told) >= MOST_TOLD:
            break
    return told


def _without_password(url: str) -> str:
    """Return a URL without the user and the password that may stand before its host."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _why(error: Exception) -> str:
    """Return an error's first line, for a refusal with the way out; the others are links to read more."""
    refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}
    key = "; does it ask for a key? see --key-variable (key_variable in a file of endpoints)" if refused else ""
    return f"{str(error).partition(chr(10))[0]}{key}"
