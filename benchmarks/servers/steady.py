"""A server whose prompts all take the same work: what is left in a TTFT beside it is its client's and its meter's.

`python -m benchmarks.servers.steady SECONDS` prints its address; it ends with its standard input. The work is a fixed
number of rounds of a hash, as many as took SECONDS when it began, so that whoever takes its core makes it slower.
"""

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

_TRIAL = 20_000


def serve(seconds: float) -> None:
    """Serve one request at a time, each of about so many seconds of work."""
    server = HTTPServer(("127.0.0.1", 0), Steady)
    server.rounds = rounds_in(seconds)  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()


def rounds_in(seconds: float) -> int:
    """Return how many rounds of the work take so long here, by the fastest of some trials."""
    return max(1, round(_TRIAL * seconds / min(_work_s(_TRIAL) for _ in range(9))))


def _work_s(rounds: int) -> float:
    began_s = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"prompt", b"salt", rounds)
    return time.perf_counter() - began_s


class Steady(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible server does, with one token."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Tell the model; whatever else is asked gets the same."""
        self._reply("application/json", json.dumps({"data": [{"id": "steady"}]}))

    def do_POST(self) -> None:
        """Do the work, then stream one token with its count and the seconds of the work."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seconds = _work_s(self.server.rounds)  # type: ignore[attr-defined]
        event = {
            "choices": [{"text": "a", "finish_reason": "length"}],
            "usage": {"prompt_tokens": len(asked["prompt"]), "completion_tokens": 1},
            "timings": {"prompt_ms": 1000 * seconds},
        }
        self._reply("text/event-stream", f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n")

    def _reply(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    serve(float(sys.argv[1]))
