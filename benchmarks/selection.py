"""Speed of subset selection on instances of coverage: 256 prompts, 4 categories, DESIGN's delay and energy budgets.

python -m benchmarks.selection

Experts differ in skill (overall and by category), speed and joules; skill of an expert on a prompt, its delay and its
joules vary log-normally. Answers are either "graded" (any probability) or "marked" (right or wrong, smoothed, as in
the bundled table: far more ties). Budgets are shares of what all experts together would cost: loose ones keep 20 to
40 % of the experts, tight ones 10 to 20 %.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from time import process_time

import numpy as np

from moe2.certificate import verify
from moe2.selection import Method, Problem, select

PROMPTS, CATEGORIES, K = 256, 4, 3
SHARES = {"loose": (0.55, 0.45), "tight": (0.4, 0.25)}  # of the delay, of the energy of all experts
TARGETS_S = {16: 0.2, 32: 3.0, 64: 30.0}


def instance(n_experts: int, *, seed: int, marked: bool, tightness: str) -> Problem:
    """Return a problem; the same arguments give the same one."""
    random = np.random.default_rng(seed)
    n, N = PROMPTS, n_experts
    category = np.arange(n) % CATEGORIES
    skill = random.normal(0, 0.6, N) + random.normal(0, 0.8, (CATEGORIES, N))[category] + random.normal(0, 1, (n, 1))
    if marked:
        right = random.random((n, N)) < 1 / (1 + np.exp(-skill))
        likelihood = np.where(right, 0.55, 0.05)
    else:
        likelihood = 1 / (1 + np.exp(-(skill + random.normal(0, 1, (n, N)))))
    delay_s = np.exp(random.normal(1.5, 0.5, N) + random.normal(0, 0.4, (n, N)))
    energy_j = np.exp(random.normal(4, 0.6, N) + random.normal(0, 0.4, (n, N)))
    idle_j = random.uniform(5, 40, N)
    slow_s = np.array([delay_s[category == c].max(axis=1).mean() for c in range(CATEGORIES)])
    costly_j = np.sort(energy_j, axis=1)[:, -K:].sum(axis=1).mean() + idle_j.sum()
    delay_share, energy_share = SHARES[tightness]
    return Problem(
        experts=tuple(f"e{i}" for i in range(N)),
        categories=tuple("abcd"),
        logits=skill,
        likelihood=likelihood,
        delay_s=delay_s,
        energy_j=energy_j,
        category=category,
        delay_budget_s=delay_share * slow_s,
        energy_budget_j=float(energy_share * costly_j),
        idle_j_per_request=idle_j,
        k=K,
    )


def measure(n_experts: int, method: Method, *, seed: int, marked: bool, tightness: str, limit_s: float) -> str:
    problem = instance(n_experts, seed=seed, marked=marked, tightness=tightness)
    cpu_s = process_time()
    found = select(problem, method=method, objective="coverage", time_limit_s=limit_s)
    cpu_s = process_time() - cpu_s
    checked_s = process_time()
    verify(found.certificate)
    checked_s = process_time() - checked_s
    answers = "marked" if marked else "graded"
    return (
        f"| {n_experts} | {method} | {answers}, {tightness}, seed {seed} | {len(found.subset)} | {found.status} | "
        f"{found.gap:.2g} | {found.seconds:.2f} | {cpu_s:.2f} | {checked_s:.2f} |"
    )


def lines(seeds: int = 2) -> list[str]:
    """Return the table, a Markdown line per instance."""
    head = "| experts | method | instance | kept | status | gap, nats | wall s | CPU s | checked in CPU s |"
    table = [head, "|" + "---|" * 9]
    cases = [(s, m, t) for s in range(seeds) for m in (False, True) for t in SHARES]
    measure(8, "branch_and_bound", seed=0, marked=False, tightness="tight", limit_s=9)  # imports, first calls
    for n_experts, target_s in TARGETS_S.items():
        for seed, marked, tightness in cases:
            row = measure(
                n_experts, "branch_and_bound", seed=seed, marked=marked, tightness=tightness, limit_s=4 * target_s
            )
            table.append(row)
            print(row, flush=True)
    row = measure(1000, "greedy", seed=0, marked=False, tightness="tight", limit_s=20)
    print(row, flush=True)
    return [*table, row]


def main() -> None:
    print("exact selection: a certificate within 0.2 s (16 experts), 3 s (32), 30 s (64); greedy of 1000 within 20 s")
    lines()


if __name__ == "__main__":
    main()
