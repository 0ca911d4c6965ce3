"""The iterations that a busy engine runs, and how long kernel tables say that they are.

A cost form that cannot say all that a table holds is only as good as the rows it is fitted on. A table has as many rows
of one sequence as of a hundred; an engine spends its time where sequences decode and prompts come in beside them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from calibration.iterations import Iterations, Limits, around_attention_s
from calibration.sources.csv_table import read_table
from calibration.sources.vllm_kernels import ATTENTION_COLUMNS

Floats = NDArray[np.float64]

PROMPT_TOKENS, OUTPUT_TOKENS = (64, 4096), (32, 1024)
"""Lengths of the load, drawn log-uniformly so that all sizes weigh alike; no trace's."""
SPREAD = 4.0
"""How many times the shortest prompt, or answer, of a round is the longest."""
ROUNDS, STEPS = 20, 40
"""With each number of users so many rounds, each about lengths of its own, for so many iterations.

With all lengths in every iteration, context and number of sequences would grow in step and not be told apart.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Seconds of attention in one decoder layer, linear between the timed points.

    Decodes over (sequences, mean context), prompts over (chunk, tokens before it), both over all four in the order of
    the columns; None where too little was timed together: the parts are added then.
    """

    decodes: RegularGridInterpolator
    prompts: RegularGridInterpolator
    both: RegularGridInterpolator | None

    def seconds(self, iterations: Iterations) -> Floats:
        """Return the seconds of one layer's attention in each iteration, shape (n,)."""
        B, n, s = iterations.sequences, iterations.chunk_tokens, np.maximum(iterations.chunk_done, 0.0)
        mean = iterations.context_tokens / np.maximum(B, 1.0)
        lone_s = np.where(B > 0, self.decodes(np.stack([B, mean], axis=-1)), 0.0)
        lone_s += np.where(n > 0, self.prompts(np.stack([n, s], axis=-1)), 0.0)
        if self.both is None:
            return np.asarray(lone_s)
        together = self.both(np.stack([n, s, B, mean], axis=-1))
        return np.where((B > 0) & (n > 0), together, lone_s)


def visited_iterations(
    dense: Path, attention: Path, per_sequence: Path, *, layers: int, limits: Limits, seed: int = 0
) -> Iterations:
    """Return what an engine of these limits runs for 1, 2, 4 … users who each ask again at once, and how long it takes.

    Several prompts in an iteration stand as one chunk of as many tokens and as many pairs of tokens; its `chunk_done`
    may be below 0. Limits that are not given are those of the table. Raises ValueError naming the file.
    """
    surfaces, rows = attention_of(attention), read_table(attention, ATTENTION_COLUMNS)
    most = Limits(
        max_batch=min(limits.max_batch or int(1e9), int(rows["n_decode"].max())),
        token_budget=limits.token_budget or int(rows["prefill_chunk"].max()),
        kv_capacity_tokens=limits.kv_capacity_tokens,
    )
    steps = np.array(list(_loops(most, np.random.default_rng(seed))), dtype=np.float64)  # (n, 5)
    B, C, n, pairs, heads = steps.T
    unpriced = Iterations(
        sequences=B,
        context_tokens=C,
        chunk_tokens=n,
        chunk_done=(pairs / np.maximum(n, 1.0) - n) / 2.0,  # (s + n)² - s² = pairs
        seconds=around_attention_s(dense, per_sequence, tokens=B + n, heads=heads, layers=layers),
    )
    return unpriced.lasting(unpriced.seconds + layers * surfaces.seconds(unpriced))


def attention_of(path: Path) -> Attention:
    """Return the attention table as surfaces; ValueError naming the file when a part was not timed at all."""
    rows = read_table(path, ATTENTION_COLUMNS)
    columns = np.stack([rows[name].astype(np.float64) for name in ATTENTION_COLUMNS if name != "time_us"], axis=-1)
    prompts, decodes = rows["prefill_chunk"] > 0, rows["n_decode"] > 0
    seconds = rows["time_us"] / 1e6
    both = _surface(columns[prompts & decodes], seconds[prompts & decodes])

    def alone(what: str, kind: NDArray[np.bool_], places: slice) -> RegularGridInterpolator:
        if (surface := _surface(columns[kind][:, places], seconds[kind])) is None:
            raise ValueError(f"{path}: {what} alone was not timed on a grid of two by two or more")
        return surface

    return Attention(
        decodes=alone("decoding", decodes & ~prompts, slice(2, 4)),
        prompts=alone("a prompt", prompts & ~decodes, slice(0, 2)),
        both=both,
    )


def _surface(points: Floats, seconds: Floats) -> RegularGridInterpolator | None:
    """Return the seconds at points (n, d) as a surface; None where they do not fill a grid, or are too few."""
    axes = [np.unique(column) for column in points.T]
    if min(len(axis) for axis in axes) < 2:  # a line needs two points
        return None
    grid = np.full([len(axis) for axis in axes], np.nan)
    grid[tuple(np.searchsorted(axis, column) for axis, column in zip(axes, points.T, strict=True))] = seconds
    for d, axis in enumerate(axes):  # tables of several grids leave holes between them
        grid = np.apply_along_axis(_filled, d, grid, axis)
    if np.isnan(grid).any():
        return None
    return RegularGridInterpolator(axes, grid, bounds_error=False, fill_value=None)


def _filled(line: Floats, at: Floats) -> Floats:
    """Return a line with what lies between two known points; what lies outside stays NaN."""
    known = ~np.isnan(line)
    return line if known.all() or not known.any() else np.interp(at, at[known], line[known], left=np.nan, right=np.nan)


def _loops(limits: Limits, chance: np.random.Generator) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield the iterations of closed loops of more and more users, up to all slots."""
    slots = limits.max_batch or 1
    for n_users in sorted({*(2**i for i in range(slots.bit_length())), slots}):
        for _ in range(ROUNDS):
            yield from _loop(n_users, limits, chance)


def _loop(
    n_users: int, limits: Limits, chance: np.random.Generator
) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield sequences, their context, prompt tokens, pairs of them and sequences that emit a token, by iteration.

    No clock is needed: whoever has its answer asks again at once. Those beyond the memory do not ask.
    """
    prompt, output = (_lengths(n_users, between, chance) for between in (PROMPT_TOKENS, OUTPUT_TOKENS))
    n_fit = max(int((np.cumsum(prompt + output) <= (limits.kv_capacity_tokens or np.inf)).sum()), 1)
    prompt, output = prompt[:n_fit], output[:n_fit]
    done, made = prompt, 1 + (output * chance.random(n_fit)).astype(np.int64)
    for _ in range(STEPS):
        running = done == prompt
        want = prompt - done
        room = max((limits.token_budget or 0) - int(running.sum()), 0)
        chunk = np.clip(room - (np.cumsum(want) - want), 0, want)
        emits = running | (done + chunk == prompt)
        context, pairs = (prompt + made)[running].sum(), ((done + chunk) ** 2 - done**2).sum()
        yield running.sum(), context, chunk.sum(), pairs, emits.sum()
        done, made = done + chunk, made + emits
        again = made >= output
        done, made = np.where(again, 0, done), np.where(again, 0, made)


def _lengths(n: int, between: tuple[int, int], chance: np.random.Generator) -> NDArray[np.int64]:
    """Return the lengths of a round: log-uniform about a middle of its own."""
    middle = chance.uniform(*np.log(between))
    return np.asarray(np.exp(middle + np.log(SPREAD) * (chance.random(n) - 0.5)), dtype=np.int64)
