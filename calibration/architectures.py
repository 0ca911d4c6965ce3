"""Architectures of the language models that profiles are made for: sizes from their public model cards."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from calibration.profile import did_you_mean

BYTES_PER_PARAMETER = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
KV_BYTES = 2.0
"""Bytes of one number in the KV cache; engines keep it in 16 bits unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The sizes of a decoder-only model with a gated feed-forward layer; `source` is where they stand."""

    name: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied_embedding: bool
    qkv_bias: bool
    parameters: int
    context_tokens: int
    source: str

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of KV cache that each token of context takes, a key and a value in every layer.

        >>> architecture_of("llama-3.1-8b-instruct").kv_bytes_per_token
        131072.0
        """
        return 2.0 * self.layers * self.kv_heads * self.head_dim * KV_BYTES

    @property
    def attention_width(self) -> int:
        """Layers x heads x head dimension: the attention work of a pair of tokens is proportional to it."""
        return self.layers * self.heads * self.head_dim

    def weight_bytes(self, quantization: str) -> float:
        """Return the bytes that all parameters take in memory."""
        return self.parameters * bytes_per_parameter(quantization)

    def read_bytes(self, quantization: str) -> float:
        """Return the bytes of weights that one decode iteration reads: all but an input embedding of its own.

        The embedding of a token is one row of its table; a tied table is read whole as the output layer.

        >>> architecture_of("llama-3.1-8b-instruct").read_bytes("bf16") / 1e9
        15.009849344
        """
        looked_up = 0 if self.tied_embedding else self.vocabulary * self.hidden
        return (self.parameters - looked_up) * bytes_per_parameter(quantization)


def bytes_per_parameter(quantization: str) -> float:
    """Return the bytes of one parameter; ValueError for a quantisation that is not known."""
    if quantization not in BYTES_PER_PARAMETER:
        raise ValueError(
            f"quantization {quantization!r} is not known, must be one of {', '.join(BYTES_PER_PARAMETER)}"
            f"{did_you_mean(quantization, BYTES_PER_PARAMETER)}"
        )
    return BYTES_PER_PARAMETER[quantization]


@cache
def architectures() -> dict[str, Architecture]:
    """Return all known architectures by the project's name of the model."""
    text = files("calibration").joinpath("architectures.csv").read_text(encoding="utf-8")
    return {row["name"]: _architecture(row) for row in csv.DictReader(text.splitlines())}


def architecture_of(model: str) -> Architecture:
    """Return a model's architecture; ValueError with a near match for a model that is not known."""
    known = architectures()
    if model not in known:
        raise ValueError(
            f"model {model!r}: its architecture is not known, known are {', '.join(known)}{did_you_mean(model, known)}"
        )
    return known[model]


def _architecture(row: dict[str, str]) -> Architecture:
    words = ("name", "source")
    flags = ("tied_embedding", "qkv_bias")
    counts = {key: int(value) for key, value in row.items() if key not in (*words, *flags)}
    return Architecture(
        name=row["name"],
        source=row["source"],
        tied_embedding=row["tied_embedding"] == "yes",
        qkv_bias=row["qkv_bias"] == "yes",
        **counts,
    )
