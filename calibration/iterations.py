"""Batched iterations composed from kernel tables: prompt chunks and decoding sequences together, as engines run them.

Source of the form: DESIGN, "The server (twin)", scheduler `chunked`: d + e·B + f·C, c·((s+n)² - s²) for each chunk, and
a linear cost of prompt tokens that is e up to the knee and b beyond it. One term is added: g·C where an iteration
carries prompts beside decoding sequences (docs/decisions/calibration.md).
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from calibration.costs import Costs
from calibration.evidence import coefficients
from calibration.fit import Fit, fit_relative
from calibration.sources.csv_table import read_table
from calibration.sources.vllm_kernels import (
    ATTENTION_COLUMNS,
    DECODER_LAYER,
    HEADS,
    ONCE,
    dense_curves,
    head_curves,
)

Floats = NDArray[np.float64]

KNEES = (0, 64, 128, 192, 256, 320, 384, 512)
"""Token counts that are tried as the knee; the fit with the least mean misfit wins."""
ROWS_OF_A_KIND = 2000
"""Iterations of each kind that a fit weighs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an engine can run at once: sequences, tokens of one iteration, tokens in its KV cache.

    None: as many as were timed.
    """

    max_batch: int | None = None
    token_budget: int | None = None
    kv_capacity_tokens: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            found = getattr(self, field.name)
            if found is not None and found < 1:
                raise ValueError(f"{field.name}: found {found}, must be at least 1")

    def __str__(self) -> str:
        """Return the limits in words; '' where there are none."""
        words = (
            ("max_batch", "sequences"),
            ("token_budget", "tokens an iteration"),
            ("kv_capacity_tokens", "KV tokens"),
        )
        return ", ".join(f"{getattr(self, key)} {what}" for key, what in words if getattr(self, key) is not None)

    def allow(self, sequences: Floats, tokens: Floats, kv_tokens: Floats) -> NDArray[np.bool_]:
        """Return which iterations the engine can run, shape (n,)."""
        pairs = ((sequences, self.max_batch), (tokens, self.token_budget), (kv_tokens, self.kv_capacity_tokens))
        within = [found <= (np.inf if most is None else most) for found, most in pairs]
        return np.asarray(np.all(within, axis=0), dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Iterations:
    """Iterations and their length; every column is (n,).

    Decoding sequences and their summed context; prompt tokens in the iteration, and those of the prompt done before.
    """

    sequences: Floats
    context_tokens: Floats
    chunk_tokens: Floats
    chunk_done: Floats
    seconds: Floats

    def within(self, limits: Limits) -> "Iterations":
        """Return the iterations that an engine of these limits can run; ValueError when none was timed."""
        tokens, in_cache = self.sequences + self.chunk_tokens, self.context_tokens + self.chunk_tokens + self.chunk_done
        kept = np.flatnonzero(limits.allow(self.sequences, tokens, in_cache))
        if not len(kept):
            raise ValueError(f"no iteration that was timed is within {limits}; give larger limits, or none")
        return self.rows(kept)

    def rows(self, rows: NDArray[np.intp]) -> "Iterations":
        """Return the given rows, in their order."""
        return Iterations(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def lasting(self, seconds: Floats) -> "Iterations":
        """Return the same iterations with other lengths."""
        return replace(self, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationFit:
    """Costs and knee of an engine's iterations, and how well they fit them."""

    costs: Costs
    knee_tokens: int
    fit: Fit


def compose_iterations(dense: Path, attention: Path, per_sequence: Path, *, layers: int) -> Iterations:
    """Return every iteration that the attention table timed, with the kernels around it for so many decoder layers.

    A chunk's last token and every decoding sequence pass the output layer. Raises ValueError naming the file.
    """
    rows = read_table(attention, ATTENTION_COLUMNS)
    chunk, sequences = rows["prefill_chunk"].astype(np.float64), rows["n_decode"].astype(np.float64)
    tokens, heads = chunk + sequences, sequences + (chunk > 0)
    around_s = around_attention_s(dense, per_sequence, tokens=tokens, heads=heads, layers=layers)
    timed = tokens > 0
    return Iterations(
        sequences=sequences[timed],
        context_tokens=(sequences * rows["kv_decode"])[timed],
        chunk_tokens=chunk[timed],
        chunk_done=rows["kv_prefill"][timed].astype(np.float64),
        seconds=(around_s + layers * rows["time_us"] / 1e6)[timed],
    )


