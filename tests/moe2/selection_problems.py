"""Selection problems drawn at random, and what is best in them by definition; shared by the tests of selection."""

from dataclasses import replace
from itertools import combinations
from math import exp, fsum, log

import numpy as np
from hypothesis import strategies as st

from moe2.selection import Problem


def make_problem(seed=0, *, n=12, N=4, C=2, k=2, **changes):
    random = np.random.default_rng(seed)
    problem = Problem(
        experts=tuple(f"e{i}" for i in range(N)),
        categories=tuple(f"c{i}" for i in range(C)),
        logits=random.integers(-2, 3, (n, N)).astype(np.float32),
        likelihood=random.choice([0.1, 0.25, 0.7], (n, N)),
        delay_s=random.integers(1, 20, (n, N)).astype(float),
        energy_j=random.integers(1, 20, (n, N)).astype(float),
        category=np.arange(n) % C,
        delay_budget_s=np.full(C, np.inf),
        energy_budget_j=None,
        idle_j_per_request=random.integers(0, 5, N).astype(float),
        k=k,
    )
    return replace(problem, **changes)


@st.composite
def problems(draw):
    """Return random problems; half of them have ties between experts."""
    budget = st.one_of(st.just(np.inf), st.integers(8, 20).map(float))
    C = draw(st.integers(1, 2))
    problem = make_problem(
        draw(st.integers(0, 999)),
        n=draw(st.integers(2, 8)),
        N=draw(st.integers(1, 4)),
        C=C,
        k=draw(st.integers(1, 3)),
        delay_budget_s=np.array([draw(budget) for _ in range(C)]),
        energy_budget_j=draw(st.one_of(st.none(), st.integers(10, 60).map(float))),
    )
    if draw(st.booleans()):  # a duplicated expert
        for name in ("logits", "likelihood", "delay_s", "energy_j"):
            getattr(problem, name)[:, -1] = getattr(problem, name)[:, 0]
    return problem


@st.composite
def instances(draw):
    """Return problems of up to 12 experts, budgets tight and loose, values tied and not."""
    N = draw(st.integers(2, 12))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    n, C = 12, 2
    tied = draw(st.booleans())
    likelihood = random.choice([0.1, 0.25, 0.7], (n, N)) if tied else random.uniform(0.05, 0.9, (n, N))
    delay_s = random.integers(1, 9, (n, N)).astype(float) if tied else random.lognormal(1, 0.7, (n, N))
    energy_j = random.integers(1, 9, (n, N)).astype(float) if tied else random.lognormal(1, 0.7, (n, N))
    idle = random.integers(0, 4, N).astype(float)
    k = draw(st.integers(1, 3))
    full_s = np.array([delay_s[np.arange(n) % C == c].max(axis=1).mean() for c in range(C)])
    full_j = np.sort(energy_j, axis=1)[:, -k:].sum(axis=1).mean() + idle.sum()
    tightness = draw(st.sampled_from([0.25, 0.45, 0.7, 1.0]))
    return make_problem(
        n=n, N=N, C=C, k=k,
        logits=random.normal(0, 1, (n, N)),
        likelihood=likelihood,
        delay_s=delay_s,
        energy_j=energy_j,
        idle_j_per_request=idle,
        delay_budget_s=full_s * draw(st.sampled_from([0.5, 0.7, np.inf])),
        energy_budget_j=draw(st.sampled_from([None, full_j * tightness])),
    )  # fmt: skip


def tight_problem(seed=3, N=10):
    random = np.random.default_rng(seed)
    changes = {
        "likelihood": random.uniform(0.05, 0.9, (24, N)),
        "delay_s": random.lognormal(1, 0.6, (24, N)),
        "energy_j": random.lognormal(1, 0.6, (24, N)),
        "delay_budget_s": np.array([4.5, 5.0]),
        "energy_budget_j": 25.0,
    }
    return make_problem(seed, n=24, N=N, C=2, k=2, **changes)


