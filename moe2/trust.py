"""How far an expert's answer is trusted by the option it names: models name some options rather by habit.

An expert that is right in 44 % of its answers but in 30 % of those that name option I has a trust of 0.68 there; its
vote counts that much less. Counted on answers outside test.
"""

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers

SHRINK = 20  # answers: an option's rate counts this many at the expert's overall rate


def option_trust(answers: Answers) -> NDArray[np.float32]:
    """Return (N, options) how often each model is right when it names an option, over how often it is right at all.

    Shrunk towards 1: an option named in few answers says little. Only the rows given are counted.
    """
    options = int(answers.n_options.max(initial=2))
    trust = np.ones((len(answers.models), options), dtype=np.float32)
    for model, choice in enumerate(answers.choice.T):
        answered = choice >= 0
        right = np.equal(choice, answers.gold)[answered]
        if not right.any():
            continue
        named = np.bincount(choice[answered], minlength=options)
        hits = np.bincount(choice[answered], weights=right, minlength=options)
        overall = right.mean()
        trust[model] = (hits + SHRINK * overall) / (named + SHRINK) / overall
    return trust


def trusted(
    weights: NDArray[np.float64], trust: NDArray[np.float32], experts: NDArray[np.intp], choice: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Return the weights (n, k) of the experts' votes, each times the trust in the option it names.

    An option beyond those counted, and no answer (-1), leave the weight as it is.

    >>> trusted(np.array([[0.5, 0.5]]), np.array([[1.0, 0.5]]), np.array([[0, 0]]), np.array([[1, 2]])).tolist()
    [[0.25, 0.5]]
    """
    counted = (choice >= 0) & (choice < trust.shape[1])
    factor = trust[experts, np.where(counted, choice, 0)]
    return np.asarray(weights * np.where(counted, factor, 1.0), dtype=np.float64)
