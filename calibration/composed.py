"""Composed profiles: latency from kernel tables, energy from power figures of another source."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from calibration.architectures import Architecture
from calibration.costs import Costs, Decode, Prefill
from calibration.evidence import coefficients, fit_evidence, interval_evidence, noise, rounded, source_evidence
from calibration.fit import Fit, Floats, fit_relative, prefill_terms
from calibration.iterations import Limits, compose_iterations, knee_misfits
from calibration.precision import UNKNOWN
from calibration.profile import Profile, Provenance
from calibration.recordings import Source
from calibration.sources.llamabench import Speeds
from calibration.sources.vllm_kernels import KernelTables, read_kernel_tables

PROMPTS = tuple(np.unique(np.round(64 * 2 ** (np.arange(57) / 8)).astype(int)).tolist())
"""Prompt lengths 64 … 8192 that the prefill is fitted on: eight to a doubling, so that all sizes weigh alike."""
LEAST_GAIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedPower:
    """Power of a device in watts when no language model was metered on it: a value and its range, with sources.

    Each range is (low, value, high).
    """

    idle_w: float
    prefill_w: tuple[float, float, float]
    decode_w: tuple[float, float, float]
    sources: tuple[Source, ...]
    statement: str


def assumed_power(
    *, idle_w: float, busy_w: float, limit_w: float, limit_source: str, sources: tuple[Source, ...]
) -> AssumedPower:
    """Return a range for prefill and decode from idle, a compute-bound plateau and the board's limit.

    Prefill is compute-bound: the plateau, at most the limit. Decode waits for memory: somewhere between half way
    up from idle and the plateau; its middle is taken, and is prefill's low end.
    """
    half_w = (idle_w + busy_w) / 2
    decode_w = (half_w, (half_w + busy_w) / 2, busy_w)
    return AssumedPower(
        idle_w=idle_w,
        prefill_w=(decode_w[1], busy_w, limit_w),
        decode_w=decode_w,
        sources=sources,
        statement="no language model was metered on this device. Prefill: the plateau of a synthetic compute kernel, "
        f"at most the board's limit of {limit_w:g} W ({limit_source}). Decode, bound by memory: the middle between "
        "half way up from idle and that plateau. Energy is power x time",
    )


def composed_profile(
    files: tuple[Path, Path, Path],
    architecture: Architecture,
    *,
    device: str,
    device_name: str,
    quantization: str | None,
    limits: Limits,
    power: AssumedPower | None = None,
    speeds: Speeds | None = None,
    speeds_of: tuple[str, str, str] = ("", "", ""),
) -> Profile:
    """Return the profile of a model on a device from its tables dense, attention and per sequence.

    Iterations beyond the `limits` are left out. Without `power` its energies are unknown. `speeds_of` names device,
    model and quantisation of the llama.cpp figures to show beside.
    """
    tables = read_kernel_tables(*files)
    prefill, prefill_evidence = _fit_prefill(tables, architecture.layers)
    decode, decode_evidence = _fit_decode(tables, architecture.layers, limits)
    seconds = Costs.of(coefficients(prefill), cast("Decode", coefficients(decode)))
    knee_tokens, knee_evidence = _knee(files, architecture.layers, seconds, limits)
    prefill_j, decode_j, power_evidence = _joules(seconds, power)
    return Profile(
        name=f"{device}/{architecture.name}/{quantization or UNKNOWN}",
        device=device_name,
        model=architecture.name,
        quantization=quantization,
        runtime="vLLM 0.19, kernel times",
        power_mode="default",
        provenance=Provenance(latency="composed", energy=None if power is None else "assumed"),
        energy_scope=None if power is None else "gpu",
        context_tokens=architecture.context_tokens,
        seconds=seconds,
        knee_tokens=knee_tokens,
        prefill_j=prefill_j,
        decode_j=decode_j,
        idle_w=None if power is None else rounded(power.idle_w),
        residuals_prefill=noise(prefill),
        residuals_decode=noise(decode),
        evidence={
            **_origin(tables, architecture.layers),
            "prefill_s": prefill_evidence,
            "decode_s": decode_evidence,
            "knee": knee_evidence,
            "energy": power_evidence,
            "llama_cpp_beside": [] if speeds is None else _beside(seconds, speeds, speeds_of),
            "caveats": list(_CAVEATS),
        },
    )


def _origin(tables: KernelTables, layers: int) -> dict[str, Any]:
    whats = ("seconds of dense kernels", "seconds of attention", "seconds of output layer and sampler")
    return {
        "sources": [source_evidence(s, w) for s, w in zip(tables.sources, whats, strict=True)],
        "method": f"kernel times summed over {layers} decoder layers (two norms each), embedding, final norm, output "
        "layer and sampler; prompts beyond the largest chunk timed run in chunks of it; then soft-L1 on "
        "fitted / composed - 1, coefficients >= 0",
    }


_CAVEATS = (
    "host time between iterations (scheduling, sampling on the CPU, launches) is not in the kernel tables: "
    "a served iteration is longer",
    "residuals are the misfit of the smooth form to the kernel tables (tile steps), not the noise of runs",
    "short prompts are bound by memory: below 64 tokens a prefill is longer than fitted, by up to 6 ms",
    "joules are the card's as its own sensor (NVML) reads them: no host, no losses of the supply; "
    "beside an external meter that sensor read a few per cent low under load",
)


def composed_prefills(tables: KernelTables, layers: int) -> tuple[Floats, Floats]:
    """Return PROMPTS and the seconds of each prompt alone, shapes (n,)."""
    return np.array(PROMPTS, dtype=np.float64), np.array([tables.prefill_s(P, layers) for P in PROMPTS])


def _fit_prefill(tables: KernelTables, layers: int) -> tuple[Fit, dict[str, Any]]:
    prompts, seconds = composed_prefills(tables, layers)
    terms = prefill_terms(prompts)
    fit = fit_relative(terms, seconds)
    lengths = {"prompt_tokens": prompts}
    evidence = fit_evidence(fit, terms, seconds, names=("1", "P", "P²"), lengths=lengths, by="prompt_tokens")
    return fit, evidence | interval_evidence(terms, seconds)


def _fit_decode(tables: KernelTables, layers: int, limits: Limits) -> tuple[Fit, dict[str, Any]]:
    B, C, seconds = tables.decodes(layers)
    kept = limits.allow(B, B, C)
    if not kept.any():
        raise ValueError(f"no decode iteration that was timed is within {limits}; give larger limits, or none")
    terms = np.stack([np.ones_like(B), B, C], axis=-1)[kept]
    fit = fit_relative(terms, seconds[kept])
    reason = f"more than the engine runs at once, {limits}"
    refused = [] if kept.all() else [{"n": int((~kept).sum()), "reason": reason}]
    evidence = fit_evidence(
        fit,
        terms,
        seconds[kept],
        names=("1", "B", "C"),
        lengths={"sequences": B[kept], "context_tokens": C[kept]},
        by="sequences",
        refused=refused,
    )
    return fit, evidence | interval_evidence(terms, seconds[kept])


def _knee(files: tuple[Path, Path, Path], layers: int, seconds: Costs, limits: Limits) -> tuple[int, dict[str, Any]]:
    """Return the knee by which the fitted costs say the timed iterations best; 0 unless it is clearly better."""
    kept = compose_iterations(*files, layers=layers).within(limits)
    misfits = knee_misfits(kept, seconds)
    best = min(misfits, key=lambda knee: (misfits[knee], knee))
    clear = misfits[best] < (1 - LEAST_GAIN) * misfits[0]
    return best if clear else 0, {
        "n": len(kept.seconds),
        "method": "costs as fitted above; mean |composed / predicted - 1| of decode, prompt and mixed iterations, "
        f"kinds weighing alike, by the knee; 0 unless another is {LEAST_GAIN:.0%} better. Only the scheduler "
        "`chunked` uses it",
        "mean_misfits": {str(knee): rounded(misfit) for knee, misfit in misfits.items()},
    }


def _joules(seconds: Costs, power: AssumedPower | None) -> tuple[Prefill | None, Decode | None, dict[str, Any]]:
    if power is None:
        return None, None, {"unknown": "no power figures were given; energies and idle power are null"}
    prefill_w, decode_w = power.prefill_w[1], power.decode_w[1]
    prefill_j = tuple(rounded(prefill_w * s, 6) for s in seconds.prefill)
    decode_j = tuple(None if s is None else rounded(decode_w * s, 6) for s in seconds.decode)
    evidence = {
        "statement": power.statement,
        "idle_w": rounded(power.idle_w),
        "prefill_w": dict(zip(("low", "value", "high"), map(rounded, power.prefill_w), strict=True)),
        "decode_w": dict(zip(("low", "value", "high"), map(rounded, power.decode_w), strict=True)),
        "sources": [source_evidence(source, "power readings of a synthetic load") for source in power.sources],
    }
    return cast("Prefill", prefill_j), cast("Decode", decode_j), evidence


def _beside(seconds: Costs, speeds: Speeds, of: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Compare with llama.cpp: prefill of n tokens, and decode of n tokens after an empty prompt."""
    device, model, quantization = of
    own = (speeds.device == device) & (speeds.model == model) & (speeds.quantization == quantization)
    return [
        {
            "phase": str(speeds.phase[row]),
            "tokens": n,
            "llama_cpp_tokens_per_s": rounded(float(speeds.tokens_per_s[row])),
            "this_profile_tokens_per_s": rounded(_speed(seconds, str(speeds.phase[row]), n)),
            "source": speeds.source.file,
        }
        for row in np.flatnonzero(own & np.isfinite(speeds.tokens_per_s)).tolist()
        for n in [int(speeds.tokens[row])]
    ]


def _speed(seconds: Costs, phase: str, n: int) -> float:
    if phase == "prefill":
        return n / float(seconds.prefill_of(n))
    return (n - 1) / float(seconds.leg_of(1, n) - seconds.prefill_of(1))
