"""How often each method is right on the test split, with 95 % intervals, its loss and what it would cost."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.baselines import MAJORITY, PLAIN_MAJORITY, baselines, best_single, single_expert
from moe2.costs import LegCosts
from moe2.fusion import likelihood
from moe2.gate import Gate
from moe2.learned import cheapest_feasible
from moe2.router import GateRouter, Router

RESAMPLES = 2000
MOST = 4  # experts asked, where no k is named
LUCK = "needs the right answer, so no router can reach it; lucky guesses count"


def evaluate(
    answers: Answers,
    gate: Gate,
    ks: Sequence[int] | None = None,
    *,
    models: Sequence[str] | None = None,
    subset: Sequence[int] | None = None,
    costs: LegCosts | None = None,
) -> pd.DataFrame:
    """Return one row per method and category ("all" first) on the test split, every leg served.

    Columns: method, kind (router, baseline, single expert, unreachable), category, n, accuracy, low, high, those of
    `compare` against the best single expert and both majority votes, loss (nats per prompt), delay_s (mean of the
    slowest expert asked), energy_j (mean sum of the experts asked), note. The intervals are percentile bootstrap at
    95 % over questions, questions of the same text together. The costs are NaN for a method that asks an expert whose
    costs are unknown.

    Args:
        answers: with validation and test prompts; the best single expert is chosen on validation.
        gate: trained for the models.
        ks: experts asked per request, one gate row each; 1 to 4, as far as there are experts, when None.
        models: model of each expert; the table's models when None.
        subset: indices of the experts that the gate may ask; all when None. The baselines use every expert.
        costs: of each expert on each prompt of `answers`; with them the cheapest feasible expert is a baseline too.

    Raises ValueError for an empty split, no k, a k beyond the experts, and a gate that does not fit.
    """
    pool = answers.of(answers.rows("test"))
    if not len(pool):
        raise ValueError("answers: the test split is empty; every accuracy that is shown is on test")
    models = answers.models if models is None else models
    if costs is not None and costs.delay_s.shape != (len(answers), len(models)):
        raise ValueError(f"costs are {costs.delay_s.shape}, must be {(len(answers), len(models))}: prompts and models")
    ks = _asked(ks, len(models if subset is None else set(subset)))
    routers = [GateRouter.of(gate=gate, answers=pool, models=models, k=k, subset=subset) for k in ks]
    methods = [*routers, *baselines(answers=answers, pool=pool, models=models, k=max(ks))]
    if costs is not None and not np.isnan(costs.delay_s).all():
        methods.append(cheapest_feasible(answers=answers, pool=pool, models=models, costs=costs))
    prompts = np.arange(len(pool))
    right = {method.name: method.answer_all_served(prompts)[1] for method in methods}
    paid = _paid(methods, pool, gate.smoothing, None if costs is None else costs.of(answers.rows("test")))
    best = single_expert(pool=pool, models=models, expert=best_single(answers, models)).name
    result = _by_category(right, paid, pool, best)
    result.insert(1, "kind", result["method"].map(_kind))
    notes = {best: "the best single expert, chosen on validation", "oracle": LUCK}
    result["note"] = result["method"].map(notes).fillna("")
    return result


def _by_category(
    right: Mapping[str, NDArray[np.bool_]],
    paid: Mapping[str, Mapping[str, NDArray[np.float64]]],
    pool: Answers,
    best: str,
) -> pd.DataFrame:
    """Return accuracy, leads and mean costs of each method, over all prompts and then category by category."""
    tables = []
    for category in dict.fromkeys(("all", *np.unique(pool.category).tolist())):  # once, also where a category is "all"
        rows = np.flatnonzero((pool.category == category) | (category == "all"))
        here = {name: column[rows] for name, column in right.items()}
        table = compare(here, pool.text_key[rows], best=best, majority=MAJORITY, plain=PLAIN_MAJORITY)
        table.insert(1, "category", category)
        for figure, columns in paid.items():
            table[figure] = [columns[name][rows].mean() for name in right]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _asked(ks: Sequence[int] | None, n_experts: int) -> Sequence[int]:
    """Return the k to evaluate, each at most the number of experts."""
    ks = range(1, min(MOST, n_experts) + 1) if ks is None else ks
    if not ks:
        raise ValueError("no k to evaluate: name at least one, for example 1,2,3")
    if max(ks) > n_experts:
        raise ValueError(f"k is {max(ks)}, must be at most {n_experts}: there are no more experts to ask")
    return ks


def compare(
    right: Mapping[str, NDArray[np.bool_]],
    cluster: NDArray[np.int64],
    *,
    best: str,
    majority: str | None = None,
    plain: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return accuracy and paired leads of methods with 95 % intervals, resampling whole clusters.

    Columns: method, n, accuracy, low, high; against each reference the difference (diff_vs_best_single, diff_low,
    diff_high; diff_vs_majority, majority_low, majority_high; diff_vs_plain, plain_low, plain_high) and the ratio less 1
    (ratio_vs_best_single, ratio_best_single_low, ratio_best_single_high, and so on).

    Args:
        right: method to right or wrong, (n,) each.
        cluster: (n,) rows with the same value are resampled together.
        best: the method that stands for the best single expert.
        majority: the majority vote; its columns are left out without it.
        plain: the majority vote whose ties know nothing of the experts, likewise.
        seed: of the bootstrap.
    """
    names = list(right)
    correct = np.stack([right[name] for name in names], axis=1).astype(float)  # (n, methods)
    resampled = _bootstrap(correct, cluster, seed)  # (RESAMPLES, methods)
    accuracy = correct.mean(axis=0)  # (methods,)
    table = pd.DataFrame({"method": names, "n": len(correct), "accuracy": accuracy})
    table["low"], table["high"] = _interval(resampled)
    references = (("best_single", "diff", best), ("majority", "majority", majority), ("plain", "plain", plain))
    for name, prefix, reference in references:
        if reference is not None:
            at = names.index(reference)
            theirs = resampled[:, [at]]
            table[f"diff_vs_{name}"] = accuracy - accuracy[at]
            table[f"{prefix}_low"], table[f"{prefix}_high"] = _interval(resampled - theirs)
            table[f"ratio_vs_{name}"] = _lead(accuracy, accuracy[at])
            table[f"ratio_{name}_low"], table[f"ratio_{name}_high"] = _interval(_lead(resampled, theirs))
    return table


