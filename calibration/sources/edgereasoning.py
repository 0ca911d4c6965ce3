"""EdgeReasoning's CSV files from a Jetson: prefill (milliseconds, watts, joules) and decode (seconds, joules).

Source: Kubwimana and Huang, IISWC 2025, repository edge-inference/edgereasoning.
"""

from pathlib import Path

import numpy as np

from calibration.recordings import Decodes, Prefills
from calibration.sources.csv_table import Kind, read_table, source_of

PREFILL_COLUMNS: dict[str, Kind] = {
    "device": "text",
    "model": "text",
    "batch": "integer",
    "prompt_tokens": "integer",
    "ttft_ms": "number",
    "avg_power_w": "number",
    "total_energy_j": "number",
}
DECODE_COLUMNS: dict[str, Kind] = {
    "device": "text",
    "model": "text",
    "prompt_tokens": "integer",
    "output_tokens": "integer",
    "initial_power": "number or blank",
    "final_power": "number or blank",
    "decode_time_s": "number",
    "monitoring_time_s": "number",
    "measured_total_gpu_energy_j": "number",
}


def read_prefills(path: Path) -> Prefills:
    """Return the prefill recording in a file; ValueError names the file and the row."""
    table = read_table(path, PREFILL_COLUMNS)
    for row, (batch, prompt, ms) in enumerate(
        zip(table["batch"], table["prompt_tokens"], table["ttft_ms"], strict=True), start=2
    ):
        if batch != 1 or prompt < 1 or not ms > 0:
            raise ValueError(
                f"{path}, row {row}: found batch {batch}, {prompt} prompt tokens, ttft_ms {ms}; "
                "must be batch 1, at least one token and a time above 0"
            )
    return Prefills(
        source=source_of(path),
        device=table["device"],
        model=table["model"],
        prompt_tokens=table["prompt_tokens"],
        seconds=table["ttft_ms"] / 1000.0,
        mean_power_w=table["avg_power_w"],
        energy_j=table["total_energy_j"],
    )


def read_decodes(path: Path) -> Decodes:
    """Return the decode recording in a file; ValueError names the file and the row."""
    table = read_table(path, DECODE_COLUMNS)
    bad = (table["prompt_tokens"] < 1) | (table["output_tokens"] < 1) | (table["decode_time_s"] < 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{path}, row {row + 2}: found {table['prompt_tokens'][row]} prompt tokens, "
            f"{table['output_tokens'][row]} output tokens, decode_time_s {table['decode_time_s'][row]}; "
            "must be at least one token each and a time of at least 0"
        )
    return Decodes(
        source=source_of(path),
        device=table["device"],
        model=table["model"],
        prompt_tokens=table["prompt_tokens"],
        output_tokens=table["output_tokens"],
        seconds=table["decode_time_s"],
        window_s=table["monitoring_time_s"],
        initial_power_w=table["initial_power"],
        final_power_w=table["final_power"],
        energy_j=table["measured_total_gpu_energy_j"],
    )
