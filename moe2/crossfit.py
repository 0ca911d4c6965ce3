"""Every prompt answered by a gate that never saw it: the recipe judged on the whole table, fold by fold.

One split leaves a gain of a few points inside its interval. Here the table is cut into folds, each fold is the test
split of a gate trained on the others, and the paired comparison runs over all prompts together. It judges the recipe
of training, not the bundled gate, and holds only for a recipe that was settled before.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.baselines import MAJORITY, PLAIN_MAJORITY, best_single, majority_vote, plain_majority, single_expert
from moe2.evaluation import compare
from moe2.router import GateRouter, Router
from moe2.training import Recipe, train_gate

BEST_SINGLE = "best single expert"


def folded(answers: Answers, fold: int, n_folds: int) -> Answers:
    """Return the table with other splits: `fold` is the test, the next one the validation, the others the train split.

    Questions of the same text stand in the same fold. Raises ValueError for fewer than three folds.
    """
    if n_folds < 3:
        raise ValueError(f"n_folds is {n_folds}, must be at least 3: one to train on, one to validate, one to test")
    text = np.unique(answers.text_key, return_inverse=True)[1]
    drawn = np.random.default_rng(0).permutation(int(text.max()) + 1) % n_folds
    place = (drawn[text] - fold) % n_folds
    return replace(answers, split=np.where(place == 0, "test", np.where(place == 1, "validation", "train")))


def crossfit(
    answers: Answers, ks: Sequence[int], *, n_folds: int = 5, recipe: Recipe | None = None, models: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row per method with accuracy and paired differences over all prompts, as `evaluation.compare` does.

    The best single expert and the majority's ties are chosen on each fold's validation prompts.

    Args:
        answers: the splits that it has are not used.
        ks: experts asked per request, one row each.
        n_folds: gates to train.
        recipe: how; the default one when None.
        models: the experts; all of the table when empty.
    """
    models = tuple(models) or answers.models
    right: dict[str, NDArray[np.bool_]] = {}
    for fold in range(n_folds):
        cut = folded(answers, fold, n_folds)
        rows = cut.rows("test")
        for name, method in _methods(cut, ks, recipe or Recipe(), models).items():
            whole = right.setdefault(name, np.zeros(len(answers), dtype=np.bool_))
            whole[rows] = method.answer_all_served(np.arange(len(rows)))[1]
    return compare(right, answers.text_key, best=BEST_SINGLE, majority=MAJORITY, plain=PLAIN_MAJORITY)


def _methods(cut: Answers, ks: Sequence[int], recipe: Recipe, models: Sequence[str]) -> dict[str, Router]:
    pool = cut.of(cut.rows("test"))
    gate = train_gate(cut.for_models(models), recipe=recipe)
    return {
        BEST_SINGLE: single_expert(pool=pool, models=models, expert=best_single(cut, models)),
        MAJORITY: majority_vote(answers=cut, pool=pool, models=models),
        PLAIN_MAJORITY: plain_majority(pool=pool, models=models),
        **{f"gate, k = {k}": GateRouter.of(gate=gate, answers=pool, models=models, k=k) for k in ks},
    }
