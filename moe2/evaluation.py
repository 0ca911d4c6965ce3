"""How often each method is right on the test split, with 95 % intervals and paired differences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.baselines import baselines
from moe2.gate import Gate
from moe2.router import Router, gate_router

RESAMPLES = 2000
BEST_SINGLE = "best single"
MAJORITY = "majority vote of all"


def evaluate(
    answers: Answers, gate: Gate, ks: Sequence[int] = (1, 2, 3, 4), *, subset: Sequence[int] | None = None
) -> pd.DataFrame:
    """Return one row per method and category ("all" first) on the test split.

    Columns: method, reachable, category, n, accuracy, and its difference to the best single expert (chosen on
    validation) and to the majority vote of all, each with `_low` and `_high`: percentile bootstrap intervals at
    95 % over questions, questions of the same text together, the same resamples for every method (paired).

    Args:
        answers: with validation and test prompts.
        gate: trained for the table's models.
        ks: experts per request, one gate row each.
        subset: experts the gate may ask (indices into the table's models); all when None.
    """
    pool = answers.of(answers.rows("test"))
    if not len(pool):
        raise ValueError("answers: the test split is empty; every accuracy that is shown is on test")
    if not ks:
        raise ValueError("evaluate needs at least one k, for example 1,2,3")
    models = answers.models
    methods: dict[str, Router] = {}
    for k in ks:
        methods[f"gate, k = {k}"] = gate_router(gate=gate, pool=pool, models=models, k=k, subset=subset)
    methods |= baselines(answers=answers, pool=pool, models=models, k=max(ks))
    right = {name: _right(method, len(pool)) for name, method in methods.items()}
    tables = []
    for category in ("all", *np.unique(pool.category).tolist()):
        rows = np.flatnonzero((pool.category == category) | (category == "all"))
        table = compare({name: column[rows] for name, column in right.items()}, pool.text_key[rows])
        table.insert(1, "category", category)
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    result.insert(1, "reachable", [methods[name].reachable for name in result["method"]])
    return result


def compare(right: Mapping[str, NDArray[np.bool_]], cluster: NDArray[np.int64], *, seed: int = 0) -> pd.DataFrame:
    """Return accuracy and paired differences of methods with intervals, resampling whole clusters.

    Args:
        right: method to right or wrong, (n,) each; holds "best single" and "majority vote of all".
        cluster: (n,) rows with the same value are resampled together.
        seed: of the bootstrap.
    """
    correct = np.stack(list(right.values()), axis=1).astype(float)  # (n, methods)
    resampled = _bootstrap(correct, cluster, seed)  # (RESAMPLES, methods)
    names = list(right)
    columns: dict[str, NDArray[np.float64]] = {}
    for name, reference in (("accuracy", None), ("vs_best_single", BEST_SINGLE), ("vs_majority", MAJORITY)):
        shift = 0 if reference is None else correct.mean(axis=0)[names.index(reference)]
        shifts = 0 if reference is None else resampled[:, [names.index(reference)]]
        columns[name] = correct.mean(axis=0) - shift
        columns[f"{name}_low"], columns[f"{name}_high"] = np.quantile(resampled - shifts, (0.025, 0.975), axis=0)
    return pd.DataFrame({"method": names, "n": len(correct), **columns})


def _bootstrap(correct: NDArray[np.float64], cluster: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return resampled means (RESAMPLES, methods): clusters drawn with replacement."""
    index = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(index.max()) + 1
    sums = np.zeros((n_clusters, correct.shape[1]))
    np.add.at(sums, index, correct)
    sizes = np.bincount(index).astype(float)
    equal = np.full(n_clusters, 1 / n_clusters)
    draws = np.random.default_rng(seed).multinomial(n_clusters, equal, size=RESAMPLES).astype(float)
    return (draws @ sums) / (draws @ sizes)[:, None]


def _right(method: Router, n: int) -> NDArray[np.bool_]:
    """Return whether the method is right on each prompt of its pool when every leg is served."""
    prompts = np.arange(n)
    experts, weights = method.route(prompts)
    return method.answer(prompts, experts, weights, np.ones(experts.shape, dtype=bool))[1]
