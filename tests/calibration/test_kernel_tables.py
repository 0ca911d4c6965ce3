"""Laws of composed profiles and the kernel tables under them."""

import numpy as np
import pytest

from calibration.architectures import architecture_of
from calibration.composed import assumed_power
from calibration.iterations import Limits
from calibration.kernels import kernel_profile
from calibration.recordings import Source
from calibration.sources.vllm_kernels import DECODER_LAYER, HEADS, ONCE, read_kernel_tables

CHUNKS, CONTEXTS = (16, 64, 512, 2048), (0, 64, 2048, 8192)


@pytest.fixture
def files(tmp_path):
    """Kernels that take 10 + tokens us each, prefill attention chunk·(context + chunk/2)/100, decode n·kv/10 us."""
    dense = [f"{k},{n},{10 + n}" for k in (*DECODER_LAYER, *ONCE) for n in (1, 64, 2048)]
    heads = [f"{k},{n},{100 + n}" for k in HEADS for n in (1, 256)]
    attention = [f"{c},{kv},0,0,{c * (kv + c / 2) / 100}" for c in CHUNKS for kv in CONTEXTS]
    attention += [f"0,0,{n},{kv},{n * kv / 10}" for n in (1, 4, 16, 128) for kv in (16, 1024, 4096)]
    attention += ["16,16,1,16,999"]  # a mixed iteration, which a lone prefill or decode never is
    for name, header, lines in (
        ("dense", "layer,tokens,time_us", dense),
        ("attention", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", attention),
        ("per_sequence", "layer,sequences,time_us", heads),
    ):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    return [tmp_path / f"{name}.csv" for name in ("dense", "attention", "per_sequence")]


def test_an_iteration_is_the_sum_of_its_kernels(files):
    """Eight kernels per layer, two once, two heads; long prompts run in chunks and see the context before them."""
    tables = read_kernel_tables(*files)
    once, layer = 2 * (10 + 512), 8 * (10 + 512) + 512 * 256 / 100
    assert tables.prefill_s(512, layers=32) == pytest.approx((once + 32 * layer + 2 * 101) / 1e6)
    two = sum(2 * (10 + 2048) + 32 * (8 * (10 + 2048) + 2048 * (kv + 1024) / 100) for kv in (0, 2048))
    assert tables.prefill_s(4096, layers=32) == pytest.approx((two + 2 * 101) / 1e6)
    B, C, seconds = tables.decodes(layers=32)
    at = (B == 16) & (C == 16 * 1024)
    expected = 2 * (10 + 16) + 32 * (8 * (10 + 16) + 16 * 1024 / 10) + 2 * (100 + 16)
    assert seconds[at].item() == pytest.approx(expected / 1e6)


def test_a_composed_profile_gives_back_the_tables(files):
    """Tables that are linear in B and C are fitted exactly: d, e and f follow from the kernels by hand."""
    profile = kernel_profile(
        tuple(files),
        architecture_of("llama-3.1-8b-instruct"),
        limits=Limits(max_batch=64, token_budget=2048, kv_capacity_tokens=65_536),
        device="gpu",
        device_name="A GPU",
        quantization="bf16",
    )
    kernels = 2 + 32 * 8
    costs = profile.seconds
    assert costs.base == pytest.approx((10 * kernels + 2 * 100) / 1e6, rel=1e-5)
    assert costs.per_sequence == pytest.approx((kernels + 2) / 1e6, rel=1e-5)
    assert costs.per_context_token == pytest.approx(32 / 10 / 1e6, rel=1e-5)
    assert profile.joules is None
    assert profile.idle_w is None
    assert profile.evidence["decode_s"]["refused"][0]["n"] == 3  # 128 sequences, thrice


def test_a_hole_within_the_contexts_of_a_chunk_changes_nothing(files):
    """Attention is linear in context here, so a point that was not timed is what its neighbours say of it."""
    whole = read_kernel_tables(*files)
    kept = [line for line in files[1].read_text().splitlines() if not line.startswith(("64,64,0", "512,2048,0"))]
    files[1].write_text("\n".join(kept) + "\n")
    holed = read_kernel_tables(*files)
    for P in (64, 300, 512, 4096, 8000):
        assert holed.prefill_s(P, layers=32) == pytest.approx(whole.prefill_s(P, layers=32), rel=1e-9)


def test_assumed_energy_is_power_times_time_and_states_its_range(files):
    """Joules per second are the assumed watts, within their range, decode below prefill."""
    source = Source(file="power.csv", sha256="0")
    power = assumed_power(idle_w=50.0, busy_w=350.0, limit_w=450.0, limit_source="the maker", sources=(source,))
    assert power.decode_w == (200.0, 275.0, 350.0)
    assert power.prefill_w == (275.0, 350.0, 450.0)
    profile = kernel_profile(
        tuple(files),
        architecture_of("llama-3.1-8b-instruct"),
        limits=Limits(max_batch=64, token_budget=2048, kv_capacity_tokens=65_536),
        device="gpu",
        device_name="A GPU",
        quantization="bf16",
        power=power,
    )
    assert profile.provenance.energy == "assumed"
    assert profile.joules is not None
    prompts = np.array([64, 1000, 8000])
    assert profile.joules.prefill_of(prompts) / profile.seconds.prefill_of(prompts) == pytest.approx(350.0, rel=1e-4)
    assert float(profile.joules.decode_of(8, 9000) / profile.seconds.decode_of(8, 9000)) == pytest.approx(275.0, 1e-4)
    assert profile.evidence["energy"]["decode_w"] == {"low": 200.0, "value": 275.0, "high": 350.0}


@pytest.mark.parametrize(
    ("file", "gone", "message"),
    [
        (0, "qkv_proj", r"dense\.csv: no rows for the kernel 'qkv_proj'"),
        (
            1,
            "64,8192,0",
            r"attention\.csv: prefills of 64 tokens .* timed after 0 to 2048 tokens, others after 0 to 8192",
        ),
        (1, "0,0,", r"attention\.csv: no rows of pure decoding"),
        (2, "sampler", r"per_sequence\.csv: no rows for the kernel 'sampler'"),
    ],
)
def test_tables_with_holes_are_refused(file, gone, message, files):
    """A kernel that was never timed, or half a grid, is an error with the file's name."""
    kept = [line for line in files[file].read_text().splitlines() if not line.startswith(gone)]
    files[file].write_text("\n".join(kept) + "\n")
    with pytest.raises(ValueError, match=message):
        read_kernel_tables(*files)


def test_kernels_of_a_4090_stay_below_a_served_iteration(data):
    """Kernel time has no host time in it: a lone decode is at most llama.cpp's, and at least 70 % of it."""
    parts = ("dense", "attention", "per_sequence")
    tables = read_kernel_tables(*(data / "measurements" / f"vllm_rtx4090_llama31_8b_{part}.csv.gz" for part in parts))
    B, C, seconds = tables.decodes(layers=32)
    alone_s = seconds[(B == 1) & (C == 512)].item()
    assert 0.7 < alone_s * 54.84 < 1.0


def test_the_knee_of_a_4090_is_told_from_its_tables(data):
    """A prompt within the knee rides along with the weights: the timed iterations are said clearly better with it.

    By hand: 16 to 128 prompt tokens take little longer than a lone decode, as they read the same weights; from the
    knee on they take at least half the linear cost more.
    """
    parts = ("dense", "attention", "per_sequence")
    files = [data / "measurements" / f"vllm_rtx4090_llama31_8b_{part}.csv.gz" for part in parts]
    profile = kernel_profile(
        tuple(files),
        architecture_of("llama-3.1-8b-instruct"),
        device="gpu",
        device_name="A GPU",
        quantization="bf16",
        limits=Limits(max_batch=64, token_budget=2048, kv_capacity_tokens=65_536),
    )
    tables = read_kernel_tables(*files)
    knee, linear = profile.knee_tokens, profile.seconds.prefill[1]
    assert 64 <= knee <= 512
    within = (tables.prefill_s(128, 32) - tables.prefill_s(16, 32)) / 112
    beyond = (tables.prefill_s(1024, 32) - tables.prefill_s(512, 32)) / 512
    assert within < 0.5 * linear < beyond
    misfits = {int(tried): found for tried, found in profile.evidence["knee"]["mean_misfits"].items()}
    assert misfits[knee] == min(misfits.values()) < 0.9 * misfits[0]
