"""What is chosen on validation once the gate's weights are trained: temperature, smoothing and k."""

from dataclasses import replace
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.fusion import fuse, likelihood, top_k
from moe2.gate import Gate
from moe2.votes import odds_votes

TEMPERATURES = (0.1, 10.0)  # bounds of the search
CERTAIN = 1e-4  # of the logarithm of the temperature
SMOOTHINGS = (0.2, 0.3, 0.4, 0.5, 0.6)


def tuned(gate: Gate, validation: Answers) -> Gate:
    """Return the gate with temperature, smoothing and k chosen on validation.

    Temperature and smoothing maximise the log-likelihood of the fused answer, averaged over k; k is the smallest
    one whose accuracy is within a standard error of the best one's (paired): each further expert costs joules.
    """
    log_odds = gate.log_odds(validation.embedding)
    found = [(*best_temperature(validation, log_odds, smoothing), smoothing) for smoothing in SMOOTHINGS]
    _, temperature, smoothing = max(found)
    right = _right_by_k(validation, log_odds, gate.option_ratio).astype(np.float64)  # (n, N) for k = 1..N
    best = right[:, [int(np.argmax(right.mean(axis=0)))]]
    shortfall = best - right
    error = shortfall.std(axis=0) / np.sqrt(len(right))
    k = 1 + int(np.argmax(shortfall.mean(axis=0) <= error))
    figures = {"validation_accuracy_by_k": [round(a, 4) for a in right.mean(axis=0).tolist()]}
    evidence = {**gate.evidence, **figures}
    return replace(gate, temperature=temperature, smoothing=smoothing, k=k, evidence=evidence)


def best_temperature(validation: Answers, log_odds: NDArray[np.floating], smoothing: float) -> tuple[float, float]:
    """Return the largest log-likelihood of the fused answer, and the temperature of the log-odds that reaches it.

    Brent's bounded search over the logarithm of the temperature: no random start, so the same data give the same bits.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - half a second to load

    def loss(log_temperature: float) -> float:
        return -fused_log_likelihood(validation, log_odds / exp(log_temperature), smoothing)

    bounds = (log(TEMPERATURES[0]), log(TEMPERATURES[1]))
    found = minimize_scalar(loss, bounds=bounds, args=(), method="bounded", options={"xatol": CERTAIN})
    return -float(found.fun), exp(found.x)


def fused_log_likelihood(validation: Answers, logits: NDArray[np.floating], smoothing: float) -> float:
    """Return the mean over prompts and over k = 1..N of log sum_n w_n p_n(gold | x), the top k mixed by softmax."""
    right = likelihood(validation.choice, validation.gold, validation.n_options, smoothing=smoothing)  # (n, N)
    order = np.argsort(-logits, axis=1, kind="stable")
    ranked = np.take_along_axis(np.asarray(logits, dtype=np.float64), order, axis=1)
    weight = np.exp(ranked - ranked[:, :1])
    # the first k of each row are its top k: running sums give all mixtures at once
    mixed = np.cumsum(weight * np.take_along_axis(right, order, axis=1), axis=1) / np.cumsum(weight, axis=1)
    return float(np.log(mixed).mean())


def _right_by_k(
    validation: Answers, log_odds: NDArray[np.float32], option_ratio: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return (n, N) whether the vote of the k best is right, for k = 1..N."""
    votes = odds_votes(log_odds, option_ratio, validation.choice)
    columns = []
    for k in range(1, len(validation.models) + 1):
        experts, _ = top_k(log_odds, k)
        choice = np.take_along_axis(validation.choice, experts, axis=1)
        option = fuse(choice, np.take_along_axis(votes, experts, axis=1), validation.n_options)
        columns.append(option == validation.gold)
    return np.stack(columns, axis=1)
