"""Fusion of the k experts' answers into one option, and the likelihood that a mixture gives the right one.

An expert's answer distribution is its chosen option, smoothed: p_n(y|x) = (1 - smoothing) [y = choice] +
smoothing / options; an expert that gave no answer is uniform. With one smoothing for all experts the mixture
sum_n w_n p_n(y|x) has the same best option as the weighted vote, and an expert without an answer has no vote. The
gate's router gives each vote the odds that the answer is right (moe2.votes) in place of its weight in the mixture.
"""

import numpy as np
from numpy.typing import NDArray


def fuse(choice: NDArray[np.int8], weight: NDArray[np.float64], n_options: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the option (n,) with the largest sum of weights, -1 where no expert gave an answer.

    Args:
        choice: (n, k) 0-based options, -1 for no answer.
        weight: (n, k) non-negative; rows need not sum to 1. An answer of weight 0 counts only in a tie at 0.
        n_options: (n,) options of each prompt.

    Ties go to the option backed by the single largest weight, then to the lowest option.

    >>> fuse(np.array([[2, 0, 0]]), np.array([[0.4, 0.3, 0.3]]), np.array([4])).tolist()
    [0]
    >>> fuse(np.array([[2, 0, 0]]), np.array([[0.5, 0.25, 0.25]]), np.array([4])).tolist()
    [2]
    """
    _check_votes(choice, weight, n_options)
    n, m = len(choice), int(n_options.max(initial=1))
    total = np.zeros((n, m))
    largest = np.full((n, m), -1.0)  # largest single weight behind an option; -1: nobody chose it
    for column in range(choice.shape[1]):
        rows = np.flatnonzero(choice[:, column] >= 0)
        option = choice[rows, column]
        total[rows, option] += weight[rows, column]
        largest[rows, option] = np.maximum(largest[rows, option], weight[rows, column])
    # sums that differ only by rounding are ties: 0.1 + 0.2 against 0.3
    top = total.max(axis=1, keepdims=True)
    tied = (total >= top - 1e-12 * np.maximum(top, 1.0)) & (largest >= 0)
    best = np.argmax(np.where(tied, largest, -1.0), axis=1)
    return np.where((largest >= 0).any(axis=1), best, -1).astype(np.int64)


def likelihood(
    choice: NDArray[np.int8], gold: NDArray[np.int8], n_options: NDArray[np.int8], *, smoothing: float
) -> NDArray[np.float64]:
    """Return p_n(gold|x), (n, N): the probability that each expert's smoothed answer gives the right option.

    >>> likelihood(np.array([[1, 0, -1]]), np.array([1]), np.array([4]), smoothing=0.2).round(3).tolist()
    [[0.85, 0.05, 0.25]]
    """
    if not 0 < smoothing <= 1:
        raise ValueError(
            f"smoothing is {smoothing}, must be above 0 and at most 1: at 0 a wrong answer has log-likelihood -inf"
        )
    uniform: NDArray[np.float64] = 1.0 / n_options[:, None]  # (n, 1)
    answered = (1 - smoothing) * np.equal(choice, gold[:, None]) + smoothing * uniform  # (n, N)
    return np.asarray(np.where(choice >= 0, answered, uniform), dtype=np.float64)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(logits) normalised over the last axis; -inf gives 0, a row of -inf only gives zeros.

    >>> softmax(np.array([[0.0, 0.0, -np.inf]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    top = logits.max(axis=-1, keepdims=True)
    weight = np.exp(logits - np.where(np.isfinite(top), top, 0.0))  # subtract the maximum: no overflow
    total = weight.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(weight, total, out=np.zeros_like(weight), where=total > 0))


def top_k(logits: NDArray[np.floating], k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return each prompt's k best experts (n, k), best first, and their softmax weights; ties: the lower index.

    Experts with logit -inf are never chosen: where fewer than k remain, the index is -1 and the weight 0.
    """
    if k < 1:
        raise ValueError(f"k is {k}, must be at least 1: a request needs an expert")
    left = np.array(logits, dtype=np.result_type(logits, np.float32), order="C")  # a copy: who is chosen becomes -inf
    prompts = np.arange(len(left))
    best = np.empty((min(k, left.shape[1]), len(left)), dtype=np.intp)  # (k, n): sums over k run along the prompts
    top = np.empty(best.shape)
    for place in range(len(best)):
        best[place] = left.argmax(axis=1)  # the first of equals
        top[place] = left[prompts, best[place]]
        left[prompts, best[place]] = -np.inf
    return np.where(np.isfinite(top), best, -1).T, softmax(top.T)


def _check_votes(choice: NDArray[np.int8], weight: NDArray[np.float64], n_options: NDArray[np.int8]) -> None:
    if choice.shape != weight.shape or choice.ndim != 2 or len(n_options) != len(choice):
        raise ValueError(
            f"fuse: choice {choice.shape} and weight {weight.shape} must both be (prompts, experts), "
            f"n_options {n_options.shape} must be (prompts,)"
        )
    if not np.all(weight >= 0):  # written so that NaN fails too
        raise ValueError(f"fuse: weight {weight.min()} found, weights must be at least 0")
    if np.any(choice >= n_options[:, None]):
        raise ValueError("fuse: a choice is beyond the prompt's options; -1 means no answer")
