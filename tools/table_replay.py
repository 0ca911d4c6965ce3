"""A server replayed with iterations as long as kernel tables say, without a cost form: what the form itself costs.

Plain Python beside the twin: `chunked` with memory for all, every iteration on its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.costs import Costs
from calibration.iterations import Iterations, around_attention_s, iteration_coefficients, iteration_terms
from calibration.visited import attention_of

Floats = NDArray[np.float64]
Seconds = Callable[[Iterations, int], float]
"""Seconds of one iteration, given as columns of one row, and of how many sequences emit a token in it."""


@dataclass(slots=True)
class Sequence:
    """One request on its way: prompt tokens done and tokens made so far, and when the first and the last came out."""

    prompt: int
    output: int
    arrived_s: float
    done: int = 0
    made: int = 0
    first_s: float = 0.0
    last_s: float = 0.0


def of_tables(dense: Path, attention: Path, per_sequence: Path, *, layers: int, most_tokens: int) -> Seconds:
    """Return the seconds of an iteration of up to `most_tokens` tokens, from three tables."""
    surfaces, counts = attention_of(attention), np.arange(most_tokens + 1, dtype=np.float64)
    one = np.ones(len(counts))
    by_tokens = around_attention_s(dense, per_sequence, tokens=counts, heads=one, layers=layers)
    by_heads = around_attention_s(dense, per_sequence, tokens=one, heads=counts, layers=layers) - by_tokens[1]

    def seconds(iteration: Iterations, heads: int) -> float:
        tokens = int((iteration.sequences + iteration.chunk_tokens)[0])
        return float(by_tokens[tokens] + by_heads[heads] + layers * surfaces.seconds(iteration)[0])

    return seconds


def of_costs(costs: Costs, knee_tokens: int) -> Seconds:
    """Return the seconds of an iteration by the cost form."""
    known = iteration_coefficients(costs)
    return lambda iteration, _: float((iteration_terms(iteration, knee_tokens) @ known)[0])


def replay(
    arrived_s: Floats,
    prompt: NDArray[np.int64],
    output: NDArray[np.int64],
    seconds: Seconds,
    *,
    slots: int,
    budget: int,
) -> tuple[Floats, Floats]:
    """Return when the first and the last token of each request come out; requests in the order of arrival."""
    requests = [Sequence(int(p), int(o), float(at_s)) for at_s, p, o in zip(arrived_s, prompt, output, strict=True)]
    waiting, admitted, now_s = list(requests), [], 0.0
    while waiting or admitted:
        if not admitted:
            now_s = max(now_s, waiting[0].arrived_s)
        while waiting and waiting[0].arrived_s <= now_s and len(admitted) < slots:
            admitted.append(waiting.pop(0))
        now_s += _iteration(admitted, seconds, budget, now_s)
        admitted = [s for s in admitted if s.made < s.output]
    return np.array([s.first_s for s in requests]), np.array([s.last_s for s in requests])


def _iteration(admitted: list[Sequence], seconds: Seconds, budget: int, now_s: float) -> float:
    running = [s for s in admitted if s.done == s.prompt]
    tokens, pairs, emit = 0, 0, list(running)
    for s in (s for s in admitted if s.done < s.prompt):
        n = min(max(budget - len(running) - tokens, 0), s.prompt - s.done)
        tokens, pairs = tokens + n, pairs + (s.done + n) ** 2 - s.done**2
        s.done += n
        if n and s.done == s.prompt:
            emit.append(s)
    row = {
        "sequences": len(running),
        "context_tokens": sum(s.prompt + s.made for s in running),
        "chunk_tokens": tokens,
        "chunk_done": (pairs / max(tokens, 1) - tokens) / 2,
        "seconds": np.nan,
    }
    lasted_s = seconds(
        Iterations(**{name: np.array([value], dtype=np.float64) for name, value in row.items()}), len(emit)
    )
    for s in emit:
        s.made += 1
        s.last_s = now_s + lasted_s
        s.first_s = s.first_s or s.last_s
    return lasted_s
