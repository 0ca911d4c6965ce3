"""A server that streams as OpenAI's interface does, and then does one thing wrong; for the tests beside."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from threading import Event, Thread

FAULTS = ("none", "stall", "lying prompt", "lying output", "cached", "cut", "garbage", "http 500", "no usage", "silent")


@contextmanager
def fault_server(
    fault: str,
    *,
    ok_first: int = 0,
    then: float = inf,
    token_s: float = 0.0,
    key: str | None = None,
    prompt_ms: float | None = None,
) -> Iterator[str]:
    """Yield the address of a server with a fault in FAULTS, after `ok_first` good answers, in the `then` that follow.

    A stall lasts until the server ends. With a `key` it serves only who brings it; with `prompt_ms` it tells that as
    its own time of a prompt.
    """
    answered, over = [0], Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if key is not None and self.headers["Authorization"] != f"Bearer {key}":
                self.reply(401, "who are you?")
                return
            self.reply(200, json.dumps({"data": [{"id": "small", "meta": {"n_vocab": 500}}]}))

        def reply(self, status, text):
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_POST(self):
            with suppress(BrokenPipeError, ConnectionResetError):  # clients may be killed
                self.complete()

        def complete(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answered[0] += 1
            does = fault if ok_first < answered[0] <= ok_first + then else "none"
            if does == "http 500":
                self.reply(500, "out of memory")
                return
            self.send_response(200)
            self.end_headers()
            self.stream(asked, does)

        def event(self, **event):
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

        def stream(self, asked, does):
            for n in range(asked["max_tokens"]):
                time.sleep(token_s)
                self.event(choices=[{"text": "" if does == "silent" else "a"}])
                if does == "stall":
                    over.wait()
                if does == "garbage":
                    self.wfile.write(b"data: {not json\n\n")
                if does == "cut" and n == 1:
                    return
            usage = {
                "prompt_tokens": len(asked["prompt"]) + (does == "lying prompt"),
                "completion_tokens": asked["max_tokens"] - (does == "lying output"),
                "prompt_tokens_details": {"cached_tokens": 5 * (does == "cached")},
            }
            timings = {} if prompt_ms is None else {"timings": {"prompt_ms": prompt_ms, "predicted_ms": 0.0}}
            usage = {} if does == "no usage" else usage
            self.event(choices=[{"text": "", "finish_reason": "length"}], usage=usage, **timings)
            self.wfile.write(b"data: [DONE]\n\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
