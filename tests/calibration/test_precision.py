"""Laws of the precision of weights: it is what a recording tells, and unknown where nothing tells it."""

import pytest

from calibration.precision import precision_in, precision_of


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("all F32", "fp32"),
        ("F16", "fp16"),
        ("mostly BF16", "bf16"),
        ("(guessed) Q4_K - Small", "q4_k_s"),
        ("llama 8B Q5_K - Medium", "q5_k_m"),
        ("IQ4_XS - 4.25 bpw", "iq4_xs"),
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "q4_k_m"),
        ("random_llama_f32.gguf", "fp32"),
        ("llama3.1:8b-instruct-q8_0", "q8_0"),
        ("neuralmagic/Llama-3.1-8B-FP8", "fp8"),
        ("Qwen2.5-7B-Instruct-AWQ", "awq"),
        ("Llama-3.1-8B-Instruct", None),
        ("phi-3-mini-4k-instruct", None),
        ("stuff16-bf160.gguf", None),
    ],
)
def test_a_text_tells_the_precision_that_it_names(text, precision):
    """File types of llama.cpp and names of files and models, as their makers write them."""
    assert precision_in(text) == precision


def test_the_surest_word_of_a_manifest_is_taken():
    """A stated quantisation before the runtime's file type, this before the name of the file; nothing is unknown."""
    manifest = {"model": "/models/small-q4_0.gguf", "runtime": {"model_file_type": "Q8_0", "quantization": "int8"}}
    found = precision_of(manifest)
    assert (found.quantization, found.told_by) == ("int8", "the recording's quantization")
    del manifest["runtime"]["quantization"]
    assert precision_of(manifest).quantization == "q8_0"
    manifest["runtime"] = {"model_meta": {"ftype": "F16"}}
    assert precision_of(manifest).quantization == "fp16"
    manifest["runtime"] = {}
    found = precision_of(manifest)
    assert (found.quantization, found.told_by) == ("q4_0", "the name of the model")
    assert precision_of({"model": "small", "runtime": {}}) is None
