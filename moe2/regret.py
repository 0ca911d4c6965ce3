"""How much a gate trained on all experts loses on a subset against a gate trained for that subset alone."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.fusion import likelihood, softmax
from moe2.gate import Gate

SMOOTHING = 0.2  # of the answers, as in the mixture loss
TEMPERATURES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)


def mixture_loss(logits: NDArray[np.floating], right: NDArray[np.float64]) -> float:
    """Return mean -log sum_n w_n p_n(gold | x) with w the softmax of the logits, all experts of the row mixed.

    >>> mixture_loss(np.zeros((1, 2)), np.array([[1.0, 0.5]])).__round__(4)
    0.2877
    """
    return float(-np.log((softmax(np.asarray(logits, dtype=np.float64)) * right).sum(axis=1)).mean())


def subset_regret(
    gate: Gate,
    answers: Answers,
    subsets: Iterable[Sequence[int]],
    retrained: Callable[[Sequence[str]], Gate],
) -> pd.DataFrame:
    """Return one row per subset: loss of the gate, of the gate retrained for it, and their difference, on validation.

    Both are scored at the one temperature of `TEMPERATURES` that suits them best there: what is compared is the
    order and the ratio of experts, not the calibration. A regret below 0 means that training on all experts helped.

    Args:
        gate: trained on all models of the table.
        answers: with validation prompts.
        subsets: indices of models.
        retrained: returns a gate trained for some models only.
    """
    here = answers.of(answers.rows("validation"))
    right = likelihood(here.choice, here.gold, here.n_options, smoothing=SMOOTHING)
    rows = []
    for subset in subsets:
        models = [answers.models[i] for i in subset]
        theirs = right[:, list(subset)]
        loss = _best_loss(gate.log_odds(here.embedding)[:, list(subset)], theirs)
        least = _best_loss(retrained(models).log_odds(here.embedding), theirs)
        rows.append({"subset": tuple(subset), "loss": loss, "retrained": least, "regret": loss - least})
    return pd.DataFrame(rows, columns=["subset", "loss", "retrained", "regret"])


def _best_loss(log_odds: NDArray[np.float32], right: NDArray[np.float64]) -> float:
    return min(mixture_loss(log_odds / t, right) for t in TEMPERATURES)
