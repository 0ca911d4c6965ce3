"""Accuracy against a budget: every method with the experts and the k that suit it best within the budget.

At each budget a method may use any subset of experts, and any number k of them per prompt, whose worst-case cost
fits; it takes the pair with which it is right most often on validation, and is then scored on test. The cheapest
expert that fits is there for comparison: it looks at joules only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.baselines import average_of_all, majority_vote, random_experts
from moe2.fusion import fuse
from moe2.gate import Gate
from moe2.learned import CHEAPEST, category_rates, confidence_vote, neighbours, regression
from moe2.router import PooledAnswers, Router

Floats = NDArray[np.float64]
MAX_EXPERTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a method ranks the experts on every prompt of the table, and how much each one's vote weighs."""

    name: str
    rank: Floats  # (n, E) higher is asked first
    weight: Floats  # (n, E)
    most: int  # experts asked at most
    all_of_subset: bool = False  # a vote asks every expert of its subset
    cheapest: bool = False  # takes what costs least within the budget, not what served it best


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Unloaded costs of every expert on the validation prompts."""

    delay_s: Floats  # (v, E)
    energy_j: Floats  # (v, E)
    category: NDArray[np.intp]  # (v,)
    idle_j_per_request: Floats  # (E,)

    def delay_of(self, subset: Sequence[int]) -> float:
        """Return the worst-case mean delay of the category that is slowest, in seconds."""
        slowest = self.delay_s[:, list(subset)].max(axis=1)
        return float((np.bincount(self.category, slowest) / np.bincount(self.category)).max())

    def energy_of(self, subset: Sequence[int], k: int) -> float:
        """Return the worst-case joules per request, idle power of the subset included; NaN where unknown."""
        costliest = np.sort(self.energy_j[:, list(subset)], axis=1)[:, -k:]
        return float(costliest.sum(axis=1).mean() + self.idle_j_per_request[list(subset)].sum())


def methods_of(answers: Answers, gate: Gate, models: Sequence[str], *, most: int) -> list[Method]:
    """Return the gate and the baselines as rankings and weights over the whole table."""
    logits, votes = gate.logits_and_votes(answers.embedding, models, PooledAnswers.of(answers, models).choice)
    rates = category_rates(answers, answers, models)
    N = len(models)
    found = [
        Method(name="gate", rank=logits.astype(float), weight=votes, most=most),
        Method(name="best of its category", rank=rates, weight=np.ones_like(rates), most=1),
        Method(name="single expert", rank=np.zeros_like(rates), weight=np.ones_like(rates), most=1, all_of_subset=True),
        Method(
            name=CHEAPEST,
            rank=np.zeros_like(rates),
            weight=np.ones_like(rates),
            most=1,
            all_of_subset=True,
            cheapest=True,
        ),
    ]
    for learn in (neighbours, regression):
        router = learn(answers=answers, pool=answers, models=models, k=N)
        name = router.name.split(",")[0]
        found.append(Method(name=name, rank=_ranks(router, N), weight=_weights(router, N), most=most))
    for vote in (majority_vote, confidence_vote, average_of_all):
        router = vote(answers=answers, pool=answers, models=models)
        weight = _weights(router, N)
        found.append(Method(name=router.name, rank=weight, weight=weight, most=N, all_of_subset=True))
    draw = _ranks(random_experts(pool=answers, models=models, k=N, seed=0), N)
    return [*found, Method(name="random", rank=draw, weight=np.ones_like(draw), most=most)]


def budget_curves(
    answers: Answers,
    methods: Sequence[Method],
    models: Sequence[str],
    costs: Costs,
    *,
    grids: Mapping[Literal["delay_s", "energy_j"], Sequence[float]],
) -> pd.DataFrame:
    """Return one row per budget kind, budget and method: accuracy on test, the experts, k and their costs.

    Accuracy is NaN where no pair of experts and k fits. Raises ValueError for more than 10 experts: all subsets are
    tried for each method.
    """
    if len(models) > MAX_EXPERTS:
        raise ValueError(f"curves try every subset: {len(models)} experts found, at most {MAX_EXPERTS} are allowed")
    pooled = PooledAnswers.of(answers, models)
    validation, test = answers.rows("validation"), answers.rows("test")
    subsets = [s for size in range(1, len(models) + 1) for s in combinations(range(len(models)), size)]
    delays = {s: costs.delay_of(s) for s in subsets}
    rows = []
    for method in methods:
        tried = _all_tried(method, pooled, costs, delays, validation)
        for kind, grid in grids.items():
            for budget in grid:
                fitting = [t for t in tried if (t[2] if kind == "delay_s" else t[3]) <= budget]
                best = max(fitting, key=_least_cost if method.cheapest else _most_right, default=None)
                right = float("nan") if best is None else accuracy(method, pooled, best[0], best[1], test)
                rows.append((kind, budget, method.name, right, *(best or ((), 0, np.nan, np.nan, np.nan))[:4]))
    columns = ["kind", "budget", "method", "accuracy", "experts", "k", "delay_s", "energy_j"]
    return pd.DataFrame(rows, columns=columns)


_Tried = tuple[tuple[int, ...], int, float, float, float]  # subset, k, delay, energy, accuracy on validation


def _all_tried(
    method: Method, pooled: PooledAnswers, costs: Costs, delays: Mapping[tuple[int, ...], float], rows: NDArray[np.intp]
) -> list[_Tried]:
    """Return what every subset, with every number of experts asked of it, costs at worst and is right on these rows."""
    return [
        (subset, k, delay_s, costs.energy_of(subset, k), accuracy(method, pooled, subset, k, rows))
        for subset, delay_s in delays.items()
        for k in ks_of(method, len(subset))
    ]


def _most_right(tried: _Tried) -> tuple[float, float]:
    return tried[4], -tried[3]


def _least_cost(tried: _Tried) -> float:
    return -tried[2] if np.isnan(tried[3]) else -tried[3]


def ks_of(method: Method, size: int) -> Iterator[int]:
    """Return the numbers of experts that a method may ask of a subset of this size."""
    if method.all_of_subset:
        yield from [size] if size <= method.most else []
    else:
        yield from range(1, min(size, method.most) + 1)


def accuracy(method: Method, pooled: PooledAnswers, subset: Sequence[int], k: int, rows: NDArray[np.intp]) -> float:
    """Return how often the method is right on these rows with k experts of the subset."""
    return float(np.mean(right(method, pooled, subset, k, rows)))


def right(
    method: Method, pooled: PooledAnswers, subset: Sequence[int], k: int, rows: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return whether the method is right on each of these rows with k experts of the subset."""
    here = np.ix_(rows, np.asarray(subset))
    order = np.argsort(-method.rank[here], axis=1, kind="stable")[:, :k]
    choice = np.take_along_axis(pooled.choice[here], order, axis=1)
    weight = np.take_along_axis(method.weight[here], order, axis=1)
    return np.equal(fuse(choice, weight, pooled.n_options[rows]), pooled.gold[rows])


def _weights(router: Router, n_experts: int) -> Floats:
    """Return (n, E) the weights of a router that asks everyone, by expert."""
    weights = np.zeros((len(router.experts), n_experts))
    np.put_along_axis(weights, router.experts, router.weights, axis=1)
    return weights


def _ranks(router: Router, n_experts: int) -> Floats:
    """Return (n, E) the ranking of a router that asks everyone, the first asked highest."""
    ranks = np.zeros((len(router.experts), n_experts))
    places = np.broadcast_to(np.arange(n_experts, 0, -1, dtype=float), router.experts.shape)
    np.put_along_axis(ranks, router.experts, places, axis=1)
    return ranks
