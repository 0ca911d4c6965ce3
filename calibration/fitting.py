"""Fitting of recordings to profiles: files are recognised by their header, profiles written as JSON."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.architectures import architecture_of
from calibration.diagnostics import Fitted, of_kernels, of_recordings, of_sessions
from calibration.iterations import Limits
from calibration.kernels import NO_LIMITS, kernel_profile
from calibration.measured import measured_profile
from calibration.precision import UNKNOWN, Precision, precision_of
from calibration.profile import Profile
from calibration.recordings import Decodes, Prefills
from calibration.session_profile import session_profile
from calibration.sessions import Sessions, read_sessions
from calibration.sources import edgereasoning, iiswc26, splitwise
from calibration.sources.aiperf import read_aiperf
from calibration.sources.csv_table import read_header
from calibration.sources.formats import PAIR, TRIPLE, check_paths, recognised
from calibration.sources.llama_bench import read_llama_bench

SWEEPS: dict[str, tuple[Mapping[str, Any], Callable[[Path], list[Sessions]]]] = {
    "IISWC26 chat sweep": (iiswc26.COLUMNS, iiswc26.read_chat_sweep),
    "Splitwise performance model": (splitwise.COLUMNS, splitwise.read_performance_model),
}
"""Files that hold many experts, by the columns that tell them, and what reads them."""
_OPTION = "who fitted it"
QUANTITIES = ("prefill_s", "decode_s", "prefill_j", "decode_j")


def fit_tables(
    paths: Sequence[Path],
    *,
    device: str | None = None,
    model: str | None = None,
    quantization: str | None = None,
    tiles: bool = False,
    limits: Limits = NO_LIMITS,
) -> list[Fitted]:
    """Return one profile per model of the tables in `paths`, each beside what it was fitted on.

    EdgeReasoning's prefill and decode files come as a pair and name their device and models; with `tiles` a prefill
    costs whole tiles of prompt tokens where cross-validation prefers one. vLLM's three kernel tables name neither:
    `device` and `model` (one whose architecture is known) are then needed; iterations beyond the `limits` are left out,
    and with a token budget whole iterations are fitted, as the scheduler chunked needs it.

    Raises one ValueError for files that are not understood, lack their partners or cannot be fitted.
    """
    files = recognised(paths)
    if set(files) == set(PAIR):
        if limits != NO_LIMITS:
            raise ValueError(f"{paths[0]}: sequences were measured one at a time; {limits} says nothing of them")
        return fit_edgereasoning(*(files[kind] for kind in PAIR), quantization=quantization, tiles=tiles)
    if set(files) == set(TRIPLE):
        if tiles:
            raise ValueError(f"{paths[0]}: tiles are of measured prefills, these are composed of kernel times")
        tables = (files[TRIPLE[0]], files[TRIPLE[1]], files[TRIPLE[2]])
        return [_fit_kernels(tables, device=device, model=model, quantization=quantization, limits=limits)]
    raise ValueError(
        f"found {', '.join(f'{path} ({kind})' for kind, path in files.items()) or 'no files'}; "
        f"needs the pair {' + '.join(PAIR)}, or the three {' + '.join(TRIPLE)}"
    )


def read_recorded(
    paths: Sequence[Path], *, device: str | None = None, model: str | None = None
) -> list[Sessions] | None:
    """Return recorded sessions from any tool that records requests, one for each expert; None for other files.

    These are folders of `moe2 calibrate`, `llama-bench -o json`, AIPerf's profile_export.jsonl (which names neither
    device nor model), the IISWC26 sweep and Splitwise's performance model.
    """
    check_paths(paths)
    if not paths:
        return None
    if paths[0].is_dir():
        return [read_sessions(paths)]
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
) -> Fitted:
    """Return the profile of sessions beside their cells.

    It is named by device, model and label: a sweep has several of one quantisation. What is given stands for what the
    recording tells; the quantisation is None where neither tells one. `tiles` is for servers that prefill
    prompts alone, `token_budget` for those that fill iterations of so many tokens.
    """
    manifest = {**sessions.manifest, "device": device or sessions.manifest["device"]}
    manifest["model"] = model or manifest["model"]
    told = precision_of(sessions.manifest) or precision_of(manifest)
    if quantization is not None:
        told = Precision(quantization=quantization, told_by=_OPTION)
    sessions = replace(sessions, manifest=manifest)
    weights = None if told is None else told.quantization
    named = "/".join(
        [
            device_slug(str(manifest["device"])),
            slug(_stem(manifest["model"])),
            slug(str(manifest.get("label") or weights or UNKNOWN)),
        ]
    )
    found = session_profile(sessions, name=named, quantization=weights, tiles=tiles, token_budget=token_budget)
    told_by = "nothing: it is unknown" if told is None else told.told_by
    found = replace(found, evidence={**found.evidence, "quantization_told_by": told_by})
    return of_sessions(found, sessions)


def fit_edgereasoning(
    prefill: Path, decode: Path, *, quantization: str | None = None, tiles: bool = False
) -> list[Fitted]:
    """Return the measured profile of every device and model in a pair of EdgeReasoning files, beside their rows."""
    prefills, decodes = edgereasoning.read_prefills(prefill), edgereasoning.read_decodes(decode)
    pairs = _experts(prefills)
    if pairs != _experts(decodes):
        device, model = min(set(pairs) ^ set(_experts(decodes)))
        raise ValueError(f"{prefill} and {decode}: only one of them has rows of {model} on {device}; both are needed")
    profiles = [
        measured_profile(
            prefills,
            decodes,
            device=device_slug(device),
            model=slug(model),
            recorded_device=device,
            recorded_model=model,
            **({} if quantization is None else {"quantization": slug(quantization)}),
            tiles=tiles,
        )
        for device, model in pairs
    ]
    return [of_recordings(profile, prefills, decodes) for profile in profiles]


def fit_summary(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """Return one row per profile and quantity: coefficients, rows used and refused, and the error left out.

    `error` is the median absolute relative error on lengths that the fit did not see; `half_width` is of the 90 %
    prediction interval, relative, and `coverage` what was measured of it on rows left out. None where nothing was
    fitted.
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
    >>> device_slug("Intel(R) Xeon(R) CPU @ 2.20GHz")
    'intel-xeon-cpu-2.20ghz'
    """
    makers = {"jetson", "nvidia", "geforce"}
    return slug(" ".join(word for word in device.split() if word.lower() not in makers) or device)


def slug(name: str) -> str:
    """Return a name as a part of profile names: small letters and digits, joined by - . _ and +.

    >>> slug("DeepSeek-R1 (Distill), 8B"), slug("Q4_K_M")
    ('deepseek-r1-distill-8b', 'q4_k_m')
    """
    plain = re.sub(r"\((r|tm|c)\)|[®™©]", " ", name.lower())  # of trademarks
    return re.sub(r"[^\w.+]+", "-", plain).strip("-") or UNKNOWN


def _has_columns(path: Path, columns: Mapping[str, Any]) -> bool:
    return path.suffix in {".csv", ".gz"} and path.is_file() and set(columns) <= set(read_header(path))


def _stem(model: Any) -> str:
    """Return a short name of a model: of a file its stem, of any other name all behind its last slash."""
    path = Path(str(model))
    return path.stem if path.suffix in {".gguf", ".bin", ".safetensors"} else path.name


def _fit_kernels(
    tables: tuple[Path, Path, Path],
    *,
    device: str | None,
    model: str | None,
    quantization: str | None,
    limits: Limits,
) -> Fitted:
    if device is None or model is None:
        raise ValueError(f"{tables[0]}: kernel tables name neither their device nor their model; give both")
    architecture = architecture_of(model)
    chunked = limits.token_budget is not None
    profile = kernel_profile(
        tables,
        architecture,
        device=device_slug(device),
        device_name=device,
        quantization=None if quantization is None else slug(quantization),
        limits=limits,
        chunked=chunked,
    )
    return of_kernels(profile, tables, layers=architecture.layers, limits=limits, chunked=chunked)


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
        "half_width": evidence.get("interval", {}).get("half_width"),
        "coverage": evidence.get("interval", {}).get("coverage"),
        "interval": evidence.get("interval", {}).get("method"),
    }
