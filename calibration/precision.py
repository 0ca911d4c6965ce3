"""Precision of weights as recordings tell it: words of a manifest, llama.cpp's file types, names of model files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

UNKNOWN = "unknown"
"""What stands in a profile's name where nothing tells the precision; its `quantization` is then null."""

_SIZES = {" - small": "_s", " - medium": "_m", " - large": "_l"}  # llama.cpp's words for its file types
_WORD = re.compile(
    r"(?<![a-z0-9])(?:(?P<brain>bf16|bfloat16)|f(?:p|loat)?(?P<bits>8|16|32)|"
    r"(?P<other>int[248]|i?q[1-8]_(?:[01]|k(?:_(?:xl|[sml]))?|nl|xxs|xs|s|m)|tq[12]_0|mxfp4|nvfp4|w[48]a(?:8|16)|awq|gptq))"
    r"(?![a-z0-9])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A precision of weights, and what told it."""

    quantization: str
    told_by: str


def precision_in(text: str) -> str | None:
    """Return the precision that a text names, in the words of this project; None where it names none.

    >>> precision_in("llama 8B Q4_K - Medium"), precision_in("all F32"), precision_in("Qwen2.5-7B-BF16.gguf")
    ('q4_k_m', 'fp32', 'bf16')
    >>> precision_in("llama-3.1-8b-instruct") is None
    True
    """
    text = text.lower()
    for words, short in _SIZES.items():
        text = text.replace(words, short)
    found = _WORD.search(text)
    if found is None:
        return None
    return "bf16" if found["brain"] else f"fp{found['bits']}" if found["bits"] else found["other"]


def precision_of(manifest: Mapping[str, Any]) -> Precision | None:
    """Return the precision that a recording's manifest tells, the surest word first; None where it tells none."""
    runtime = manifest.get("runtime") or {}
    if runtime.get("quantization"):
        return Precision(quantization=str(runtime["quantization"]), told_by="the recording's quantization")
    meta = runtime.get("model_meta") or {}
    texts = {
        "the file type that the runtime tells": runtime.get("model_file_type") or meta.get("ftype"),
        "the name of the model": PurePosixPath(str(manifest.get("model") or "")).name,
    }
    for told_by, text in texts.items():
        if text and (found := precision_in(str(text))):
            return Precision(quantization=found, told_by=told_by)
    return None
