"""Laws of other tools' files: what goes out comes back, units are theirs at the file and SI here."""

import json

import numpy as np
import pytest
from fault_server import fault_server
from test_session import PLAN, record, requests_of

from calibration.session_profile import session_profile
from calibration.sources.aiperf import read_aiperf, write_aiperf
from calibration.sources.llama_bench import read_llama_bench

PREFILL, DECODE = (0.01, 2e-4, 3e-8), (0.02, 4e-6)


def bench(prompt, generated, depth, seconds):
    return {
        "build_commit": "abc",
        "build_number": 1,
        "cpu_info": "a CPU",
        "gpu_info": "a GPU",
        "model_filename": "models/small.gguf",
        "n_prompt": prompt,
        "n_gen": generated,
        "n_depth": depth,
        "samples_ns": [1e9 * s for s in seconds],
    }


def test_llama_bench_gives_its_coefficients_back(tmp_path):
    """Prompt tests give the prefill, generations at a depth the decode; a test of both is refused and listed."""
    prefills = [(P, float(np.polyval(PREFILL[::-1], P))) for P in (64, 256, 512, 1024, 2048)]
    decodes = [
        (depth, n, sum(DECODE[0] + DECODE[1] * (depth + j) for j in range(1, n + 1)))
        for depth in (0, 512, 2048)
        for n in (32, 128)
    ]
    tests = [bench(P, 0, 0, [s, s]) for P, s in prefills] + [bench(0, n, depth, [s, s]) for depth, n, s in decodes]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([*tests, bench(512, 128, 0, [9.0])]))
    profile = session_profile(read_llama_bench(path), name="a/small/q4", quantization="q4")
    assert profile.seconds.prefill == pytest.approx(PREFILL, rel=1e-3)
    assert (profile.seconds.base, profile.seconds.per_context_token) == pytest.approx(DECODE, rel=1e-3)
    assert profile.joules is None
    assert profile.evidence["refused_rows"][0]["n"] == 1
    assert (profile.device, profile.runtime) == ("a GPU", "llama.cpp abc (1), llama-bench")
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"bench\.json: cannot be read as the output of llama-bench"):
        read_llama_bench(path)


def test_aiperf_records_go_out_and_come_back(tmp_path):
    """A recording written as AIPerf's records and read again has the same instants, lengths and faults."""
    with fault_server("lying output", ok_first=10) as address:
        frame = requests_of(record(tmp_path / "r", address, PLAN))
    n = write_aiperf(tmp_path / "r", tmp_path / "profile_export.jsonl")
    back = read_aiperf(tmp_path / "profile_export.jsonl", device="a CPU", model="small")
    good = frame[frame["fault"] == ""].sort_values("sent_s")
    assert n == len(frame)
    assert back.refused == ({"n": n - len(good), "reason": "usage"},)
    ttft_s = (good["first_token_s"] - good["sent_s"]).to_numpy()
    assert back.requests["ttft_s"].to_numpy() == pytest.approx(ttft_s, abs=1e-9)
    assert back.requests["asked_prompt_tokens"].to_list() == good["asked_prompt_tokens"].to_list()
    assert set(back.requests["concurrency"]) == {1}


def test_an_aiperf_record_of_its_own_documentation_reads(tmp_path):
    """A served and a cancelled record as AIPerf writes them: milliseconds become seconds, the cancelled one is told."""
    served = {
        "metadata": {"request_start_ns": 1759813207532900363, "was_cancelled": False},
        "metrics": {
            "input_sequence_length": {"value": 550, "unit": "tokens"},
            "output_sequence_length": {"value": 9, "unit": "tokens"},
            "time_to_first_token": {"value": 255.5, "unit": "ms"},
            "request_latency": {"value": 297.5, "unit": "ms"},
        },
        "error": None,
    }
    cancelled = {"metadata": {}, "metrics": {}, "error": {"code": 499, "type": "RequestCancellationError"}}
    path = tmp_path / "profile_export.jsonl"
    path.write_text(json.dumps(served) + "\n" + json.dumps(cancelled) + "\n")
    sessions = read_aiperf(path, device="d", model="m")
    assert sessions.requests[["ttft_s", "decode_s"]].iloc[0].to_list() == pytest.approx([0.2555, 0.042])
    assert sessions.refused == ({"n": 1, "reason": "RequestCancellationError"},)
    warm = {**served, "metadata": {"request_start_ns": 1, "benchmark_phase": "warmup"}}
    path.write_text(json.dumps(warm) + "\n" + json.dumps(served) + "\n")
    assert read_aiperf(path, device="d", model="m").refused == ({"n": 1, "reason": "warm-up"},)
    path.write_text('{"metadata": {}}\n')
    with pytest.raises(ValueError, match="line 1: is no record of AIPerf"):
        read_aiperf(path, device="d", model="m")
