"""A real llama.cpp server on this machine: a small Llama with random weights and a tokenizer trained on the spot.

Nothing is downloaded. Time hardly depends on the values of weights, so such a server behaves as one with a trained
model of the same shape. It runs in a process of its own with one thread: two threads on a busy two-core machine spin
on each other and are a thousand times slower.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np

READY_S = 60.0
BRAKE_S = 0.006  # each stop wakes every thread of the server: many more stops a second would be work of their own
CONNECTIONS = 64  # each has one of the server's threads while it is open, idle or not; without one a request waits
WORDS = "the queue serves requests in order while watts and tokens flow from prompt to answer over the edge"


def write_llama(
    path: Path,
    *,
    layers: int = 4,
    hidden: int = 128,
    feed_forward: int | None = None,
    context_tokens: int = 8192,
    vocabulary: int = 512,
    seed: int = 0,
) -> Path:
    """Write a Llama of random weights with a byte-level BPE tokenizer as GGUF (float32) and return its path.

    `feed_forward` is the width between its two matrices, twice `hidden` when left out.
    """
    import gguf

    wide = 2 * hidden if feed_forward is None else feed_forward
    vocabulary_tokens, merges = _tokenizer(vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random-llama")
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(hidden // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary_tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary_tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(vocabulary_tokens) - 1))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    for name, values in _weights(len(vocabulary_tokens), layers, (hidden, wide), np.random.default_rng(seed)):
        if name == "output.weight":  # parts of characters, whose text a server holds back, are never the best token
            values[[not _is_text(token) for token in vocabulary_tokens]] = 0.0
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tokenizer(vocabulary: int) -> tuple[list[str], list[str]]:
    """Train a byte-level BPE tokenizer; its tokens in the order of their ids, and its merges. Id 0 ends a text."""
    import json

    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    texts = [f"{WORDS} {n} {n * n} {WORDS.upper()}" for n in range(500)]
    tokenizer.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=["<|end|>"], show_progress=False)
    ids = tokenizer.get_vocab()
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return sorted(ids, key=ids.__getitem__), merges


def _is_text(token: str) -> bool:
    """Return whether a byte-level token is printable ASCII; Ġ stands for a space."""
    return not token.startswith("<|") and token.replace("Ġ", " ").isascii()


def _weights(
    n_tokens: int, layers: int, widths: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    def random(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (rng.standard_normal(shape) * 0.05).astype(np.float32)

    hidden, wide = widths
    ones = np.ones(hidden, dtype=np.float32)
    yield "token_embd.weight", random(n_tokens, hidden)
    for layer in range(layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", ones
        yield f"{block}.attn_q.weight", random(hidden, hidden)
        yield f"{block}.attn_k.weight", random(hidden // 2, hidden)
        yield f"{block}.attn_v.weight", random(hidden // 2, hidden)
        yield f"{block}.attn_output.weight", random(hidden, hidden)
        yield f"{block}.ffn_norm.weight", ones
        yield f"{block}.ffn_gate.weight", random(wide, hidden)
        yield f"{block}.ffn_up.weight", random(wide, hidden)
        yield f"{block}.ffn_down.weight", random(hidden, wide)
    yield "output_norm.weight", ones
    yield "output.weight", random(n_tokens, hidden)


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scheduled_ns(pid: int) -> dict[int, tuple[int, int]]:
    """Return for each thread of a process the nanoseconds that it ran, and that it waited for its processor."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # it may have ended
            ran, waited, _ = (task / "schedstat").read_text(encoding="ascii").split()
            found[int(task.name)] = (int(ran), int(waited))
    return found


@contextmanager
def braked(pid: int, share: float) -> Iterator[None]:
    """Let a process run for a share of the time only, stopped and continued every BRAKE_S; it runs on after the block.

    What a stop takes too long the next ones take less: the share is exact in the long run. Work takes at least 1 /
    share times as long, and longer where the process then has to wait for its core or find its caches again.
    """
    released = Event()
    brake = Thread(target=_brake, args=(pid, share, released), daemon=True)
    brake.start()
    try:
        yield
    finally:
        released.set()
        brake.join()


def _brake(pid: int, share: float, released: Event) -> None:
    began_s, stopped_s = time.monotonic(), 0.0
    while not released.wait(share * BRAKE_S):
        now_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(max(0.0, (now_s - began_s) * (1 / share - 1) - stopped_s / share))
        finally:
            os.kill(pid, signal.SIGCONT)
        stopped_s += time.monotonic() - now_s


@contextmanager
def llama_server(model: Path, **settings: Any) -> Iterator[str]:
    """Yield the address (http://127.0.0.1:port) of a ready server of `model`; it ends with the block.

    For the settings see `llama_process`.
    """
    with llama_process(model, **settings) as (address, _):
        yield address


@contextmanager
def llama_process(
    model: Path,
    *,
    slots: int = 1,
    context_tokens: int = 8192,
    token_budget: int = 512,
    log: Path | None = None,
    core: int | None = None,
) -> Iterator[tuple[str, int]]:
    """Yield the address of a ready server of `model` and the id of its process; it ends with the block.

    `context_tokens` are shared by the slots; `token_budget` is the batch of one iteration; `core` is the one that it
    computes on, as on an accelerator: the threads that speak HTTP have the others of this process.
    """
    flags = [f"--slots={slots}", f"--context={context_tokens}", f"--budget={token_budget}"]
    command = [sys.executable, "-m", "tests.llama_server", str(model), *flags]
    command += [] if core is None else [f"--core={core}"]
    errors = (log or model.with_suffix(".log")).open("w", encoding="utf-8")
    # The end of its standard input tells the server to stop, also when this process dies.
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http"), f"the llama.cpp server did not start: see {errors.name}"
        httpx.get(f"{address}/health", timeout=READY_S).raise_for_status()
        yield address, server.pid
    finally:
        server.kill()
        server.wait()
        for stream in (server.stdin, server.stdout, errors):
            if stream is not None:
                stream.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a model until standard input ends; the first line printed is the address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--budget", type=int, default=512)
    parser.add_argument("--core", type=int)
    asked = parser.parse_args(arguments)
    if asked.core is not None and (others := os.sched_getaffinity(0) - {asked.core}):
        os.sched_setaffinity(0, others)  # threads to come have them too
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.n_ctx = asked.context
    params.n_parallel = asked.slots
    params.n_batch = params.n_ubatch = asked.budget
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = CONNECTIONS
    params.cache_prompt = params.cache_idle_slots = False
    params.cache_ram_mib = 0  # no prompt comes twice, and each would be searched in all before it, ever longer
    params.cont_batching = params.kv_unified = True  # one batch of all sequences' tokens in every iteration
    params.endpoint_slots = params.endpoint_metrics = True
    params.port = 0
    server = xllamacpp.Server(params)
    if asked.core is not None:
        os.sched_setaffinity(_computing_thread(server.listening_address), {asked.core})
    print(server.listening_address, flush=True)
    sys.stdin.read()


def _computing_thread(address: str) -> int:
    """Return the id of this process's thread that a prompt keeps busiest."""
    before = scheduled_ns(os.getpid())
    asked = {"prompt": [5] * 64, "n_predict": 16, "ignore_eos": True}
    httpx.post(f"{address}/completion", json=asked, timeout=READY_S).raise_for_status()
    after = scheduled_ns(os.getpid())
    used = {thread: ns[0] - before.get(thread, (0, 0))[0] for thread, ns in after.items() if thread != os.getpid()}
    return max(used, key=used.__getitem__)


if __name__ == "__main__":
    main()
