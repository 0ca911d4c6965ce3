"""Splitwise's performance model: prompt and token times in milliseconds on A100 and H100 machines, tensor-parallel.

Source: Mutinifni/splitwise-sim; Patel et al., ISCA 2024. Its powers are shares of a limit it does not state: no energy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.architectures import architectures
from calibration.sessions import BATCHES, Sessions, lone_requests, no_joules
from calibration.sources.csv_table import Kind, read_table, source_of

COLUMNS: dict[str, Kind] = {
    "model": "text",
    "hardware": "text",
    "prompt_size": "integer",
    "batch_size": "integer",
    "token_size": "integer",
    "prompt_time": "number",
    "token_time": "number",
    "tensor_parallel": "integer",
}
_NAMES = {"llama2-70b": "llama-2-70b"}


def read_performance_model(path: Path) -> list[Sessions]:
    """Return one recorded session for each model, hardware and number of cards; ValueError names the row.

    Prompt times of batches are of all prompts together and are left out: a profile's prefill is of one prompt.
    """
    frame = pd.DataFrame(read_table(path, COLUMNS))
    bad = (frame[["prompt_size", "batch_size", "tensor_parallel"]] < 1).any(axis=1) | (frame["token_size"] < 2)
    bad |= (frame[["prompt_time", "token_time"]] <= 0).any(axis=1)
    if bad.any():
        raise ValueError(f"{path}, row {int(np.argmax(bad)) + 2}: sizes must be at least 1, tokens 2, times above 0")
    return [
        _sessions(path, of_expert, model=str(model), hardware=str(hardware))
        for (model, hardware, _), of_expert in frame.groupby(["model", "hardware", "tensor_parallel"])
    ]


def _sessions(path: Path, frame: pd.DataFrame, *, model: str, hardware: str) -> Sessions:
    alone, batched = frame[frame["batch_size"] == 1], frame[frame["batch_size"] > 1]
    left_out = {"n": len(batched), "reason": "prompt time of a batch: is of all its prompts together"}
    return Sessions(
        source=source_of(path),
        manifest=_manifest(model, hardware, int(frame["tensor_parallel"].iloc[0])),
        requests=_requests(alone),
        batches=_batches(batched),
        prefill_j=no_joules(),
        decode_j=no_joules(),
        idle_w=None,
        refused=(left_out,) if len(batched) else (),
    )


def _requests(frame: pd.DataFrame) -> pd.DataFrame:
    return lone_requests(
        session="splitwise",
        prompt_tokens=frame["prompt_size"].to_numpy(),
        output_tokens=frame["token_size"].to_numpy(),
        ttft_s=frame["prompt_time"].to_numpy() / 1000,
        tpot_s=frame["token_time"].to_numpy() / 1000,
    )


def _batches(frame: pd.DataFrame) -> pd.DataFrame:
    n, B = frame["token_size"].to_numpy() - 1.0, frame["batch_size"].to_numpy(dtype=np.float64)
    context = B * (frame["prompt_size"].to_numpy() + (n + 1) / 2)  # mean over the iterations, summed over sequences
    columns = (n, B, context, frame["token_time"].to_numpy() * n / 1000)
    return pd.DataFrame(dict(zip(BATCHES, columns, strict=True)))


def _manifest(model: str, hardware: str, cards: int) -> dict[str, Any]:
    name = _NAMES.get(model, model)
    known = architectures().get(name)
    return {
        "device": f"{cards} x {hardware.upper()}",
        "model": name,
        "runtime_build": "as in Splitwise's performance model",
        "runtime": {
            "weights": "not stated in the recording",
            "context_tokens": None if known is None else known.context_tokens,
        },
        "host": {},
        "meter": {"name": "none", "scope": None, "covers": "nothing"},
        "formulas": {"ttft_s": "prompt_time, batch 1", "decode_s": "token_time x (token_size - 1)"},
    }
