"""What the gate is measured against: methods with the router's protocol, so that the twin can run them too."""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.fusion import top_k
from moe2.learned import category_best, confidence_vote, neighbours, regression
from moe2.router import PooledAnswers, Router

MAJORITY = "majority vote of all"
PLAIN_MAJORITY = "plain majority vote of all"  # its ties know nothing of the experts


def single_expert(*, pool: Answers, models: Sequence[str], expert: int) -> Router:
    """Return the method that sends every prompt to one expert."""
    experts = np.full((len(pool), 1), expert, dtype=np.intp)
    return _router(f"only {models[expert]}", pool, models, experts, np.ones((len(pool), 1)))


def best_single(answers: Answers, models: Sequence[str]) -> int:
    """Return the expert that is right most often on the validation split; ties: the first."""
    return int(np.argmax(_validation_accuracy(answers, models)))


def majority_vote(*, answers: Answers, pool: Answers, models: Sequence[str]) -> Router:
    """Return all experts with equal weights: the option named most often.

    Equal but for one part in a million, which sends ties to the option of the expert best on validation: broken
    by the options' order instead, they would cost the vote accuracy.
    """
    rank = np.argsort(np.argsort(-_validation_accuracy(answers, models), kind="stable"))  # (E,) 0: the best
    weights = np.tile(1 + 1e-6 * 0.5**rank, (len(pool), 1))
    weights /= weights.sum(axis=1, keepdims=True)
    return _router(MAJORITY, pool, models, _everyone(weights.shape), weights)


def plain_majority(*, pool: Answers, models: Sequence[str]) -> Router:
    """Return all experts with equal weights; ties go to the lowest option, whoever named it.

    The vote as it is done without any knowledge of the experts: weaker than `majority_vote`, whose ties know them.
    """
    weights = np.full((len(pool), len(models)), 1 / len(models))
    return _router(PLAIN_MAJORITY, pool, models, _everyone(weights.shape), weights)


def average_of_all(*, answers: Answers, pool: Answers, models: Sequence[str]) -> Router:
    """Return the unweighted mean of all experts' answer distributions, each calibrated on the validation split.

    Calibrated: expert n puts its validation accuracy a_n on the option it chose and spreads the rest evenly over
    the others; without an answer it is uniform. A chosen option then stands a_n - (1 - a_n) / (options - 1) above
    the others, and that is the expert's weight here (0 for one that is worse than chance). Had all experts the
    same a_n the best option would be the majority's.
    """
    accuracy = _validation_accuracy(answers, models)  # (E,)
    lead = np.maximum(accuracy - (1 - accuracy) / (pool.n_options[:, None] - 1.0), 0.0)  # (P, E)
    lead[lead.sum(axis=1) == 0] = 1.0
    experts = _everyone(lead.shape)
    return _router("average of all", pool, models, experts, lead / lead.sum(axis=1, keepdims=True))


def random_experts(*, pool: Answers, models: Sequence[str], k: int, seed: int) -> Router:
    """Return k experts drawn for each prompt of the pool, equal weights; a prompt always gets the same ones."""
    draw = np.random.default_rng(seed).random((len(pool), len(models)))
    experts, weights = top_k(draw, k)
    return _router(f"random, k = {k}", pool, models, experts, np.full_like(weights, 1 / weights.shape[1]))


def oracle(*, pool: Answers, models: Sequence[str]) -> Router:
    """Return, for each prompt, the first expert that is right: not reachable, it needs the right answer.

    It also profits from lucky guesses: with eight experts some guess is often right.
    """
    first = np.argmax(PooledAnswers.of(pool, models).correct, axis=1)[:, None]  # the first expert if none is right
    return _router("oracle", pool, models, first, np.ones(first.shape), reachable=False)


def baselines(*, answers: Answers, pool: Answers, models: Sequence[str], k: int, seed: int = 0) -> list[Router]:
    """Return the baselines: votes, random k, by category, the routers of scikit-learn, each single expert, oracle.

    The routers of scikit-learn are left out where it is not installed (extra `gate`).

    Args:
        answers: holds the validation split, for calibration and ties.
        pool: the prompts the methods are asked about.
        models: model of each expert, in the scenario's order.
        k: experts of the random baseline.
        seed: of the random baseline.
    """
    return [
        majority_vote(answers=answers, pool=pool, models=models),
        plain_majority(pool=pool, models=models),
        average_of_all(answers=answers, pool=pool, models=models),
        confidence_vote(answers=answers, pool=pool, models=models),
        random_experts(pool=pool, models=models, k=k, seed=seed),
        category_best(answers=answers, pool=pool, models=models),
        *_fitted(answers, pool, models, k),
        *(single_expert(pool=pool, models=models, expert=expert) for expert in range(len(models))),
        oracle(pool=pool, models=models),
    ]


def _fitted(answers: Answers, pool: Answers, models: Sequence[str], k: int) -> list[Router]:
    if find_spec("sklearn") is None or not answers.rows("train").size:
        return []
    return [learn(answers=answers, pool=pool, models=models, k=k) for learn in (neighbours, regression)]


def _validation_accuracy(answers: Answers, models: Sequence[str]) -> NDArray[np.float64]:
    rows = answers.rows("validation")
    if rows.size == 0:
        raise ValueError("answers: the validation split is empty; the best single expert is chosen on it")
    return np.asarray(PooledAnswers.of(answers, models).correct[rows].mean(axis=0))


def _everyone(shape: tuple[int, ...]) -> NDArray[np.intp]:
    return np.broadcast_to(np.arange(shape[1], dtype=np.intp), shape).copy()


def _router(
    name: str,
    pool: Answers,
    models: Sequence[str],
    experts: NDArray[np.intp],
    weights: NDArray[np.float64],
    *,
    reachable: bool = True,
) -> Router:
    answers = PooledAnswers.of(pool, models)
    return Router(name=name, pool=answers, experts=experts, weights=weights, reachable=reachable)
