"""Fitting of recordings to profiles: files are recognised by their header, profiles written as JSON."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration.architectures import architecture_of
from calibration.composed import composed_profile
from calibration.measured import measured_profile
from calibration.profile import Profile, file_name, write_profile
from calibration.recordings import Decodes, Prefills
from calibration.session_profile import session_profile
from calibration.sessions import Sessions, read_sessions
from calibration.sources import edgereasoning, iiswc26, splitwise, vllm_kernels
from calibration.sources.aiperf import read_aiperf
from calibration.sources.csv_table import read_header
from calibration.sources.llama_bench import read_llama_bench

FORMATS: dict[str, frozenset[str]] = {
    "EdgeReasoning prefill": frozenset(edgereasoning.PREFILL_COLUMNS),
    "EdgeReasoning decode": frozenset(edgereasoning.DECODE_COLUMNS),
    "vLLM dense kernels": frozenset(vllm_kernels.DENSE_COLUMNS),
    "vLLM attention kernels": frozenset(vllm_kernels.ATTENTION_COLUMNS),
    "vLLM per-sequence kernels": frozenset(vllm_kernels.PER_SEQUENCE_COLUMNS),
}
_PAIR = ("EdgeReasoning prefill", "EdgeReasoning decode")
_TRIPLE = ("vLLM dense kernels", "vLLM attention kernels", "vLLM per-sequence kernels")
SWEEPS: dict[str, tuple[Mapping[str, Any], Callable[[Path], list[Sessions]]]] = {
    "IISWC26 chat sweep": (iiswc26.COLUMNS, iiswc26.read_chat_sweep),
    "Splitwise performance model": (splitwise.COLUMNS, splitwise.read_performance_model),
}
"""Files that hold many experts, by the columns that tell them, and what reads them."""
QUANTITIES = ("prefill_s", "decode_s", "prefill_j", "decode_j")


def fit_recording(
    paths: Sequence[Path],
    out: Path,
    *,
    device: str | None = None,
    model: str | None = None,
    quantization: str = "bf16",
    tiles: bool = False,
) -> list[Profile]:
    """Fit the recordings in `paths`, write one profile per model to the folder `out`, and return the profiles.

    With `tiles` a measured prefill costs whole tiles of prompt tokens where cross-validation prefers one.

    EdgeReasoning's prefill and decode files come as a pair and name their device and models. vLLM's three kernel
    tables name neither: `device` and `model` (one whose architecture is known) are then needed.

    Raises one ValueError for files that are not understood, lack their partners or cannot be fitted; nothing is
    written then.
    """
    files = _recognised(paths)
    if set(files) == set(_PAIR):
        profiles = fit_edgereasoning(*(files[kind] for kind in _PAIR), tiles=tiles)
    elif set(files) == set(_TRIPLE):
        tables = [files[kind] for kind in _TRIPLE]
        profiles = [_fit_kernels(tables, device=device, model=model, quantization=quantization)]
    else:
        raise ValueError(
            f"found {', '.join(f'{path} ({kind})' for kind, path in files.items()) or 'no files'}; "
            f"needs the pair {' + '.join(_PAIR)}, or the three {' + '.join(_TRIPLE)}"
        )
    out.mkdir(parents=True, exist_ok=True)
    for profile in profiles:
        write_profile(profile, out / file_name(profile.name))
    return profiles


def read_recorded(
    paths: Sequence[Path], *, device: str | None = None, model: str | None = None
) -> list[Sessions] | None:
    """Return recorded sessions from any tool that records requests, one for each expert; None for other files.

    These are folders of `moe2 calibrate`, `llama-bench -o json`, AIPerf's profile_export.jsonl (which names neither
    device nor model), the IISWC26 sweep and Splitwise's performance model.
    """
    if paths and all(path.is_dir() for path in paths):
        return [read_sessions(paths)]
    if not paths or paths[0].is_dir():
        return None
    path, *more = paths
    readers = {kind: reader for kind, (columns, reader) in SWEEPS.items() if _has_columns(path, columns)}
    if path.suffix not in {".json", ".jsonl"} and not readers:
        return None
    if more:
        raise ValueError(f"{path}: give one such file at a time, found {len(paths)}")
    if readers:
        (reader,) = readers.values()
        return reader(path)
    if path.suffix == ".json":
        return [read_llama_bench(path)]
    if device is None or model is None:
        raise ValueError(f"{path}: AIPerf's records name neither device nor model; give --device and --model")
    return [read_aiperf(path, device=device, model=model)]


def fit_sessions(
    sessions: Sessions,
    *,
    device: str | None = None,
    model: str | None = None,
    quantization: str | None = None,
    tiles: bool = False,
    token_budget: int | None = None,
) -> Profile:
    """Return the profile of sessions, named by device, model and label (a sweep has several of one quantisation).

    What is given stands for what the recording tells; bf16 where neither tells a quantisation. `tiles` is for servers
    that prefill prompts alone, `token_budget` for those that fill iterations of so many tokens.
    """
    manifest = sessions.manifest
    weights = quantization or manifest["runtime"].get("quantization") or "bf16"
    label = manifest.get("label") or weights
    named = f"{device_slug(device or str(manifest['device']))}/{model or _stem(manifest['model'])}/{label}"
    return session_profile(sessions, name=named, quantization=weights, tiles=tiles, token_budget=token_budget)


def fit_edgereasoning(prefill: Path, decode: Path, *, tiles: bool = False) -> list[Profile]:
    """Return the measured profile of every device and model in a pair of EdgeReasoning files."""
    prefills, decodes = edgereasoning.read_prefills(prefill), edgereasoning.read_decodes(decode)
    pairs = _experts(prefills)
    if pairs != _experts(decodes):
        device, model = min(set(pairs) ^ set(_experts(decodes)))
        raise ValueError(f"{prefill} and {decode}: only one of them has rows of {model} on {device}; both are needed")
    return [
        measured_profile(
            prefills,
            decodes,
            device=device_slug(device),
            model=model.lower(),
            recorded_device=device,
            recorded_model=model,
            tiles=tiles,
        )
        for device, model in pairs
    ]


def fit_summary(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """Return one row per profile and quantity: coefficients, rows used and refused, and the error left out.

    `error` is the median absolute relative error on lengths that the fit did not see; None where nothing was fitted.
    """
    return [
        {
            "profile": profile.name,
            "quantity": quantity,
            "coefficients": _coefficients(profile, quantity),
            **_counts(profile.evidence.get(quantity, {})),
        }
        for profile in profiles
        for quantity in QUANTITIES
    ]


def device_slug(device: str) -> str:
    """Return the short name of a device, as it stands in profile names.

    >>> device_slug("Jetson AGX Orin 64GB"), device_slug("NVIDIA GeForce RTX 4090")
    ('agx-orin-64gb', 'rtx-4090')
    """
    makers = {"jetson", "nvidia", "geforce"}
    return "-".join(word for word in device.lower().split() if word not in makers)


def _has_columns(path: Path, columns: Mapping[str, Any]) -> bool:
    return path.suffix in {".csv", ".gz"} and path.is_file() and set(columns) <= set(read_header(path))


def _stem(model: Any) -> str:
    """Return a short name of a model: of a file its stem, of any other name all behind its last slash."""
    path = Path(str(model))
    return (path.stem if path.suffix in {".gguf", ".bin", ".safetensors"} else path.name).lower()


def _recognised(paths: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        header = read_header(path)
        # a format with more columns is told first: the dense table's columns are common words
        kind = next((k for k in sorted(FORMATS, key=lambda k: -len(FORMATS[k])) if FORMATS[k] <= set(header)), None)
        if kind is None:
            known = "; ".join(f"{kind}: {', '.join(sorted(columns))}" for kind, columns in FORMATS.items())
            raise ValueError(f"{path}: its header {','.join(header)!r} is of no known recording; known are {known}")
        if kind in files:
            raise ValueError(f"{path} and {files[kind]} are both {kind}; give one of each at a time")
        files[kind] = path
    return files


def _fit_kernels(paths: Sequence[Path], *, device: str | None, model: str | None, quantization: str) -> Profile:
    dense, attention, per_sequence = paths
    if device is None or model is None:
        raise ValueError(f"{dense}: kernel tables name neither their device nor their model; give both")
    architecture = architecture_of(model)
    return composed_profile(
        (dense, attention, per_sequence),
        architecture,
        device=device_slug(device),
        device_name=device,
        quantization=quantization,
    )


def _experts(recording: Prefills | Decodes) -> list[tuple[str, str]]:
    return sorted(set(zip(recording.device.tolist(), recording.model.tolist(), strict=True)))


def _coefficients(profile: Profile, quantity: str) -> tuple[float | None, ...] | None:
    return {
        "prefill_s": profile.seconds.prefill,
        "decode_s": profile.seconds.decode,
        "prefill_j": profile.prefill_j,
        "decode_j": profile.decode_j,
    }[quantity]


def _counts(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": evidence.get("n", 0),
        "refused": int(np.sum([row["n"] for row in evidence.get("refused", [])])),
        "reasons": [row["reason"] for row in evidence.get("refused", [])],
        "error": evidence.get("left_out", {}).get("median_abs_error"),
    }
