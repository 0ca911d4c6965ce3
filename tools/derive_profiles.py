"""Write the bundled profiles from the public measurements in $MOE2_DATA.

Usage: MOE2_DATA=/path/to/data python tools/derive_profiles.py [--out FOLDER]

Measured (Jetson AGX Orin 64GB) and composed (RTX 4090) profiles first; then, on each device, every other model of
the pool scaled from the nearest of them; measured profiles of the Jetson AGX Orin 32GB; and the composed profile of an
engine on the RTX PRO 6000. Beside them, how far off a transfer from device to device is. The same inputs give the same
bytes.
"""

import argparse
import os
from pathlib import Path

from calibration.architectures import Architecture, architecture_of
from calibration.composed import AssumedPower, assumed_power
from calibration.device_transfer import device_errors, write_device_errors
from calibration.fitting import fit_edgereasoning, fit_sessions
from calibration.iterations import Limits
from calibration.kernels import kernel_profile
from calibration.profile import Profile, file_name, write_profile
from calibration.sources.edgereasoning import read_decodes, read_prefills
from calibration.sources.iiswc26 import read_chat_sweep
from calibration.sources.llamabench import read_speeds
from calibration.sources.power_bench import idle_and_busy_w, read_kernel_span, read_nvml
from calibration.transfer import nearest, scaled_profile, transfer_errors

POOL = (
    "llama-3.1-8b-instruct",
    "phi-3-mini-4k-instruct",
    "mathstral-7b",
    "gemma-7b",
    "qwen1.5-7b-chat",
    "mistral-7b-instruct-v0.2",
    "yi-6b-chat",
    "llama-2-13b",
)
ORIN_32 = (
    ("llama-3.1-8b", "llamacpp-q4_k_m"),
    ("llama-3.2-1b", "llamacpp-q4_k_m"),
    ("llama-3.2-1b", "llamacpp-q8_0"),
    ("llama-3.2-1b", "trtllm-fp16"),
)
"""Experts of the 32GB board whose rows name it and whose left-out errors are at most 5 % (prefill) and 2 % (decode)."""
RTX_4090_BYTES = 24 * 2**30
USABLE_SHARE = 0.9  # what vLLM takes of a card's memory unless told otherwise
RTX_4090_LIMIT_W = 450.0
RTX_4090_LIMITS = Limits(max_batch=64, token_budget=2048, kv_capacity_tokens=65_536)
"""What fits the memory of a 24 GB card beside an 8B model, with vLLM's own default of tokens an iteration."""
TRANSFER_NOTE = "median |predicted / recorded - 1| of each measured model left out and predicted from the nearest other"


def orin_profiles(measurements: Path) -> list[Profile]:
    """Return the measured profiles of the Orin, then the pool scaled from them; all know their transfer errors."""
    prefill = measurements / "edgereasoning_agx_orin64_prefill.csv"
    decode = measurements / "edgereasoning_agx_orin64_decode.csv"
    measured = {f.profile.model: f.profile for f in fit_edgereasoning(prefill, decode)}
    known = {model: architecture_of(model) for model in measured}
    errors = transfer_errors(measured, known, read_prefills(prefill), read_decodes(decode))
    scaled = []
    for target in map(architecture_of, POOL):
        source = nearest(target, known)
        scaled.append(
            scaled_profile(
                measured[source],
                known[source],
                target,
                device="agx-orin-64gb",
                errors=errors,
                errors_note=TRANSFER_NOTE,
            )
        )
    return [*measured.values(), *scaled]


def orin_32_profiles(measurements: Path) -> list[Profile]:
    """Return measured profiles of the 32GB board: of the sweep's experts those in ORIN_32, which fit well."""
    sweep = read_chat_sweep(measurements / "iiswc26_agx_orin32_chat_sweep.csv.gz")
    chosen = [s for s in sweep if (s.manifest["model"], s.manifest["label"]) in ORIN_32]
    return [fit_sessions(sessions).profile for sessions in chosen]


