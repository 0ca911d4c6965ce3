"""Synthetic EdgeReasoning files from known coefficients, for the tests beside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration.fitting import fit_tables
from calibration.profile import Profile, file_name, write_profile

DEVICE = "Jetson AGX Orin 64GB"
PREFILL_S = (0.08, 0.0008, 4e-8)
DECODE_S = (0.1, 8e-7)
PREFILL_J = (0.5, 0.02, 1e-6)
DECODE_J = (2.8, 4e-5)
PROMPTS = range(129, 4098, 128)


def fit_recording(paths: Sequence[Path], out: Path, **told: Any) -> list[Profile]:
    """Fit tables, write the profiles and return them, as `moe2 fit` does without figures."""
    profiles = [fitted.profile for fitted in fit_tables(paths, **told)]
    out.mkdir(parents=True, exist_ok=True)
    for profile in profiles:
        write_profile(profile, out / file_name(profile.name))
    return profiles


def write_prefills(path: Path, *, noise: float = 0.0, models: Sequence[str] = ("Model-A",), idle: int = 0) -> Path:
    """Write prefill rows; the first `idle` of each model read 5.5 W, as a log that missed them does."""
    rng = np.random.default_rng(1)
    lines = ["device,model,batch,prompt_tokens,ttft_ms,avg_power_w,total_energy_j"]
    for model in models:
        for i, P in enumerate(PROMPTS):
            seconds = float(np.polyval(PREFILL_S[::-1], P)) * (1 + noise * rng.standard_normal())
            joules = float(np.polyval(PREFILL_J[::-1], P)) * (1 + noise * rng.standard_normal())
            watts = 28.0
            if i < idle:
                watts, joules = 5.5, 5.5 * seconds
            lines.append(f"{DEVICE},{model},1,{P},{seconds * 1000!r},{watts},{joules!r}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_decodes(path: Path, *, noise: float = 0.0, models: Sequence[str] = ("Model-A",)) -> Path:
    """Write decode rows, one-token rows with 0 s among them; a window also holds the prefill and some idling."""
    rng = np.random.default_rng(2)
    lines = [
        "device,model,prompt_tokens,output_tokens,initial_power,final_power,decode_time_s,monitoring_time_s,"
        "measured_total_gpu_energy_j"
    ]
    for model in models:
        for P in range(128, 1025, 128):
            for O in (1, 16, 64, 128, 512, 1024, 2048):  # noqa: E741
                context = sum(P + j for j in range(1, O))
                seconds = ((O - 1) * DECODE_S[0] + context * DECODE_S[1]) * (1 + noise * rng.standard_normal())
                joules = 3.0 + 0.03 * P + (O - 1) * DECODE_J[0] + context * DECODE_J[1]
                joules *= 1 + noise * rng.standard_normal()
                powers = "," if O == 1 else "3.1,28.0"
                lines.append(f"{DEVICE},{model},{P},{O},{powers},{seconds!r},{np.ceil(seconds + 1)},{joules!r}")
    path.write_text("\n".join(lines) + "\n")
    return path
