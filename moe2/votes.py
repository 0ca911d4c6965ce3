"""What an expert's answer counts: the odds that it is right, given the prompt and the option it names.

The gate knows the odds that an expert is right before anything is said. Models name some options by habit, whether
right or wrong; by Bayes' rule the odds after an answer are

    odds(right | prompt, option) = odds(right | prompt) * P(option | right) / P(option | wrong),

exact where, once it is known whether the expert is right, the option it names says nothing of the prompt. These odds
are added over the experts that name an option: a mixture weighed by the odds, without the temperature that makes the
gate's mixture likeliest. (Of independent experts the log-odds would be what to add, Nitzan and Paroush 1982; experts
share mistakes, and adding their log-odds was no better: docs/decisions/gate.md.)
"""

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers

SHRINK = 20  # answers: an option's rate counts this many at the expert's overall rate


def option_ratio(answers: Answers) -> NDArray[np.float32]:
    """Return (N, options): P(option | right) / P(option | wrong) of each model, counted on the rows given.

    Shrunk towards 1: an option named in few answers says little. It is the odds of being right when naming the option
    over the odds of being right at all, among the model's answers; 1 for a model that is always or never right.
    """
    options = int(answers.n_options.max(initial=2))
    ratio = np.ones((len(answers.models), options), dtype=np.float32)
    for model, choice in enumerate(answers.choice.T):
        answered = choice >= 0
        right = np.equal(choice, answers.gold)[answered]
        if not right.any() or right.all():
            continue
        named = np.bincount(choice[answered], minlength=options)
        hits = np.bincount(choice[answered], weights=right, minlength=options)
        overall = right.mean()
        rate = (hits + SHRINK * overall) / (named + SHRINK)
        ratio[model] = rate / (1 - rate) / (overall / (1 - overall))
    return ratio


def odds_votes(
    log_odds: NDArray[np.floating], ratio: NDArray[np.float32], choice: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Return the votes (n, E) of experts for the options they name, up to a factor per prompt.

    Args:
        log_odds: (n, E) that each expert is right, before it answers.
        ratio: (E, options) of `option_ratio`.
        choice: (n, E) 0-based options; one that was not counted, and no answer (-1), leave the odds as they are.

    >>> odds_votes(np.log([[1.0, 0.5]]), np.array([[1.0, 2.0], [4.0, 1.0]]), np.array([[1, 0]])).tolist()
    [[2.0, 2.0]]
    """
    odds = np.asarray(log_odds, dtype=np.float64)
    odds = np.exp(odds - odds.max(axis=1, keepdims=True))  # of the likeliest 1: no overflow
    counted = (choice >= 0) & (choice < ratio.shape[1])
    told = ratio[np.arange(len(ratio)), np.where(counted, choice, 0)]  # (n, E)
    return np.asarray(odds * np.where(counted, told, 1.0))
