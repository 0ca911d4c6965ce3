"""The chat sweep of an AGX Orin 32GB: five runtimes, many quantisations; milliseconds, milliwatts, millijoules.

Source: kevinhe5/IISWC2026-Artifact-Paper-177, one sequence at a time, power mode MAXN, clocks locked.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.architectures import architectures
from calibration.sessions import JOULES, Sessions, lone_requests, no_batches
from calibration.sources.csv_table import Kind, read_table, source_of

COLUMNS: dict[str, Kind] = {
    "timestamp": "text",
    "framework": "text",
    "model": "text",
    "quantization": "text",
    "prompt_tokens": "integer",
    "generated_tokens": "integer",
    "ttft_ms": "number",
    "tpot_ms": "number",
    "idle_total_mw": "number",
    "dec_total_mw": "number",
    "prefill_energy_mj": "number",
    "decode_energy_mj": "number",
    "device_name": "text or blank",
}
LAG_S = 0.27
"""By how much the power log follows the power, found on long prefills of this file: see docs/aliasing.md."""
LEAST_S = 10 * LAG_S
"""Windows shorter than ten lags have no energy: a tenth of it, at least, would be that of another moment."""
BOARD = "AGX Orin 32GB"
"""The board of the whole sweep by its title; some rows do not name theirs."""
WALL = (1.10, 1.15)
"""Power at the wall over the sum of rails, as the authors put it."""


def read_chat_sweep(path: Path) -> list[Sessions]:
    """Return one recorded session for each runtime, model and quantisation; ValueError names the file and the row."""
    frame = pd.DataFrame(read_table(path, COLUMNS))
    bad = (frame[["prompt_tokens", "generated_tokens"]] < 1).any(axis=1) | (frame[["ttft_ms", "tpot_ms"]] <= 0).any(
        axis=1
    )
    if bad.any():
        raise ValueError(f"{path}, row {int(np.argmax(bad)) + 2}: must have tokens of at least 1 and times above 0")
    experts = frame.groupby(["device_name", "framework", "model", "quantization"])
    return [_sessions(path, tuple(map(str, key)), of_expert) for key, of_expert in experts]


def _sessions(path: Path, key: tuple[str, ...], frame: pd.DataFrame) -> Sessions:
    device, framework, model, quantization = key
    requests = _requests(frame)
    joules = requests[["session", "asked_prompt_tokens", "asked_output_tokens"]].assign(n_sequences=1)
    prefills = joules.assign(asked_output_tokens=1, joules=frame["prefill_energy_mj"].to_numpy() / 1000)
    decodes = joules.assign(joules=frame["decode_energy_mj"].to_numpy() / 1000)
    seen = {part: requests[f"{part}_s"].to_numpy() >= LEAST_S for part in ("ttft", "decode")}
    return Sessions(
        source=source_of(path),
        manifest=_manifest(device, framework, model, quantization),
        requests=requests,
        batches=no_batches(),
        prefill_j=prefills[seen["ttft"]][JOULES],
        decode_j=decodes[seen["decode"]][JOULES],
        idle_w=float(frame["idle_total_mw"].median()) / 1000,
        refused=tuple(
            {
                "n": int((~seen[part]).sum()),
                "reason": f"energy of {what} in under {LEAST_S:g} s: the power log lags by {LAG_S:g} s, "
                "so a tenth of it or more is that of another moment",
            }
            for part, what in (("ttft", "a prefill"), ("decode", "a decode"))
            if not seen[part].all()
        ),
        record={
            "joules_as_recorded": _totals(frame, requests),
            "device_named": "in every row" if device else "not in its rows: it is the board of the sweep's title",
        },
    )


def _requests(frame: pd.DataFrame) -> pd.DataFrame:
    return lone_requests(
        session=frame["timestamp"].str[:8].to_numpy(),  # a day of the campaign
        prompt_tokens=frame["prompt_tokens"].to_numpy(),
        output_tokens=frame["generated_tokens"].to_numpy(),
        ttft_s=frame["ttft_ms"].to_numpy() / 1000,
        tpot_s=frame["tpot_ms"].to_numpy() / 1000,
    )


def _totals(frame: pd.DataFrame, requests: pd.DataFrame) -> dict[str, Any]:
    """Return what is uncertain of the sums of rails: stated beside the fit, and corrected nowhere."""
    over = float(
        (frame["decode_energy_mj"].to_numpy() / frame["dec_total_mw"] / requests["decode_s"].to_numpy()).median()
    )
    return {
        "statement": "the recording adds four rails, one of which is fed from another, so that it counts that one "
        "twice, and no losses of the carrier board. Its joules are not everywhere its mean power x time: where they "
        "are more, the two are taken to differ by that rail, and the module's joules to lie between",
        "joules_over_mean_power_x_time": round(over, 3),
        "module_over_recorded": [round(min(1.0, 1 / over), 3), 1.0],
        "wall_over_recorded": list(WALL),
    }


def _manifest(device: str, framework: str, model: str, quantization: str) -> dict[str, Any]:
    known = architectures().get(model.lower())
    return {
        "device": f"Jetson {device or BOARD}",
        "model": model.lower(),
        "label": f"{framework}-{quantization.lower()}",
        "runtime_build": framework,
        "runtime": {
            "weights": "not stated in the recording",
            "quantization": quantization.lower(),
            "context_tokens": None if known is None else known.context_tokens,
        },
        "host": {"power_mode": "MAXN, clocks locked"},
        "meter": {"name": "the board's rails", "scope": "module", "covers": "four rails of the module"},
        "formulas": {"ttft_s": "ttft_ms", "decode_s": "tpot_ms x (generated_tokens - 1)"},
    }
