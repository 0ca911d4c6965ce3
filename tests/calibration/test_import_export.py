"""Laws of other tools' files: what goes out comes back, units are theirs at the file and SI here."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fault_server import fault_server
from test_session import PLAN, record, requests_of

from calibration.session_profile import session_profile
from calibration.sessions import read_sessions
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
    with pytest.raises(ValueError, match=r"bench\.json: is no output of llama-bench -o json, which is a list"):
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


def test_a_recording_comes_back_from_aiperf_with_its_batches(tmp_path):
    """What the form can hold is the same after there and back: sessions, cells, durations, chunks and batches."""
    plan = replace(PLAN, concurrency=(1, 2), output_tokens=(16,))
    with fault_server("none", token_s=0.005) as address:
        record(tmp_path / "r", address, plan)
    write_aiperf(tmp_path / "r", tmp_path / "profile_export.jsonl")
    there = read_sessions([tmp_path / "r"])
    back = read_aiperf(tmp_path / "profile_export.jsonl", device="a CPU", model="small")
    keys = ["session", "cell", "block", "repeat", "concurrency", "prompt_tokens", "output_tokens"]
    own, again = (s.requests.sort_values("sent_s").reset_index(drop=True) for s in (there, back))
    numbers = dict.fromkeys(keys[2:], float)
    pd.testing.assert_frame_equal(again[keys].astype(numbers), own[keys].astype(numbers))
    for column in ("ttft_s", "decode_s"):
        assert again[column].to_numpy() == pytest.approx(own[column].to_numpy(), abs=1e-8)
    for one, two in zip(own["chunk_s"], again["chunk_s"], strict=True):
        assert np.diff(two) == pytest.approx(np.diff(one), abs=1e-8)
    assert len(there.batches) > 0
    assert back.batches.to_numpy(float) == pytest.approx(there.batches.to_numpy(float), rel=1e-6)
    assert back.refused == ()


def test_requests_that_overlap_at_will_are_counted_and_told(tmp_path):
    """Another generator's overlapping requests are neither lone nor batches of a known size: the reason says so."""
    lines = []
    for n, sent_ns in enumerate((0, 100_000_000, 5_000_000_000)):
        metrics = {
            "input_sequence_length": {"value": 8, "unit": "tokens"},
            "output_sequence_length": {"value": 4, "unit": "tokens"},
            "time_to_first_token": {"value": 200.0, "unit": "ms"},
            "request_latency": {"value": 500.0, "unit": "ms"},
        }
        metadata = {"request_start_ns": 1_759_813_207_000_000_000 + sent_ns, "worker_id": f"worker_{n}"}
        lines.append(json.dumps({"metadata": metadata, "metrics": metrics, "error": None}))
    path = tmp_path / "profile_export.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = read_aiperf(path, device="d", model="m")
    assert found.requests["concurrency"].to_list() == [2, 2, 1]
    assert found.requests["sent_s"].to_list() == [0.0, 0.1, 5.0]  # seconds from the first, so that no digit is lost
    assert (found.refused[0]["n"], len(found.batches)) == (2, 0)
    assert "no batch of a known size" in found.refused[0]["reason"]


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf"), "soon"])
def test_times_that_cannot_be_are_no_record(value, tmp_path):
    """Negative, zero, NaN, infinite and wordy times are refused with the line, in either direction of the form."""
    metrics = {
        "input_sequence_length": {"value": 8, "unit": "tokens"},
        "output_sequence_length": {"value": 4, "unit": "tokens"},
        "time_to_first_token": {"value": value, "unit": "ms"},
        "request_latency": {"value": 500.0, "unit": "ms"},
    }
    path = tmp_path / "profile_export.jsonl"
    path.write_text(json.dumps({"metadata": {"request_start_ns": 1}, "metrics": metrics, "error": None}) + "\n")
    with pytest.raises(ValueError, match=r"export\.jsonl, line 1: is no record of AIPerf"):
        read_aiperf(path, device="d", model="m")


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
