"""A server that streams as OpenAI's interface does, for any number of requests at once, and can be made to go wrong."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

# Two more take the whole server away: "killed" at once, "ended" once it has answered all that came before.
WRONG = ("http 500", "http 400", "stall", "cut", "garbage", "cached", "no count", "no number")


MODELS = json.dumps({"data": [{"id": "small", "meta": {"n_vocab": 500}}]})


class TestbedServer:
    """Serves each request on its own, a token every `token_s`.

    `does` names what it does wrong with a prompt of so many tokens, '' for nothing; a warm-up has 16.

    `asked` has the body of every request for completion that came; all but the first, a warm-up, wait
    until `holds` have come. Text comes in events of `chunk` tokens. `models` is what it says of its models, `slots` the
    slots that it tells as llama.cpp does, None for a server that tells none. `n_heads` counts requests of any kind.
    """

    __test__ = False  # no test, whatever its name

    def __init__(self, *, token_s=0.001, does=lambda _: "", holds=0, chunk=1, models=MODELS, slots=None):
        self.models, self.slots, self.n_heads = models, slots, 0
        self.token_s, self.does, self.holds, self.chunk = token_s, does, holds, chunk
        self.asked, self.heads, self.n_open, self.most_open, self.n_ending = [], [], 0, 0, 0
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1000))
        self.address = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.writers = set()

    def die(self):
        """Close the port and every connection, as a process that is killed does."""
        asyncio.run_coroutine_threadsafe(self._die(), self.loop).result(5)

    async def _die(self):
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()

    async def _connected(self, reader, writer):
        if not self.server.is_serving():  # it died between the kernel's welcome and this one
            writer.transport.abort()
            return
        self.writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        self.writers.discard(writer)
        with suppress(ConnectionError):
            writer.close()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.n_heads += 1
        if head.startswith("GET /props") and self.slots is None:
            _reply(writer, 404, "")
            return
        if head.startswith("GET"):
            _reply(writer, 200, _props(self.slots) if head.startswith("GET /props") else self.models)
            return
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        body = json.loads(await reader.readexactly(length))
        self.asked.append(body)
        self.heads.append(head)
        self.n_open += 1
        self.most_open = max(self.most_open, self.n_open)
        try:
            await self._complete(writer, body, self.does(_prompt_tokens(body)))
        finally:
            self.n_open -= 1

    async def _complete(self, writer, body, wrong):
        if wrong == "ended":
            self.server.close()
            self.n_ending += 1
            while self.n_open > self.n_ending:
                await asyncio.sleep(0.005)
        if wrong in {"killed", "ended"}:
            await self._die()
        if wrong.startswith("http"):
            _reply(writer, int(wrong[5:]), "out of memory", packed=True)  # which it is not
            return
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if wrong == "stall":
            await asyncio.sleep(60)
        while 1 < len(self.asked) < self.holds:
            await asyncio.sleep(0.005)
        for n in range(-(-body["max_tokens"] // self.chunk)):
            await asyncio.sleep(self.token_s)
            _event(writer, choices=[{"text": "a"}])
            if wrong == "garbage":
                writer.write(b"data: {not json\n\n")
            if wrong == "cut" and n == 1:
                return
        usage = {"prompt_tokens": _prompt_tokens(body), "completion_tokens": body["max_tokens"]}
        usage["prompt_tokens_details"] = {"cached_tokens": 3 * (wrong == "cached")}
        usage |= {"prompt_tokens": "many"} if wrong == "no count" else {}
        timings = {"prompt_ms": float("nan") if wrong == "no number" else 1000 * self.token_s}
        _event(writer, choices=[{"text": "", "finish_reason": "length"}], usage=usage, timings=timings)
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()


def _props(slots):
    return json.dumps({"total_slots": slots, "default_generation_settings": {"n_ctx": 4096}})


def _prompt_tokens(body):
    return len(body["prompt"] if isinstance(body["prompt"], list) else body["prompt"].split())


def _reply(writer, status, text, *, packed=False):
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
    writer.write(f"{head}{'Content-Encoding: gzip' if packed else 'X: y'}\r\n\r\n{text}".encode())


def _event(writer, **event):
    writer.write(f"data: {json.dumps(event)}\n\n".encode())


@contextmanager
def testbed_server(**options) -> Iterator[TestbedServer]:
    """Yield a server that runs in a thread of its own until the block ends."""
    server = TestbedServer(**options)
    thread = Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.die()
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join()
        for task in asyncio.all_tasks(server.loop):
            task.cancel()
        server.loop.run_until_complete(asyncio.sleep(0.01))
        server.loop.close()


testbed_server.__test__ = False
