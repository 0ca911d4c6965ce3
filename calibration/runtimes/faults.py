"""What went wrong on the way to a server and back, in one line each: the first word says of what kind it is.

`unreachable`: no connection; `cut`: it ended early; `stalled`: nothing came; `garbage`: what came is not of the
interface; `http …` and `error`: what the server itself says, before its stream and in it. A server's words are told as
text: they cannot steer a terminal.
"""

import os
import socket
import ssl
from collections.abc import Iterator

import httpx

__all__ = ["DROPPED", "MOST_TOLD", "of_answer", "of_transport", "plain", "timeout"]

DROPPED = "cut: the connection was dropped before any answer"
MOST_TOLD = 200
"""Bytes of a refusal that are read and told."""
_CONNECT_S = 10.0
_GONE = "Server disconnected"  # what httpcore says where the server hung up before it answered


def timeout(stall_s: float) -> httpx.Timeout:
    """Return how long a client waits for whatever comes next; for a connection never longer than ten seconds."""
    return httpx.Timeout(stall_s, connect=min(stall_s, _CONNECT_S))


def of_answer(answer: httpx.Response, told: bytes) -> str:
    """Return the fault of an answer that is no stream, with the first bytes of what it told, else where it points."""
    said = plain(told[:MOST_TOLD].decode("utf-8", "replace")) or plain(answer.headers.get("location", ""))
    return f"http {answer.status_code}{f': {said}' if said else ''}"


def of_transport(error: httpx.HTTPError, *, answered: bool, stall_s: float) -> str:
    """Return the fault of a connection on which nothing came, or which ended before its stream did."""
    why = plain(_reason(error))
    if isinstance(error, httpx.ConnectTimeout):
        return f"unreachable: no connection within {min(stall_s, _CONNECT_S):g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"stalled: nothing came for {stall_s:g} s"
    if isinstance(error, httpx.ConnectError):
        return f"unreachable: {why}"
    if answered:
        return f"cut: {why}"
    if isinstance(error, httpx.RemoteProtocolError) and not why.startswith(_GONE):
        return f"garbage: no answer of HTTP ({why})"
    return DROPPED


def plain(text: str) -> str:
    r"""Return a server's words in one line that can be printed and written down.

    >>> plain("<html>\n  <p>\x1b[31mno</p>")
    '<html> <p>?[31mno</p>'
    """
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in words)


def _reason(error: Exception) -> str:
    """Return what the system says of the first cause, else the error's own words, else its kind."""
    told = (_system_words(one) for one in _causes(error) if isinstance(one, OSError))
    return next(filter(None, told), "") or str(error) or type(error).__name__


def _system_words(error: OSError) -> str:
    own = isinstance(error, (ssl.SSLError, socket.gaierror))  # whose numbers are not the system's
    return error.strerror or "" if own or not error.errno else os.strerror(error.errno)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        for one in getattr(error, "exceptions", ()):  # of several addresses of one host
            yield from _causes(one)
        error = error.__cause__ or error.__context__