def around_attention_s(dense: Path, per_sequence: Path, *, tokens: Floats, heads: Floats, layers: int) -> Floats:
    """Return the seconds of all kernels but attention for so many tokens and sequences that emit one, shape (n,)."""
    by_tokens, by_sequences = dense_curves(dense), head_curves(per_sequence)
    around_s = np.zeros(len(tokens))
    for name in HEADS:
        around_s += np.interp(heads, *by_sequences[name])
    for name, times in {**dict.fromkeys(ONCE, 1), **{k: layers * n for k, n in DECODER_LAYER.items()}}.items():
        around_s += times * np.interp(tokens, *by_tokens[name])
    return around_s


def fit_iterations(iterations: Iterations) -> IterationFit:
    """Return the costs and the knee with the least mean relative misfit, coefficients >= 0; rows weigh alike."""
    fits = {knee: fit_relative(iteration_terms(iterations, knee), iterations.seconds) for knee in KNEES}
    knee = min(fits, key=lambda k: (_misfit(fits[k]), k))
    base, per_sequence, per_context_token, linear, square, mixed = coefficients(fits[knee])
    return IterationFit(
        costs=Costs.of((base, linear, square), (base, per_sequence, per_context_token), mixed_per_context_token=mixed),
        knee_tokens=knee,
        fit=fits[knee],
    )


def knee_misfits(iterations: Iterations, costs: Costs) -> dict[int, float]:
    """Return the mean relative misfit of costs that are known, by the knee tried.

    Iterations of decoding alone, of a prompt alone and of both weigh alike, however many of each were timed.
    """
    balanced = iterations.rows(_balanced(iterations))
    known = iteration_coefficients(costs)
    return {
        knee: float(np.mean(np.abs(balanced.seconds / (iteration_terms(balanced, knee) @ known) - 1.0)))
        for knee in KNEES
    }


def _balanced(iterations: Iterations) -> NDArray[np.intp]:
    """Return about as many rows of each kind of iteration: the rare ones repeated, the others drawn, seed 0."""
    decodes, prompts = iterations.sequences > 0, iterations.chunk_tokens > 0
    kinds = [np.flatnonzero(kind) for kind in (decodes & ~prompts, prompts & ~decodes, decodes & prompts)]
    chance = np.random.default_rng(0)
    return np.concatenate(
        [
            np.tile(kind, round(ROWS_OF_A_KIND / len(kind)))
            if len(kind) < ROWS_OF_A_KIND
            else chance.permutation(kind)[:ROWS_OF_A_KIND]
            for kind in kinds
            if len(kind)
        ]
    )


def iteration_coefficients(costs: Costs) -> Floats:
    """Return d, e, f, b, c and g of costs, shape (6,)."""
    (_, b, c), (d, e, f) = costs.prefill, costs.decode
    return np.array([d, e or 0.0, f, b, c, costs.mixed_per_context_token])


def iteration_terms(iterations: Iterations, knee: int) -> Floats:
    """Return the terms of d, e, f, b, c and g, shape (n, 6)."""
    B, C, n, s = iterations.sequences, iterations.context_tokens, iterations.chunk_tokens, iterations.chunk_done
    light = np.clip(knee - B, 0.0, n)
    columns = (np.ones_like(B), B + light, C, n - light, (s + n) ** 2 - s**2, np.where(n > 0, C, 0.0))
    return cast("Floats", np.stack(columns, axis=-1))


def _misfit(fit: Fit) -> float:
    return float(np.mean(np.abs(fit.residuals)))
