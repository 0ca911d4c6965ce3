"""Laws of runtimes: tokens are the server's count, the first token is the first text, and faults are told."""

import ast
import asyncio
import json
from dataclasses import replace
from pathlib import Path

import httpcore
import numpy as np
import pytest
from fault_server import FAULTS, fault_server

import calibration
from calibration.architectures import Architecture, architecture_of, read_architecture
from calibration.runtimes.async_endpoint import AsyncEndpoint
from calibration.runtimes.endpoint import Endpoint
from calibration.runtimes.random_transformer import RandomTransformer
from calibration.runtimes.stream import request_body
from calibration.runtimes.wire import AsyncWire, Wire
from tests.clock import Clock
from tests.llama_server import llama_server, write_llama

SMALL = Architecture(
    name="small-random",
    vocabulary=300,
    hidden=32,
    intermediate=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    tied_embedding=False,
    qkv_bias=False,
    parameters=50_000,
    context_tokens=1024,
    source="this test",
)
TOLD = {
    "stall": "stalled: nothing came for 2 s",
    "lying prompt": "usage: 8 prompt tokens counted, not as sent",
    "lying output": "usage: 2 output tokens counted, not as forced",
    "cached": "cached: 5 prompt tokens",
    "cut": "cut: ",
    "garbage": "garbage: ",
    "http 500": "http 500: out of memory",
    "no usage": "no usage",
    "silent": "no text",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_server_is_told(fault):
    """A server that stalls, lies, cuts or answers garbage yields a record that says so; an honest one yields none."""
    with fault_server(fault) as address:
        endpoint = Endpoint(address, stall_s=2.0 if fault == "stall" else 60.0)
        endpoint.report()
        generation = endpoint.generate([200] * 7, 3)
        endpoint.close()
    assert (generation.asked_prompt_tokens, generation.asked_output_tokens) == (7, 3)
    if fault == "none":
        assert generation.fault == ""
        assert (generation.prompt_tokens, generation.output_tokens, len(generation.chunk_s)) == (7, 3, 3)
    else:
        assert TOLD[fault] in generation.fault


def test_an_endpoint_that_is_down_or_serves_another_model():
    """No server is one clear error at the start and a fault later; a wrong model is named with the near match."""
    misnamed = pytest.raises(ValueError, match=r"asked for model 'smal', it serves small; did you mean 'small'")
    with fault_server("none") as address, misnamed:
        Endpoint(address, "smal").report()
    with pytest.raises(ValueError, match="no OpenAI-compatible endpoint is ready there"):
        Endpoint(address).report()
    assert Endpoint(address).generate([200], 1).fault.startswith("unreachable")


def test_a_real_server_times_what_its_client_times(tmp_path):
    """On llama.cpp: exact tokens, nothing cached even when asked twice, and its own times lie within the client's.

    The median overhead of the client is printed.
    """
    with llama_server(write_llama(tmp_path / "llama.gguf")) as address:
        endpoint = Endpoint(address)
        report = endpoint.report()
        assert (report["slots"], report["context_tokens"], endpoint.vocabulary) == (1, 8192, 512)
        rng = np.random.default_rng(0)
        prompt = rng.integers(100, 512, 200).tolist()
        generations = [endpoint.generate(prompt, 8) for _ in range(12)]
        endpoint.close()
    assert {g.fault for g in generations} == {""}
    assert {(g.prompt_tokens, g.output_tokens, g.cached_tokens) for g in generations} == {(200, 8, 0)}
    overheads = [g.ttft_s - g.server_prefill_s for g in generations[2:]]
    print(f"client overhead {1000 * np.median(overheads):.2f} ms")
    assert min(overheads) > 0
    assert all(g.server_prefill_s + g.server_decode_s <= g.finished_s - g.sent_s for g in generations)
    assert max((g.server_prefill_s + g.server_decode_s) / (g.finished_s - g.sent_s) for g in generations) > 0.3


class Connection(httpcore.MockStream):
    """A connection on a clock: what comes takes a second, and what is written is kept with its instant."""

    def __init__(self, clock):
        super().__init__([b"first", b"second"])
        self.clock, self.written = clock, []

    def write(self, buffer, *_):
        self.written.append((self.clock.monotonic(), buffer))
        self.clock.sleep(0.25)

    def read(self, max_bytes, timeout=None):
        self.clock.sleep(1.0)
        return super().read(max_bytes, timeout)


class AsyncConnection(httpcore.AsyncMockStream):
    """The same for a client of many requests."""

    def __init__(self, clock):
        super().__init__([b"first", b"second"])
        self.sync = Connection(clock)
        self.written = self.sync.written

    async def write(self, buffer, *_):
        self.sync.write(buffer)

    async def read(self, max_bytes, *_):
        return self.sync.read(max_bytes)


@pytest.mark.parametrize("kind", [Connection, AsyncConnection])
def test_a_request_leaves_in_one_piece_when_its_answer_is_awaited(monkeypatch, kind):
    """Head and body are one write; its instant is the request's, and each part's is when its bytes came."""
    clock = Clock(now_s=100.0)
    monkeypatch.setattr("calibration.runtimes.wire.time", clock)
    connection = kind(clock)
    wire = Wire(connection) if kind is Connection else AsyncWire(connection)

    def done(result):
        return asyncio.run(result) if kind is AsyncConnection else result

    for part in (b"POST / HTTP/1.1\r\n\r\n", b"{}"):
        done(wire.write(part))
        clock.sleep(5.0)  # the client's own work
    assert connection.written == []
    assert done(wire.read(99)) == b"first"
    assert connection.written == [(110.0, b"POST / HTTP/1.1\r\n\r\n{}")]
    assert (wire.sent_s, wire.came_s) == (110.0, 111.25)
    assert done(wire.read(99)) == b"second"
    assert (wire.sent_s, wire.came_s) == (110.0, 112.25)
    assert len(connection.written) == 1


def test_both_clients_stamp_on_the_wire(monkeypatch):
    """Their requests are stamped where they leave and their parts where they come, not by the client around them."""
    stamps = []
    kept = Wire.read, AsyncWire.read

    def read(wire, *arguments, **named):
        came = kept[0](wire, *arguments, **named)
        stamps.append((wire.sent_s, wire.came_s))
        return came

    async def read_async(wire, *arguments, **named):
        came = await kept[1](wire, *arguments, **named)
        stamps.append((wire.sent_s, wire.came_s))
        return came

    monkeypatch.setattr(Wire, "read", read)
    monkeypatch.setattr(AsyncWire, "read", read_async)

    async def asked(address):
        endpoint = AsyncEndpoint(address)
        try:
            return await endpoint.generate(request_body("small", [200] * 7, 3), 7, 3)
        finally:
            await endpoint.close()

    with fault_server("none") as address:
        endpoint = Endpoint(address)
        generations = [endpoint.generate([200] * 7, 3), asyncio.run(asked(address))]
        endpoint.close()
    for generation in generations:
        assert generation.fault == ""
        assert generation.sent_s in [sent_s for sent_s, _ in stamps]
        assert set(generation.chunk_s) <= {came_s for _, came_s in stamps}


def test_a_random_model_in_this_process():
    """Exact lengths, instants in order, and a report that says that its weights are random."""
    runtime = RandomTransformer(SMALL)
    generation = runtime.generate(list(range(50)), 6)
    stamps = [generation.sent_s, *generation.chunk_s]
    assert stamps == sorted(stamps)
    assert (generation.prompt_tokens, generation.output_tokens, generation.fault) == (50, 6, "")
    assert generation.tpot_s == pytest.approx((stamps[-1] - stamps[1]) / 5)
    assert "weights are random" in runtime.report()["weights"]
    runtime.close()


@pytest.mark.parametrize("library", ["torch", "transformers", "pynvml", "jtop"])
def test_a_vendor_library_has_one_home_and_is_imported_where_it_connects(library):
    """One file of the package imports it, inside a function, so that every module loads on every machine."""
    homes = {}
    for path in Path(calibration.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == library for name in names):
                homes.setdefault(path.name, []).append(node in tree.body)
    assert len(homes) == 1
    assert not any(at_the_top for (tops,) in [homes.values()] for at_the_top in tops)


def test_a_shape_is_read_from_a_models_config(tmp_path):
    """The sizes of a known model, written as its config.json, give its architecture back; a missing key is refused."""
    known = architecture_of("llama-3.2-1b")
    config = {
        "vocab_size": known.vocabulary,
        "hidden_size": known.hidden,
        "intermediate_size": known.intermediate,
        "num_hidden_layers": known.layers,
        "num_attention_heads": known.heads,
        "num_key_value_heads": known.kv_heads,
        "max_position_embeddings": known.context_tokens,
        "tie_word_embeddings": True,
    }
    path = tmp_path / known.name / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    assert read_architecture(path) == replace(known, source="config.json")
    path.write_text(json.dumps({**config, "hidden_size": "wide"}))
    with pytest.raises(ValueError, match=r"config\.json: needs whole numbers above 0 for hidden_size"):
        read_architecture(path)
