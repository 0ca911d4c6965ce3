"""Architectures of the language models that profiles are made for: sizes from their public model cards."""

import csv
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

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
    def read_parameters(self) -> int:
        """Parameters that one decode iteration reads: all but an input embedding of its own."""
        return self.parameters - (0 if self.tied_embedding else self.vocabulary * self.hidden)

    @property
    def attention_width(self) -> int:
        """Layers x heads x head dimension: the attention work of a pair of tokens is proportional to it."""
        return self.layers * self.heads * self.head_dim

    def weight_bytes(self, quantization: str) -> float:
        """Return the bytes that all parameters take in memory."""
        return self.parameters * bytes_per_parameter(quantization)

    def read_bytes(self, quantization: str | None) -> float:
        """Return the bytes of weights that one decode iteration reads: all but an input embedding of its own.

        The embedding of a token is one row of its table; a tied table is read whole as the output layer.

        >>> architecture_of("llama-3.1-8b-instruct").read_bytes("bf16") / 1e9
        15.009849344
        """
        return self.read_parameters * bytes_per_parameter(quantization)


def bytes_per_parameter(quantization: str | None) -> float:
    """Return the bytes of one parameter; ValueError for a quantisation that is not known."""
    if quantization not in BYTES_PER_PARAMETER:
        raise ValueError(
            f"quantization {quantization!r} is not known, must be one of {', '.join(BYTES_PER_PARAMETER)}"
            f"{did_you_mean(quantization or '', BYTES_PER_PARAMETER)}"
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


def read_architecture(path: Path) -> Architecture:
    """Return the architecture in a model's `config.json`, as Llama-like models on Hugging Face have it.

    It is named after the file's folder, its parameters counted from its sizes. Raises ValueError naming the key.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a model's config.json ({error})") from error
    missing = [key for key in _CONFIG if not isinstance(found.get(key), int) or found[key] < 1]
    if missing:
        raise ValueError(f"{path}: needs whole numbers above 0 for {', '.join(missing)}, as Llama-like models have")
    sizes = {name: found[key] for key, name in _CONFIG.items()}
    heads = sizes["heads"]
    sizes |= {
        "kv_heads": found.get("num_key_value_heads") or heads,
        "head_dim": found.get("head_dim") or sizes["hidden"] // heads,
    }
    flags = {"tied_embedding": bool(found.get("tie_word_embeddings")), "qkv_bias": bool(found.get("attention_bias"))}
    name = path.resolve().parent.name.lower()
    return Architecture(name=name, source=path.name, parameters=_parameters(**sizes, **flags), **sizes, **flags)


_CONFIG = {
    "vocab_size": "vocabulary",
    "hidden_size": "hidden",
    "intermediate_size": "intermediate",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "max_position_embeddings": "context_tokens",
}


def _parameters(
    *,
    vocabulary: int,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    tied_embedding: bool,
    qkv_bias: bool,
    context_tokens: int,  # noqa: ARG001 - rotary positions have no parameters
) -> int:
    """Return embeddings, attention, gated feed-forward, norms and biases."""
    heads_dim = head_dim * (heads + 2 * kv_heads)
    layer = hidden * (heads_dim + head_dim * heads) + qkv_bias * heads_dim + 3 * hidden * intermediate + 2 * hidden
    return vocabulary * hidden * (1 if tied_embedding else 2) + layers * layer + hidden


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
