"""The calibration's part of docs/results.md: half-splits on recorded cells, and power meters beside each other."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from calibration.half_split import recorded_half_splits
from calibration.meters.series import integral_j
from calibration.sources.edgereasoning import read_decodes, read_prefills
from calibration.sources.power_bench import read_kernel_span, read_meter, read_nvml

ALLOWED = {"decode s": 0.02, "decode J": 0.03, "prefill s": 0.05}


def sections(n: int = 200) -> Iterable[str]:
    """Yield markdown; nothing without the public measurements in $MOE2_DATA."""
    folder = os.environ.get("MOE2_DATA")
    if not folder:
        return
    measurements = Path(folder) / "measurements"
    prefills = read_prefills(measurements / "edgereasoning_agx_orin64_prefill.csv")
    decodes = read_decodes(measurements / "edgereasoning_agx_orin64_decode.csv")
    yield "## Calibration: half of the cells predict the other half"
    yield (
        f"Means over {n} random splits by cell of the EdgeReasoning recording (Jetson AGX Orin 64GB): the median of "
        "|predicted / measured − 1| on the half not seen, and how much of it a 90 % interval covers. Prefill is "
        "padded to tiles where cross-validation on the seen half prefers it, and judged above 256 tokens. Below 20 "
        "seen cells the interval is jackknife+, else conformal over ten folds."
    )
    yield _table(
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
    yield "## Calibration: a GPU's own power sensor beside an external meter"
    yield bias(Path(folder) / "power")


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


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *rows])


if __name__ == "__main__":
    print("\n\n".join(sections()))
