"""The calibration's part of docs/results.md: half-splits on recorded cells, and power meters beside each other."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from calibration.architectures import architecture_of
from calibration.device_transfer import DeviceError, device_errors
from calibration.half_split import recorded_half_splits
from calibration.meters.series import integral_j
from calibration.profile import find_profile
from calibration.sessions import check_growth
from calibration.sources.edgereasoning import read_decodes, read_prefills
from calibration.sources.iiswc26 import LEAST_S, read_chat_sweep
from calibration.sources.llamabench import read_speeds
from calibration.sources.power_bench import read_kernel_span, read_meter, read_nvml
from tools.pages import markdown_table

GPTJ_PARAMETERS = 6.05e9  # EleutherAI/gpt-j-6b model card
ALLOWED = {"decode s": 0.02, "decode J": 0.03, "prefill s": 0.05}


def sections(n: int = 200) -> Iterable[str]:
    """Yield markdown; nothing without the public measurements in $MOE2_DATA."""
    folder = os.environ.get("MOE2_DATA")
    if not folder:
        return
    measurements = Path(folder) / "measurements"
    yield from _halves(measurements, n)
    yield from _across_devices(measurements)
    yield "## Calibration: other recordings"
    yield _sweep(measurements)
    yield _mlperf(measurements / "mlperf_v4.1_agx_orin64.csv")
    yield "## Calibration: a GPU's own power sensor beside an external meter"
    yield bias(Path(folder) / "power")


def _halves(measurements: Path, n: int) -> Iterable[str]:
    prefills = read_prefills(measurements / "edgereasoning_agx_orin64_prefill.csv")
    decodes = read_decodes(measurements / "edgereasoning_agx_orin64_decode.csv")
    yield "## Calibration: half of the cells predict the other half"
    yield (
        f"Means over {n} random splits by cell of the EdgeReasoning recording (Jetson AGX Orin 64GB): the median of "
        "|predicted / measured − 1| on the half not seen, and how much of it a 90 % interval covers. Prefill is "
        "padded to tiles where cross-validation on the seen half prefers it, and judged above 256 tokens. Below 20 "
        "seen cells the interval is jackknife+, else conformal over ten folds."
    )
    yield markdown_table(
        ["model", "quantity", "cells", "error", "allowed", "coverage", "interval ±", "kind"],
        [
            [
                found.model,
                found.quantity,
                str(found.n_cells),
                f"{found.error:.2%}",
                f"{ALLOWED[found.quantity]:.0%}",
                f"{found.coverage:.1%}",
                f"{found.half_width:.1%}",
                found.method.partition(",")[0],
            ]
            for found in recorded_half_splits(prefills, decodes, n=n)
        ],
    )


def _across_devices(measurements: Path) -> Iterable[str]:
    yield "## Calibration: transfer to another device"
    errors = device_errors(read_speeds(measurements / "llamabench_llama3_gpus.csv"))
    yield (
        "llama.cpp on eight NVIDIA cards, one sequence at a time: each card left out and predicted from the one whose "
        "tensor rate (prefill) or memory bandwidth (decode) is nearest. The error is |predicted / recorded − 1|, the "
        "median over prompt lengths for each card, model and quantisation; figures over all of those. A prefill hardly "
        "follows the tensor rate of a data sheet: such a transfer is a guess of the order of magnitude, and the "
        "profile carries these errors."
    )
    yield markdown_table(["phase", "left out", "median error", "worst", "worst card"], _by_phase(errors))


def _by_phase(errors: Sequence[DeviceError]) -> list[list[str]]:
    rows = []
    for phase in ("prefill", "decode"):
        own = [found for found in errors if found.phase == phase]
        worst = max(own, key=lambda found: found.error)
        median = float(np.median([found.error for found in own]))
        card = f"{worst.left_out}, {worst.model} {worst.quantization}"
        rows.append([phase, str(len(own)), f"{median:.0%}", f"{worst.error:.0%}", card])
    return rows


def _sweep(measurements: Path) -> str:
    """Return what the import of the AGX Orin 32GB sweep keeps and refuses."""
    sweep = read_chat_sweep(measurements / "iiswc26_agx_orin32_chat_sweep.csv.gz")
    cached, rows, metered = [], 0, {"prefill": 0, "decode": 0}
    for sessions in sweep:
        rows += len(sessions.requests)
        metered["prefill"] += len(sessions.prefill_j)
        metered["decode"] += len(sessions.decode_j)
        try:
            check_growth("", sessions.requests["asked_prompt_tokens"], sessions.requests["ttft_s"])
        except ValueError:
            cached.append(f"{sessions.manifest['model']} {sessions.manifest['label']}")
    return (
        f"IISWC26 sweep of an AGX Orin 32GB: {len(sweep)} experts, {rows} rows. Refused as cached, since their time to "
        f"the first token hardly grows with the prompt: {', '.join(cached)}. Joules are kept of {metered['prefill']} "
        f"prefills and {metered['decode']} decodes, those of at least {LEAST_S:g} s (docs/aliasing.md says why)."
    )


def _mlperf(path: Path) -> str:
    """Return MLPerf's GPT-J on the AGX Orin 64GB beside what the Orin's measured decode says of so many bytes."""
    with path.open(encoding="utf-8", newline="") as file:
        runs = {
            (row["submitter"], row["scenario"]): row for row in csv.DictReader(file) if row["benchmark"] == "gptj-99"
        }
    single, offline = (runs["NVIDIA", scenario] for scenario in ("SingleStream", "Offline"))
    tokens = float(offline["tokens_per_s"]) / float(offline["samples_per_s"])
    p50, p99 = float(single["p50_s"]), float(single["p99_s"])
    orin = find_profile("agx-orin-64gb/deepseek-r1-distill-llama-8b/fp16", path.parent)
    bytes_per_s = architecture_of(orin.model).read_bytes("fp16") / orin.seconds.base
    width = bytes_per_s * float(single["mean_s"]) / tokens / GPTJ_PARAMETERS
    return (
        f"MLPerf 4.1, GPT-J on the AGX Orin 64GB, SingleStream: median {p50:.2f} s, 99th percentile {p99:.2f} s, mean "
        f"{float(single['mean_s']):.2f} s for {tokens:.0f} tokens (Offline's mean). The measured profile of that board "
        f"reads {bytes_per_s / 1e9:.0f} GB of weights a second while decoding. At that speed the mean leaves time for "
        f"at most {width:.1f} bytes per parameter and token, the prefill taken as nothing: consistent with weights of "
        "8 bits or fewer, which the file does not state, and with no profile here of 16 bits. It is a check of the "
        "order of magnitude, no more."
    )


def bias(power: Path) -> str:
    """Return a sentence on NVML beside an external meter on the RTX 4090."""
    stem = "gpb_Transient_Response_4090_TR"
    card, meter = read_nvml(power / f"{stem}_nvml.csv.gz"), read_meter(power / f"{stem}_pmd_1ms.csv.gz")
    begin_s, end_s = read_kernel_span(power / f"{stem}_kernel_timestamps.csv")

    def low(start_s: float, stop_s: float) -> float:
        joules = [integral_j(series.at_s, series.power_w, start_s, stop_s) for series in (card, meter)]
        return joules[0] / joules[1] - 1

    last_s = float(meter.at_s[-1])
    halves = [low(start_s, start_s + 0.5) for start_s in np.arange(begin_s + 0.5, end_s - 0.5, 0.5)]
    return (
        f"RTX 4090, transient-response series: NVML's joules are {low(0.0, last_s):+.1%} over all {last_s:.0f} s, "
        f"{low(begin_s, end_s):+.1%} over the kernel ({min(halves):+.1%} to {max(halves):+.1%} in windows of half a "
        f"second once it has settled) and {low(end_s + 1, last_s):+.1%} when idle: the bias is no constant factor, "
        "so the correction is stated for load and for idle apart, and is off unless asked for."
    )


if __name__ == "__main__":
    print("\n\n".join(sections()))
