"""Speed of routing from embeddings on one core, and of training the default gate.

python -m benchmarks.routing
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

from time import perf_counter, process_time

import numpy as np

from moe2.answers import bundled_answers
from moe2.fusion import top_k
from moe2.gate import bundled_gate
from moe2.training import train_gate

PROMPTS, K, ROUNDS = 200_000, 2, 5


def routing() -> tuple[float, float]:
    """Return prompts per second of wall and of CPU time, the best of some rounds: 8 experts, 2 asked."""
    gate = bundled_gate()
    random = np.random.default_rng(0)
    embedding = random.normal(size=(PROMPTS, gate.projection.shape[0])).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    wall, cpu = [], []
    for _ in range(ROUNDS):
        wall_s, cpu_s = perf_counter(), process_time()
        top_k(gate.logits(embedding), K)
        wall.append(perf_counter() - wall_s)
        cpu.append(process_time() - cpu_s)
    return PROMPTS / min(wall), PROMPTS / min(cpu)


def training() -> tuple[float, float]:
    """Return wall and CPU seconds of training the default gate on the bundled answers."""
    answers = bundled_answers()
    wall_s, cpu_s = perf_counter(), process_time()
    train_gate(answers)
    return perf_counter() - wall_s, process_time() - cpu_s


def main() -> None:
    wall, cpu = routing()
    print(f"routing, 8 experts, k = {K}: {wall:,.0f} prompts/s of wall time, {cpu:,.0f} of CPU time (at least 300,000)")
    wall_s, cpu_s = training()
    print(f"training the default gate: {wall_s:.1f} s, {cpu_s:.1f} s of CPU time (at most 30)")


if __name__ == "__main__":
    main()