def _interval(resampled: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds (methods,) between which 95 % of the draws (RESAMPLES, methods) lie."""
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    return low, high


def _lead(accuracy: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return accuracy / reference - 1; NaN where the reference is never right."""
    known = np.broadcast_to(reference > 0, accuracy.shape)
    return np.asarray(np.divide(accuracy, reference, out=np.full(accuracy.shape, np.nan), where=known) - 1)


def _paid(
    methods: Sequence[Router], pool: Answers, smoothing: float, costs: LegCosts | None
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return loss, delay and energy of each method on each prompt (n,)."""
    n = len(pool)
    paid: dict[str, dict[str, NDArray[np.float64]]] = {"loss": {}, "delay_s": {}, "energy_j": {}}
    for method in methods:
        gold = likelihood(method.pool.choice, pool.gold, pool.n_options, smoothing=smoothing)  # (n, E)
        asked = np.take_along_axis(gold, method.experts, axis=1)
        paid["loss"][method.name] = -np.log((method.weights * asked).sum(axis=1))
        unknown = (np.full(n, np.nan), np.full(n, np.nan))
        spent = unknown if costs is None else costs.spent(method.experts)
        paid["delay_s"][method.name], paid["energy_j"][method.name] = spent
    return paid


def _kind(method: str) -> str:
    if method == "oracle":
        return "unreachable"
    if method.startswith("gate"):
        return "router"
    return "single expert" if method.startswith("only ") else "baseline"


def _bootstrap(correct: NDArray[np.float64], cluster: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return resampled means (RESAMPLES, methods): clusters drawn with replacement."""
    index = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(index.max()) + 1
    sums = np.zeros((n_clusters, correct.shape[1]))
    np.add.at(sums, index, correct)
    sizes = np.bincount(index).astype(float)
    equal = np.full(n_clusters, 1 / n_clusters)
    draws = np.random.default_rng(seed).multinomial(n_clusters, equal, size=RESAMPLES).astype(float)
    return np.asarray((draws @ sums) / (draws @ sizes)[:, None])