def rtx_4090_profiles(data: Path, orin: list[Profile]) -> list[Profile]:
    """Return the composed profile of the 4090, then the models of the pool that fit its memory, scaled from it."""
    measurements = data / "measurements"
    source = architecture_of("llama-3.1-8b-instruct")
    dense, attention, per_sequence = (
        measurements / f"vllm_rtx4090_llama31_8b_{part}.csv.gz" for part in ("dense", "attention", "per_sequence")
    )
    composed = kernel_profile(
        (dense, attention, per_sequence),
        source,
        limits=RTX_4090_LIMITS,
        device="rtx-4090",
        device_name="NVIDIA GeForce RTX 4090",
        quantization="bf16",
        power=rtx_4090_power(data / "power"),
        speeds=read_speeds(measurements / "llamabench_llama3_gpus.csv"),
        speeds_of=("4090 24GB", "LLaMA-3-8B", "F16"),
    )
    errors = next(p.evidence["transfer_errors"] for p in orin if "transfer_errors" in p.evidence)
    note = f"measured on the Jetson AGX Orin 64GB, as only one model was composed on this device: {TRANSFER_NOTE}"
    targets = [target for target in map(architecture_of, POOL) if target != source and _fits(target)]
    return [
        composed,
        *(
            scaled_profile(composed, source, target, device="rtx-4090", errors=errors, errors_note=note)
            for target in targets
        ),
    ]


def rtx_pro_6000_profile(measurements: Path) -> Profile:
    """Return the composed profile of an engine on the RTX PRO 6000, with the limits of the recorded server."""
    dense, attention, per_sequence = (
        measurements / f"vllm_rtxpro6000_llama31_8b_{part}.csv.gz" for part in ("dense", "attention", "per_sequence")
    )
    return kernel_profile(
        (dense, attention, per_sequence),
        architecture_of("llama-3.1-8b-instruct"),
        limits=Limits(max_batch=128, token_budget=2048, kv_capacity_tokens=36_578 * 16),
        chunked=True,
        device="rtx-pro-6000",
        device_name="NVIDIA RTX PRO 6000",
        quantization="bf16",
    )


def rtx_4090_power(power: Path) -> AssumedPower:
    """Return the assumed power of the 4090, from NVML's readings of a synthetic kernel."""
    series = read_nvml(power / "gpb_Transient_Response_4090_TR_nvml.csv.gz")
    span = read_kernel_span(power / "gpb_Transient_Response_4090_TR_kernel_timestamps.csv")
    idle_w, busy_w = idle_and_busy_w(series, span)
    return assumed_power(
        idle_w=idle_w,
        busy_w=busy_w,
        limit_w=RTX_4090_LIMIT_W,
        limit_source="NVIDIA's specification of the GeForce RTX 4090",
        sources=(series.source,),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bundled = Path(__file__).parent.parent / "calibration" / "profiles"
    parser.add_argument("--out", type=Path, default=bundled, help="folder to write to")
    out = parser.parse_args().out
    folder = os.environ.get("MOE2_DATA")
    if not folder:
        parser.error("MOE2_DATA is not set: it names the folder of public measurements")
    orin = orin_profiles(Path(folder) / "measurements")
    out.mkdir(parents=True, exist_ok=True)
    engine = rtx_pro_6000_profile(Path(folder) / "measurements")
    for profile in [
        *orin,
        *orin_32_profiles(Path(folder) / "measurements"),
        *rtx_4090_profiles(Path(folder), orin),
        engine,
    ]:
        write_profile(profile, out / file_name(profile.name))
        print(out / file_name(profile.name))
    speeds = read_speeds(Path(folder) / "measurements" / "llamabench_llama3_gpus.csv")
    write_device_errors(device_errors(speeds), out / "device_errors.csv")


def _fits(target: Architecture) -> bool:
    return target.weight_bytes("bf16") < USABLE_SHARE * RTX_4090_BYTES


if __name__ == "__main__":
    main()
