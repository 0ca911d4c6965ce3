"""Baselines that learn from the train and validation splits: by category, by neighbours, by logistic regression."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.costs import LegCosts
from moe2.fusion import top_k
from moe2.router import PooledAnswers, Router

SHRINK = 20  # prompts: a category's rate counts this many at the expert's overall rate
NEIGHBOURS = 150  # chosen by cross-validation on train and validation
PENALTY = 1.6  # C of the logistic regression on unit-length embeddings, likewise
CHEAPEST = "cheapest that fits"
Floats = NDArray[np.float64]


def category_best(*, answers: Answers, pool: Answers, models: Sequence[str]) -> Router:
    """Return the expert that is right most often in the prompt's category, outside test; needs the category known."""
    rates = category_rates(answers, pool, models)
    experts, weights = top_k(rates, 1)
    return Router(name="best of its category", pool=PooledAnswers.of(pool, models), experts=experts, weights=weights)


def confidence_vote(*, answers: Answers, pool: Answers, models: Sequence[str]) -> Router:
    """Return all experts, each weighing its log-odds of being right in the prompt's category.

    The weight log(a (m - 1) / (1 - a)), a its shrunk rate and m the options, is what independent experts deserve
    whose wrong answers fall evenly on the other options; 0 for one that is worse than chance.
    """
    weights = log_odds_weights(category_rates(answers, pool, models), pool.n_options)
    experts = np.broadcast_to(np.arange(len(models), dtype=np.intp), weights.shape).copy()
    return Router(
        name="confidence-weighted vote", pool=PooledAnswers.of(pool, models), experts=experts, weights=weights
    )


def neighbours(*, answers: Answers, pool: Answers, models: Sequence[str], k: int) -> Router:
    """Return the k experts most often right on the 150 train prompts nearest in embedding, weighed by log-odds."""
    sklearn = _sklearn("neighbors")
    train, right = _train(answers, models)
    fitted = sklearn.KNeighborsRegressor(n_neighbors=min(NEIGHBOURS, len(right))).fit(train.embedding, right)
    rates = fitted.predict(pool.embedding).reshape(len(pool), len(models))
    return _by_rate(f"nearest neighbours, k = {k}", rates, pool, models, k)


def regression(*, answers: Answers, pool: Answers, models: Sequence[str], k: int) -> Router:
    """Return the k experts most likely right by one logistic regression each on the embedding."""
    sklearn = _sklearn("linear_model")
    train, right = _train(answers, models)
    columns = []
    for labels in right.T:
        if labels.min() == labels.max():
            columns.append(np.full(len(pool), labels[0]))
            continue
        fitted = sklearn.LogisticRegression(C=PENALTY, max_iter=300).fit(train.embedding, labels)
        columns.append(fitted.predict_proba(pool.embedding)[:, 1])
    return _by_rate(f"logistic regression, k = {k}", np.stack(columns, axis=1), pool, models, k)


def cheapest_feasible(*, answers: Answers, pool: Answers, models: Sequence[str], costs: LegCosts) -> Router:
    """Return, per category, the expert of least mean joules whose mean delay fits; the fastest where none fits.

    An expert of unknown delay never fits, one of unknown joules counts as the dearest; where no joules are known
    the fastest is taken.

    Args:
        answers: the costs of its validation prompts decide.
        pool: the prompts asked; a category without validation prompts gets what fits over all of them.
        models: model of each expert, in the scenario's order.
        costs: of each expert on each prompt of `answers`.
    """
    rows = answers.rows("validation")
    if not rows.size:
        raise ValueError("answers: the validation split is empty; the cheapest expert is chosen on it")
    choice = np.zeros(len(pool), dtype=np.intp)
    for category in np.unique(pool.category):
        of_it = rows[answers.category[rows] == category]
        choice[pool.category == category] = _cheapest(costs.of(of_it if of_it.size else rows))
    ones = np.ones((len(pool), 1))
    return Router(name=CHEAPEST, pool=PooledAnswers.of(pool, models), experts=choice[:, None], weights=ones)


def _cheapest(costs: LegCosts) -> int:
    mean_s, mean_j = costs.delay_s.mean(axis=0), costs.energy_j.mean(axis=0)
    fits = mean_s <= costs.delay_budget_s.mean()  # False for NaN
    if not fits.any():
        return int(np.argmin(np.where(np.isnan(mean_s), np.inf, mean_s)))
    known = fits & ~np.isnan(mean_j)
    return int(np.argmin(np.where(known, mean_j, np.inf) if known.any() else np.where(fits, mean_s, np.inf)))


def category_rates(answers: Answers, pool: Answers, models: Sequence[str]) -> Floats:
    """Return (P, E) how often each expert is right in each prompt's category on train and validation, shrunk."""
    seen = answers.of(np.flatnonzero(answers.split != "test"))
    if not len(seen):
        raise ValueError("answers: neither train nor validation prompts; rates by category are counted on them")
    right = PooledAnswers.of(seen, models).correct.astype(float)
    overall = right.mean(axis=0)
    rates = np.empty((len(pool), len(models)))
    for category in np.unique(pool.category):
        of_it = right[seen.category == category]
        rates[pool.category == category] = (of_it.sum(axis=0) + SHRINK * overall) / (len(of_it) + SHRINK)
    return rates


def log_odds_weights(rates: Floats, n_options: NDArray[np.int8]) -> Floats:
    """Return vote weights (P, E) for rates of being right; rows sum to 1, equal where no expert beats chance.

    >>> log_odds_weights(np.array([[0.5, 0.25]]), np.array([4])).tolist()
    [[1.0, 0.0]]
    """
    a = np.clip(rates, 0.01, 0.99)
    weights = np.maximum(np.log(a * (n_options[:, None] - 1.0) / (1 - a)), 0.0)
    weights[weights.sum(axis=1) == 0] = 1.0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _by_rate(name: str, rates: Floats, pool: Answers, models: Sequence[str], k: int) -> Router:
    experts, _ = top_k(rates, k)
    weights = log_odds_weights(np.take_along_axis(rates, experts, axis=1), pool.n_options)
    return Router(name=name, pool=PooledAnswers.of(pool, models), experts=experts, weights=weights)


def _train(answers: Answers, models: Sequence[str]) -> tuple[Answers, Floats]:
    train = answers.of(answers.rows("train"))
    if not len(train):
        raise ValueError("answers: the train split is empty; a learned router needs it")
    return train, PooledAnswers.of(train, models).correct.astype(float)


def _sklearn(part: str) -> Any:
    try:
        return import_module(f"sklearn.{part}")
    except ModuleNotFoundError as error:
        message = "this baseline needs scikit-learn; install it with: pip install 'moe2-twin[gate]'"
        raise ModuleNotFoundError(message, name="sklearn") from error
