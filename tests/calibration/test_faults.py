"""Whatever a server sends back is one fault in one line, bounded in memory and time, alike for both clients."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from calibration.runtimes.async_endpoint import AsyncEndpoint, many_connections
from calibration.runtimes.endpoint import Endpoint
from calibration.runtimes.stream import request_body

OK = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT = b'data: {"choices": [{"text": "a"}]}\n\n'
USAGE = b'{"prompt_tokens": 2, "completion_tokens": 2}'
END = b'data: {"choices": [{"text": "", "finish_reason": "length"}], "usage": %b}\n\n' % USAGE
DONE = b"data: [DONE]"

ANSWERS = {  # what comes back: whole, and then what repeats until the client hangs up
    "as asked, the last line without an end": (OK + TEXT + TEXT + END + DONE, b"", ""),
    "a page": (OK + b"<html>\n<b>hi</b>", b"", "garbage: no stream of events but <html> <b>hi</b>"),
    "no HTTP": (b"\0\1\2\3\r\n\r\n", b"", "garbage: no answer of HTTP ("),
    "nothing": (b"", b"", "cut: the connection was dropped before any answer"),
    "half an event": (OK + TEXT + TEXT[:9], b"", "cut: the stream ended without its end mark"),
    "half a chunk": (CHUNKED + b"ff\r\ndata: {", b"", "cut: peer closed connection"),
    "no JSON": (OK + b"data: {no\n\n" + DONE, b"", "garbage: an event is no JSON: {no"),
    "deep JSON": (OK + b"data: " + b"[" * 100_000 + b"\n\n", b"", "garbage: an event is no JSON: [[["),
    "other JSON": (OK + b'data: {"choices": null}\n\n', b"", 'garbage: an event is not of the interface: {"ch'),
    "an error within": (OK + TEXT + b'data: {"error": {"message": "out of\\nmemory"}}\n', b"", "error: out of memory"),
    "text after its end": (OK + TEXT + END, TEXT + DONE, "garbage: text came after the event that"),
    "a refusal in colours": (b"HTTP/1.1 502 x\r\n\r\n\x1b[31m<b>\nno\x1b[0m", b"", "http 502: ?[31m<b> no?[0m"),
    "elsewhere": (b"HTTP/1.1 307 x\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", b"", "http 307: http://x/"),
    "no word": (b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", b"", "http 503"),
    "a refusal without end": (b"HTTP/1.1 500 x\r\n\r\n", b"no" * 5000, "http 500: nono"),
    "a stream without end": (OK, TEXT * 1000, "garbage: more than 1081344 bytes came for 2 tokens"),
    "a line without end": (OK, b"x" * 50_000, "garbage: more than 1081344 bytes came for 2 tokens"),
}  # fmt: skip


@contextmanager
def answering(first: bytes, then: bytes, *, reset: bool = False) -> Iterator[str]:
    """Yield the address of a server that answers every request for completion with these bytes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                with suppress(ConnectionError):
                    answer(listening.accept()[0])

    def answer(connection):
        with connection, connection.makefile("rb") as asked:
            head = b"".join(iter(asked.readline, b"\r\n"))
            if not head.startswith(b"POST"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            asked.read(int(head.lower().partition(b"content-length:")[2].split()[0]))
            connection.sendall(first)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for _ in range(0 if not then else 1 if DONE in then else 10_000):
                connection.sendall(then)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def asked_at_once(address: str) -> str:
    async def ask():
        endpoint = AsyncEndpoint(address)
        try:
            return (await endpoint.generate(request_body("m", [1, 2], 2), 2, 2)).fault
        finally:
            await endpoint.close()

    return asyncio.run(ask())


def asked_alone(address: str) -> str:
    endpoint = Endpoint(address, "m")
    try:
        return endpoint.generate([1, 2], 2).fault
    finally:
        endpoint.close()


CLIENTS = pytest.mark.parametrize("ask", [asked_at_once, asked_alone])


@CLIENTS
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_good_or_one_fault_in_one_line(answer, ask):
    """The fault begins with its kind, names what came, and is text that cannot steer a terminal or break a line."""
    first, then, told = ANSWERS[answer]
    with answering(first, then) as address:
        found = ask(address)
    assert found.startswith(told)
    assert bool(found) == bool(told)
    assert found.isprintable()
    assert len(found) < 300
    json.dumps(found).encode()


@CLIENTS
def test_a_connection_that_fails_says_why(ask):
    """Refused is unreachable, reset is a cut: in the words of the system, never an empty reason."""
    with answering(OK + TEXT, b"", reset=True) as address:
        assert ask(address).lower().startswith(("cut: connection reset", "cut: the stream ended"))
    assert ask(address).lower() == "unreachable: connection refused"


def test_connections_are_not_limited_by_what_holds_unless_asked():
    """Within the block as many files may be open as the system allows, after it as many as before."""
    resource = pytest.importorskip("resource", reason="this system has no such limits")
    kind = resource.RLIMIT_NOFILE
    before, hard = resource.getrlimit(kind)
    lower = min(before, 256)
    resource.setrlimit(kind, (lower, hard))
    try:
        with many_connections():
            within = resource.getrlimit(kind)[0]
        assert resource.getrlimit(kind) == (lower, hard)
    finally:
        resource.setrlimit(kind, (before, hard))
    assert within > lower or hard == lower
