"""What passes between a client and its server, stamped where it passes: a request leaves in one piece, at one instant.

httpx writes the head of a request and its body apart. On a busy machine the head wakes the server, which takes the
client's core before the body is out, and the client's own work on a request and an answer would be in every duration.
"""

import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from math import nan
from typing import Any

import httpcore
import httpx

__all__ = ["AsyncWire", "Wire", "stamp_wires"]


class Wire(httpcore.NetworkStream):
    """A connection that holds what is written until an answer is awaited; instants of the monotonic clock in seconds.

    `sent_s` is when the last request began to leave, `came_s` when the last bytes came.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._held: list[bytes] = []
        self._timeout: float | None = None
        self.sent_s = self.came_s = nan

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hold what is to be sent."""
        self._held.append(buffer)
        self._timeout = timeout

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Send what is held, then return what comes; b'' at the end."""
        if self._held:
            whole, self._held = b"".join(self._held), []
            self.sent_s = time.monotonic()
            with suppress(httpcore.WriteError):  # as httpcore does: a server that hangs up early may have said why
                self._inner.write(whole, self._timeout)
        came = self._inner.read(max_bytes, timeout)
        self.came_s = time.monotonic()
        return came

    def close(self) -> None:
        """Close the connection; what is held is not sent."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the encrypted connection."""
        return Wire(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection tells of itself."""
        return self._inner.get_extra_info(info)


class AsyncWire(httpcore.AsyncNetworkStream):
    """A `Wire` for a client of many requests at once."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._held: list[bytes] = []
        self._timeout: float | None = None
        self.sent_s = self.came_s = nan

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hold what is to be sent."""
        self._held.append(buffer)
        self._timeout = timeout

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Send what is held, then return what comes; b'' at the end."""
        if self._held:
            whole, self._held = b"".join(self._held), []
            self.sent_s = time.monotonic()
            with suppress(httpcore.WriteError):
                await self._inner.write(whole, self._timeout)
        came = await self._inner.read(max_bytes, timeout)
        self.came_s = time.monotonic()
        return came

    async def aclose(self) -> None:
        """Close the connection; what is held is not sent."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the encrypted connection."""
        return AsyncWire(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection tells of itself."""
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Makes each connection a `Wire`."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return Wire(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """Makes each connection an `AsyncWire`."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return AsyncWire(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))


def stamp_wires(client: httpx.Client | httpx.AsyncClient) -> None:
    """Let a client's own connections be wires; those through a proxy stay as they are.

    httpx offers no option for it: its pool's way to connect is replaced.
    """
    pool: Any = client._transport._pool  # type: ignore[union-attr]
    backend = _Backend if isinstance(client, httpx.Client) else _AsyncBackend
    pool._network_backend = backend(pool._network_backend)
