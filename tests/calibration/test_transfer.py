"""Laws of architectures and of scaling between them."""

import pytest

from calibration.architectures import architecture_of, architectures
from calibration.costs import Costs
from calibration.profile import Profile, Provenance, find_profile
from calibration.transfer import Ratios, nearest, ratios, scaled_costs, scaled_profile


@pytest.mark.parametrize("name", architectures())
def test_parameters_are_what_the_sizes_multiply_out_to(name):
    """The published count equals embeddings, attention, gated feed-forward, norms and biases, to the last one."""
    a = architecture_of(name)
    embeddings = a.vocabulary * a.hidden * (1 if a.tied_embedding else 2)
    attention = a.hidden * a.head_dim * (2 * a.heads + 2 * a.kv_heads)
    bias = a.qkv_bias * a.head_dim * (a.heads + 2 * a.kv_heads)
    layer = attention + bias + 3 * a.hidden * a.intermediate + 2 * a.hidden
    assert a.parameters == embeddings + a.layers * layer + a.hidden


def test_unknown_models_and_quantisations_are_refused_with_a_near_match():
    """A slip is answered with what is near it."""
    with pytest.raises(ValueError, match=r"'gemma-7'.*did you mean 'gemma-7b'\?"):
        architecture_of("gemma-7")
    with pytest.raises(ValueError, match=r"'bf61' is not known.*did you mean 'bf16'\?"):
        architecture_of("gemma-7b").weight_bytes("bf61")


def test_each_term_scales_with_what_bounds_it():
    """Weights carry a, b, d and e; attention work carries c; KV bytes f and g; unknown batch terms stay unknown."""
    decode = {"base": 4.0, "per_sequence": 5.0, "per_context_token": 6.0, "mixed_per_context_token": 7.0}
    scaled = scaled_costs(Costs(prefill=(1.0, 2.0, 3.0), **decode), Ratios(weights=10.0, kv=100.0, attention=1000.0))
    by = {"base": 40.0, "per_sequence": 50.0, "per_context_token": 600.0, "mixed_per_context_token": 700.0}
    assert scaled == Costs(prefill=(10.0, 20.0, 3000.0), **by)
    alone = Costs(prefill=(1.0, 2.0, 3.0), base=4.0, per_sequence=None, per_context_token=6.0)
    assert scaled_costs(alone, Ratios(weights=2.0, kv=2.0, attention=2.0)).per_sequence is None


def test_there_and_back_is_where_it_was():
    """Ratios of a transfer and of its return multiply to 1, and a model is nearest to itself."""
    known = architectures()
    for a in known.values():
        for b in known.values():
            there, back = ratios(a, b, "fp16", "fp16"), ratios(b, a, "fp16", "fp16")
            assert there.weights * back.weights == pytest.approx(1.0)
            assert there.kv * back.kv == pytest.approx(1.0)
            assert there.attention * back.attention == pytest.approx(1.0)
    assert nearest(known["gemma-7b"], known) == "gemma-7b"


def a_profile(energy) -> Profile:
    return Profile(
        name="gpu/llama-3.1-8b-instruct/bf16",
        device="A GPU",
        model="llama-3.1-8b-instruct",
        quantization="bf16",
        runtime="vllm",
        power_mode="default",
        provenance=Provenance(latency="composed", energy=energy),
        energy_scope="gpu",
        context_tokens=131072,
        seconds=Costs(prefill=(0.01, 1e-4, 3e-9), base=0.017, per_sequence=4e-5, per_context_token=1e-7),
        knee_tokens=0,
        prefill_j=(4.0, 0.03, 1e-6),
        decode_j=(5.0, 0.01, 4e-5),
        idle_w=50.0,
        residuals_prefill=(),
        residuals_decode=(),
        evidence={"sources": [{"file": "a.csv"}]},
    )


@pytest.mark.parametrize(("energy", "kept"), [("measured", "scaled"), ("assumed", "assumed")])
def test_scaling_is_named_even_at_ratio_one_and_makes_no_assumption_better(energy, kept):
    """Provenance says scaled for another model of the same sizes, and an assumed energy stays assumed."""
    same = architecture_of("deepseek-r1-distill-llama-8b")
    source = architecture_of("llama-3.1-8b-instruct")
    error = {"left_out": "x", "decode_s": 0.1}
    scaled = scaled_profile(a_profile(energy), source, same, device="gpu", errors=[error], errors_note="how")
    assert scaled.provenance == Provenance(latency="scaled", energy=kept)
    assert scaled.seconds == a_profile(energy).seconds
    assert scaled.evidence["ratios"]["note"] == "same architecture as the source, ratio 1"
    assert scaled.evidence["transfer_errors"] == [error]
    assert scaled.evidence["scaled_from"] == "gpu/llama-3.1-8b-instruct/bf16"


def test_the_bundled_transfer_error_is_reproduced_by_hand(tmp_path):
    """Predicting the 14B's decoding from the 8B by hand gives the error that the evidence states, and a small one."""
    names = [f"agx-orin-64gb/deepseek-r1-distill-{m}/fp16" for m in ("llama-8b", "qwen-14b")]
    small, large = (find_profile(name, tmp_path) for name in names)
    by_hand = small.seconds.base * 27.982931968 / 15.009849344 / large.seconds.base - 1
    scaled = find_profile("agx-orin-64gb/llama-2-13b/fp16", tmp_path)
    stated = {e["left_out"]: e for e in scaled.evidence["transfer_errors"]}["deepseek-r1-distill-qwen-14b"]
    assert stated["predicted_from"] == "deepseek-r1-distill-llama-8b"
    assert stated["decode_s"] == pytest.approx(abs(by_hand), abs=0.003)
    assert stated["decode_s"] < 0.02
