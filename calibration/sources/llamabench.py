"""llama.cpp speeds of many GPUs in tokens per second, one sequence at a time.

Source: figures from XiongjieDai/GPU-Benchmarks-on-LLM-Inference.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.recordings import Source
from calibration.sources.csv_table import Kind, read_table, source_of

COLUMNS: dict[str, Kind] = {
    "device": "text",
    "model": "text",
    "quant": "text",
    "runtime": "text",
    "phase": "text",
    "n_tokens": "integer",
    "tokens_per_s": "number or blank",
    "oom": "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Speeds as columns of shape (n,); NaN where the model did not fit the device's memory."""

    source: Source
    device: NDArray[np.str_]
    model: NDArray[np.str_]
    quantization: NDArray[np.str_]
    phase: NDArray[np.str_]
    tokens: NDArray[np.int64]
    tokens_per_s: NDArray[np.float64]


def read_speeds(path: Path) -> Speeds:
    """Return the speeds in a file; ValueError names the file and the row."""
    table = read_table(path, COLUMNS)
    unknown = ~np.isin(table["phase"], ["prefill", "decode"])
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(f"{path}, row {row + 2}: phase is {str(table['phase'][row])!r}, must be prefill or decode")
    return Speeds(
        source=source_of(path),
        device=table["device"],
        model=table["model"],
        quantization=table["quant"],
        phase=table["phase"],
        tokens=table["n_tokens"],
        tokens_per_s=table["tokens_per_s"],
    )
