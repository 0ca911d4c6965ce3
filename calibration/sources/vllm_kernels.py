"""Kernel times of a vLLM engine in microseconds, in three tables; summed they are the length of an iteration.

Source: casys-kaist/LLMServingSim (tables of vLLM 0.19): `dense` per layer kind against tokens in the batch,
`attention` against prefill chunk, its context, decoding sequences and their mean context, `per_sequence` heads
against sequences.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.recordings import Source
from calibration.sources.csv_table import Kind, read_table, source_of

Floats = NDArray[np.float64]

DENSE_COLUMNS: dict[str, Kind] = {"layer": "text", "tokens": "integer", "time_us": "number"}
ATTENTION_COLUMNS: dict[str, Kind] = {
    "prefill_chunk": "integer",
    "kv_prefill": "integer",
    "n_decode": "integer",
    "kv_decode": "integer",
    "time_us": "number",
}
PER_SEQUENCE_COLUMNS: dict[str, Kind] = {"layer": "text", "sequences": "integer", "time_us": "number"}

DECODER_LAYER = {
    "layernorm": 2,  # before attention and before the feed-forward layer
    "qkv_proj": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""How often each dense kernel runs in one decoder layer."""
ONCE = ("embedding", "final_layernorm")
HEADS = ("lm_head", "sampler")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTables:
    """One engine's kernel times in seconds: curves (sizes, seconds) by kernel, and those of attention.

    Prefill attention has one curve (contexts, seconds) for each of the chunks, timed at contexts of its own.
    """

    sources: tuple[Source, ...]
    dense: dict[str, tuple[Floats, Floats]]
    per_sequence: dict[str, tuple[Floats, Floats]]
    prefill_chunk: Floats
    prefill_attention: tuple[tuple[Floats, Floats], ...]
    n_decode: Floats
    decode_context: Floats
    decode_attention_s: Floats

    @property
    def max_chunk(self) -> int:
        """The most prompt tokens that one iteration was timed with."""
        return int(self.prefill_chunk.max())

    def dense_s(self, tokens: int, layers: int) -> float:
        """Return the seconds of all dense kernels of one iteration over `tokens`, interpolated between timings."""
        layer = sum(count * _at(self.dense[name], tokens) for name, count in DECODER_LAYER.items())
        return layers * layer + sum(_at(self.dense[name], tokens) for name in ONCE)

    def heads_s(self, sequences: int) -> float:
        """Return the seconds of the output layer and the sampler for so many sequences."""
        return sum(_at(self.per_sequence[name], sequences) for name in HEADS)

    def prefill_s(self, prompt_tokens: int, layers: int) -> float:
        """Return the seconds of a prompt alone, in chunks of at most `max_chunk`; its last one samples a token."""
        seconds, done = 0.0, 0
        while done < prompt_tokens:
            chunk = min(self.max_chunk, prompt_tokens - done)
            seconds += self.dense_s(chunk, layers) + layers * self._attention_s(chunk, done)
            done += chunk
        return seconds + self.heads_s(1)

    def decodes(self, layers: int) -> tuple[Floats, Floats, Floats]:
        """Return sequences, their summed context and the seconds of every decode iteration that was timed."""
        dense = np.array([self.dense_s(int(n), layers) + self.heads_s(int(n)) for n in self.n_decode])
        return self.n_decode, self.n_decode * self.decode_context, dense + layers * self.decode_attention_s

    def _attention_s(self, chunk: int, context: int) -> float:
        at_context = [np.interp(context, *curve) for curve in self.prefill_attention]
        return float(np.interp(chunk, self.prefill_chunk, at_context))


def read_kernel_tables(dense: Path, attention: Path, per_sequence: Path) -> KernelTables:
    """Return the tables in three files; ValueError names the file and what is missing or unreadable."""
    table = read_table(attention, ATTENTION_COLUMNS)
    seconds = table["time_us"] / 1e6
    prefill = (table["n_decode"] == 0) & (table["prefill_chunk"] > 0)
    decode = (table["n_decode"] > 0) & (table["prefill_chunk"] == 0)
    if not decode.any():
        raise ValueError(f"{attention}: no rows of pure decoding (prefill_chunk 0, n_decode above 0)")
    chunks, by_context = _by_chunk(
        attention, table["prefill_chunk"][prefill], table["kv_prefill"][prefill], seconds[prefill]
    )
    return KernelTables(
        sources=tuple(source_of(path) for path in (dense, attention, per_sequence)),
        dense=dense_curves(dense),
        per_sequence=head_curves(per_sequence),
        prefill_chunk=chunks,
        prefill_attention=by_context,
        n_decode=table["n_decode"][decode].astype(np.float64),
        decode_context=table["kv_decode"][decode].astype(np.float64),
        decode_attention_s=seconds[decode],
    )


def dense_curves(path: Path) -> dict[str, tuple[Floats, Floats]]:
    """Return tokens and seconds of every dense kernel; ValueError names one that was never timed."""
    return _curves(path, DENSE_COLUMNS, "tokens", (*DECODER_LAYER, *ONCE))


def head_curves(path: Path) -> dict[str, tuple[Floats, Floats]]:
    """Return sequences and seconds of output layer and sampler; ValueError names one that was never timed."""
    return _curves(path, PER_SEQUENCE_COLUMNS, "sequences", HEADS)


def _curves(
    path: Path, columns: dict[str, Kind], size: str, needed: tuple[str, ...]
) -> dict[str, tuple[Floats, Floats]]:
    table = read_table(path, columns)
    missing = [name for name in needed if name not in table["layer"]]
    if missing:
        raise ValueError(f"{path}: no rows for the kernel {missing[0]!r}, needs {', '.join(needed)}")
    curves = {}
    for name in needed:
        own = table["layer"] == name
        order = np.argsort(table[size][own], kind="stable")
        curves[name] = (table[size][own][order].astype(np.float64), table["time_us"][own][order] / 1e6)
    return curves


def _by_chunk(
    path: Path, chunk: NDArray[np.int64], context: NDArray[np.int64], seconds: Floats
) -> tuple[Floats, tuple[tuple[Floats, Floats], ...]]:
    """Return chunks and the curve of each over its contexts, which must reach as far as those of all chunks."""
    if not len(chunk):
        raise ValueError(f"{path}: no rows of pure prefill (prefill_chunk above 0, n_decode 0)")
    ends = int(context.min()), int(context.max())
    curves = []
    for size in np.unique(chunk):
        own = chunk == size
        order = np.argsort(context[own], kind="stable")
        found = context[own][order]
        if (int(found[0]), int(found[-1])) != ends:
            raise ValueError(
                f"{path}: prefills of {size} tokens (n_decode 0) were timed after {found[0]} to {found[-1]} tokens, "
                f"others after {ends[0]} to {ends[1]}; time each chunk over the same range"
            )
        curves.append((found.astype(np.float64), seconds[own][order]))
    return np.unique(chunk).astype(np.float64), tuple(curves)


def _at(curve: tuple[Floats, Floats], size: float) -> float:
    return float(np.interp(size, *curve))
