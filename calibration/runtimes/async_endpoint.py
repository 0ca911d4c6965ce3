"""An OpenAI-compatible endpoint asked for many generations at once, none of which waits for another's connection."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import httpx

from calibration.runtimes.faults import DROPPED, MOST_TOLD, of_answer, of_transport, timeout
from calibration.runtimes.generation import Generation
from calibration.runtimes.stream import HEADERS, Stream
from calibration.runtimes.wire import stamp_wires

__all__ = ["AsyncEndpoint", "many_connections"]


class AsyncEndpoint:
    """A server at `url`; as many connections as there are requests under way, kept open between them.

    `stall_s` is how long nothing may come before a generation has failed; `key` is the secret of its API.
    """

    def __init__(self, url: str, *, stall_s: float = 60.0, key: str | None = None) -> None:
        self.stall_s = stall_s
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/").removesuffix("/v1"),
            timeout=timeout(stall_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
        )
        stamp_wires(self._client)

    async def connect(self, patience_s: float = 10.0) -> None:
        """Ask for something small and leave its connection open, so that opening one is in no duration.

        It is waited for `patience_s` at the most; a fault is met later.
        """
        with suppress(httpx.HTTPError):
            await self._client.get("/health", timeout=patience_s)

    async def generate(self, body: bytes, prompt_tokens: int | None, output_tokens: int) -> Generation:
        """Send a body of `request_body`; faults are in the generation, never raised. Cancelling it hangs up.

        `prompt_tokens` is the length sent, None for a text. What comes is parsed after the last byte.
        """
        stream, fault = await self._asked(body, prompt_tokens, output_tokens)
        if fault == DROPPED:  # servers close idle connections: dropped before any answer, it is tried once more
            stream, fault = await self._asked(body, prompt_tokens, output_tokens)
        return stream.generation(fault)

    async def _asked(self, body: bytes, prompt_tokens: int | None, output_tokens: int) -> tuple[Stream, str]:
        request = self._client.build_request("POST", "/v1/completions", content=body, headers=HEADERS)
        stream = Stream(prompt_tokens, output_tokens)
        fault = await self._received(request, stream)
        return stream, stream.parsed(fault)

    async def _received(self, request: httpx.Request, stream: Stream) -> str:
        """Stamp what comes until the stream ends; returns the fault of its transport, '' for none."""
        try:
            answer = await self._client.send(request, stream=True)
            try:
                if answer.status_code != httpx.codes.OK:
                    return of_answer(answer, await _begin(answer.aiter_raw()))
                stream.answered_by(answer.extensions.get("network_stream"))
                async for part in answer.aiter_raw():
                    stream.came(part)
                    if fault := stream.overflown:
                        return fault
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            return of_transport(error, answered=stream.answered, stall_s=self.stall_s)
        return ""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@contextmanager
def many_connections() -> Iterator[None]:
    """Let this process open as many files as the system allows it, while the block lasts: each connection is one.

    The limit that holds unless asked (1,024 on many systems) is the client's, and no server's fault.
    """
    try:
        import resource  # noqa: PLC0415 - not every system has it
    except ImportError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _begin(parts: AsyncIterator[bytes]) -> bytes:
    """Return the first bytes of a refusal, as they came, packed or not."""
    told = b""
    async for part in parts:
        told += part
        if len(told) >= MOST_TOLD:
            break
    return told