def plain_value(problem, objective, subset):
    logs = []
    for logits, likelihood in zip(problem.logits.tolist(), problem.likelihood.tolist(), strict=True):
        ranked = sorted(subset, key=lambda expert: (-logits[expert], expert))[: problem.k]
        weights = [exp(logits[expert] - logits[ranked[0]]) for expert in ranked]
        mixture = fsum(w * likelihood[e] for w, e in zip(weights, ranked, strict=True)) / fsum(weights)
        logs.append(log(max(likelihood[e] for e in subset) if objective == "coverage" else mixture))
    return fsum(logs) / len(logs)


def plain_costs(problem, subset):
    """Return (cost, budget) pairs, by the definition of the worst case, or of what the gate chooses."""
    legs = []
    for logits, delay, joules in zip(problem.logits, problem.delay_s, problem.energy_j, strict=True):
        asked = sorted(subset, key=lambda expert: (-logits[expert], expert))[: problem.k]
        if problem.costs == "expected":
            legs.append((max(delay[e] for e in asked), fsum(joules[e] for e in asked)))
        else:
            costly = sorted((joules[e] for e in subset), reverse=True)[: problem.k]
            legs.append((max(delay[e] for e in subset), fsum(costly)))
    pairs = []
    for c, budget_s in enumerate(problem.delay_budget_s):
        slow = [legs[i][0] for i in range(len(legs)) if problem.category[i] == c]
        if slow:
            pairs.append((fsum(slow) / len(slow), budget_s))
    if problem.energy_budget_j is not None:
        idle = fsum(problem.idle_j_per_request[e] for e in subset)
        pairs.append((fsum(leg[1] for leg in legs) / len(legs) + idle, problem.energy_budget_j))
    return pairs


def plain_best(problem, objective):
    """Return the best value among all feasible subsets by plain loops, None when none fits."""
    subsets = [
        s for size in range(1, len(problem.experts) + 1) for s in combinations(range(len(problem.experts)), size)
    ]
    values = [
        plain_value(problem, objective, s)
        for s in subsets
        if all(cost <= budget * (1 + 1e-12) for cost, budget in plain_costs(problem, s))
    ]
    return max(values, default=None)


def best_of_all(problem, objective):
    """Return the best value among all feasible subsets, -inf when none fits: every subset at once, prompt by prompt."""
    n, N = problem.likelihood.shape
    kept = (np.arange(1, 2**N)[:, None] >> np.arange(N)) % 2 == 1  # (subsets, N)
    value, joules = np.zeros(len(kept)), kept @ problem.idle_j_per_request
    delay_s, members = np.zeros((len(problem.categories), len(kept))), np.bincount(problem.category)
    for row in range(n):
        order = np.argsort(-problem.logits[row], kind="stable")
        asked = np.empty_like(kept)
        asked[:, order] = kept[:, order] & (np.cumsum(kept[:, order], axis=1) <= problem.k)
        p, expected = problem.likelihood[row], problem.costs == "expected"
        weight = np.where(asked, np.exp(problem.logits[row] - problem.logits[row].max()), 0.0)
        mixed = np.where(kept, p, 0.0).max(axis=1) if objective == "coverage" else weight @ p / weight.sum(axis=1)
        value += np.log(mixed) / n
        slow = np.where(asked if expected else kept, problem.delay_s[row], 0.0).max(axis=1)
        delay_s[problem.category[row]] += slow / members[problem.category[row]]
        costly = np.sort(np.where(asked if expected else kept, problem.energy_j[row], 0.0), axis=1)
        joules += costly[:, -problem.k :].sum(axis=1) / n
    fits = (delay_s <= problem.delay_budget_s[:, None] * (1 + 1e-12)).all(axis=0)
    if problem.energy_budget_j is not None:
        fits &= joules <= problem.energy_budget_j * (1 + 1e-12)
    return float(value[fits].max(initial=-np.inf))
