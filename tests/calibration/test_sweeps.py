"""Laws of imported sweeps: laws come back in SI, cached prompts and lagging joules are refused."""

import numpy as np
import pytest

from calibration.fit import decode_terms
from calibration.fitting import fit_sessions, read_recorded
from calibration.sessions import check_growth
from calibration.sources.iiswc26 import COLUMNS, LAG_S, LEAST_S, read_chat_sweep
from calibration.sources.splitwise import COLUMNS as SPLITWISE_COLUMNS
from calibration.sources.splitwise import read_performance_model

PREFILL_S, DECODE_S = (0.05, 2e-3, 3e-7), (0.04, 1.5e-6)
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
WATTS, IDLE_W = 40.0, 11.0


def write_sweep(path, *, device="AGX Orin 32GB", cached=False):
    """Write a sweep of one expert that draws WATTS when busy; the log misses LAG_S of every load's rise."""
    lines = [",".join(COLUMNS)]
    rng = np.random.default_rng(0)
    for day in ("20260711", "20260712"):
        for P in LENGTHS:
            for out in LENGTHS:
                ttft = 0.05 if cached else float(np.polyval(PREFILL_S[::-1], P))
                ttft *= 1 + 0.005 * rng.standard_normal()
                decode = float(decode_terms([P], [out])[0] @ DECODE_S) * (1 + 0.005 * rng.standard_normal())
                joules = [WATTS * s - (WATTS - IDLE_W) * LAG_S for s in (ttft, decode)]
                cells = [f"{day} 08:00:00", "engine", "Llama-3.2-1B", "Q8_0", P, out, 1000 * ttft]
                cells += [1000 * decode / (out - 1), 1000 * IDLE_W, 1000 * WATTS, *(1000 * j for j in joules), device]
                lines.append(",".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_sweep_gives_its_laws_back_in_si(tmp_path):
    """Seconds and joules come back from milliseconds and millijoules, the lag takes less than 10 % of the joules."""
    (sessions,) = read_recorded([write_sweep(tmp_path / "sweep.csv")])
    profile = fit_sessions(sessions).profile
    assert profile.name == "agx-orin-32gb/llama-3.2-1b/engine-q8_0"
    assert (profile.quantization, profile.idle_w, profile.energy_scope) == ("q8_0", IDLE_W, "module")
    P = np.array(LENGTHS)
    assert profile.seconds.prefill_of(P) == pytest.approx(np.polyval(PREFILL_S[::-1], P), rel=0.02)
    assert profile.seconds.decode_of(1, P) == pytest.approx(np.polyval(DECODE_S[::-1], P), rel=0.02)
    base, _, per_context_token = profile.decode_j
    ratio = (base + per_context_token * P) / (WATTS * profile.seconds.decode_of(1, P))
    assert np.all((ratio > 0.9) & (ratio <= 1.01))
    reasons = [row["reason"] for row in profile.evidence["refused_rows"]]
    assert "energy of a prefill in under 2.7 s" in reasons[0]
    assert profile.prefill_j is None  # two lengths are long enough to be metered, three terms need three
    told = profile.evidence["joules_as_recorded"]
    assert told["wall_over_recorded"] == [1.1, 1.15]


def test_what_a_sweep_does_not_say_is_said(tmp_path):
    """Rows without a device carry the sweep's own, and the profile says that they did not name it; zeros are errors."""
    (sessions,) = read_chat_sweep(write_sweep(tmp_path / "sweep.csv", device=""))
    assert sessions.manifest["device"] == "Jetson AGX Orin 32GB"
    assert "not in its rows" in sessions.record["device_named"]
    path = write_sweep(tmp_path / "zero.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace(",128,128,", ",128,0,")]) + "\n")
    with pytest.raises(ValueError, match=r"zero\.csv, row 2: must have tokens of at least 1"):
        read_chat_sweep(path)


def test_prompts_from_a_cache_are_refused(tmp_path):
    """A TTFT that hardly grows over 32 times the prompt is no prefill, whatever the file calls it."""
    (sessions,) = read_chat_sweep(write_sweep(tmp_path / "sweep.csv", cached=True))
    with pytest.raises(ValueError, match=r"sweep\.csv: time to the first token is flat, .* came from a cache"):
        fit_sessions(sessions)
    check_growth("short", [8, 32], [0.1, 0.1])  # too small a span to judge
    for growth, refused in ((1.15, True), (1.25, False)):
        if refused:
            with pytest.raises(ValueError, match="flat"):
                check_growth("x", [100, 800], [0.1, 0.1 * growth])
        else:
            check_growth("x", [100, 800], [0.1, 0.1 * growth])


def test_the_cached_experts_of_the_real_sweep_are_found(data):
    """VLLM with prefix caching, of either model, is refused, and sglang with it; every other expert's TTFT grows."""
    flat = set()
    sweep = read_chat_sweep(data / "measurements" / "iiswc26_agx_orin32_chat_sweep.csv.gz")
    for sessions in sweep:
        try:
            check_growth("", sessions.requests["asked_prompt_tokens"], sessions.requests["ttft_s"])
        except ValueError:  # noqa: PERF203 - the refusal is the law
            flat.add((sessions.manifest["model"], sessions.manifest["label"]))
    assert len(sweep) == 26
    assert flat == {("llama-3.1-8b", "vllm-fp16"), ("llama-3.2-1b", "vllm-fp16"), ("llama-3.2-1b", "sglang-fp16")}


@pytest.mark.parametrize("label", ["vllm-gguf_q4_k_m", "llamacpp-q4_k_m"])
def test_the_real_sweeps_joules_lag_behind_the_power(data, label):
    """Joules of longer and longer prefills are watts x (seconds - lag) + idle watts x lag: the lag is about LAG_S.

    A log without a lag would give 0. It is why windows under ten lags have no energy.
    """
    sweep = read_chat_sweep(data / "measurements" / "iiswc26_agx_orin32_chat_sweep.csv.gz")
    (found,) = [s for s in sweep if (s.manifest["model"], s.manifest["label"]) == ("llama-3.1-8b", label)]
    table = read_prefill_joules(data, found)
    long = table[:, 0] > 1.0
    watts, lost = np.polyfit(table[long, 0], table[long, 1], 1)
    lag = -lost / (watts - found.idle_w)
    print(f"{label}: the log lags by {lag:.2f} s")
    assert 0.5 * LAG_S < lag < 2.2 * LAG_S
    assert LEAST_S == 10 * LAG_S


def read_prefill_joules(data, sessions):
    """Return seconds and joules of every prefill of an expert, also of those too short to be used, shape (n, 2)."""
    import csv
    import gzip

    framework, quantization = sessions.manifest["label"].split("-", 1)
    with gzip.open(data / "measurements" / "iiswc26_agx_orin32_chat_sweep.csv.gz", "rt") as file:
        rows = [
            (float(row["ttft_ms"]) / 1e3, float(row["prefill_energy_mj"]) / 1e3)
            for row in csv.DictReader(file)
            if row["framework"] == framework
            and row["quantization"].lower() == quantization
            and row["model"].lower() == sessions.manifest["model"]
        ]
    return np.array(rows)


def test_splitwise_gives_batch_terms_and_no_energy(tmp_path):
    """Token times made by d + eB + fC give d, e and f back; each hardware and number of cards is an expert."""
    d, e, f = 0.04, 2e-4, 3e-7
    lines = [",".join(SPLITWISE_COLUMNS)]
    for P in (128, 512, 2048, 8192):
        for B in (1, 2, 8, 32):
            for out in (128, 512):
                token = d + e * B + f * B * (P + out / 2)
                prefill = B * float(np.polyval(PREFILL_S[::-1], P))
                lines.append(f"llama2-70b,a100-80gb,{P},{B},{out},{1000 * prefill},{1000 * token},8")
    path = tmp_path / "splitwise.csv"
    path.write_text("\n".join(lines) + "\n")
    (sessions,) = read_performance_model(path)
    profile = fit_sessions(sessions).profile
    assert profile.name == "8-x-a100-80gb/llama-2-70b/unknown"
    assert profile.seconds.decode == pytest.approx((d, e, f), rel=1e-3)
    assert profile.seconds.prefill == pytest.approx(PREFILL_S, rel=1e-3)
    assert (profile.joules, profile.idle_w) == (None, None)
    assert (profile.quantization, profile.provenance.energy, profile.energy_scope) == (None, None, None)
    assert profile.evidence["refused_rows"][0]["reason"].startswith("prompt time of a batch")


def test_the_real_machines_of_splitwise(data):
    """Its 70B model decodes faster on more and newer cards, and slower in larger batches."""
    found = read_recorded([data / "measurements" / "splitwise_perf_model.csv"])
    assert len(found) == 12
    chosen = [s for s in found if s.manifest["device"] in {"2 x A100-80GB", "8 x H100-80GB"}]
    lone = [
        fit_sessions(s).profile.seconds.decode_of([1, 32], [1000, 32_000])
        for s in chosen
        if s.manifest["model"] == "llama-2-70b"
    ]
    alone_s, batch_s = np.transpose(lone)
    assert alone_s[0] > alone_s[1]
    assert np.all(batch_s > alone_s)
