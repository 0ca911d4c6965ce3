"""Laws of the baselines: each is what its name says, by definition, and keeps the router's promises."""

from dataclasses import replace

import numpy as np
import pytest
from moe2_samples import sample_answers

from moe2.baselines import (
    average_of_all,
    baselines,
    best_single,
    majority_vote,
    oracle,
    plain_majority,
    random_experts,
)

ANSWERS = sample_answers(60)
MODELS = ["bob", "cy", "ada", "bob"]  # another order than the table's, one model twice


def outcome(method, answers):
    return method.answer_all_served(np.arange(len(answers)))


def test_every_baseline_keeps_the_router_s_promises():
    """Weights sum to 1 and experts exist, each at most once per prompt."""
    for method in baselines(answers=ANSWERS, pool=ANSWERS, models=MODELS, k=2):
        experts, weights = method.route(np.arange(len(ANSWERS)))
        assert experts.shape == weights.shape
        assert weights.sum(axis=1) == pytest.approx(1)
        assert ((experts >= 0) & (experts < len(MODELS))).all()
        assert all(len(set(row)) == len(row) for row in experts.tolist())


def test_the_majority_is_counted_and_ties_go_to_the_best_expert():
    """No option has more votes than the chosen one; among those with as many, the best expert's is taken."""
    rows = ANSWERS.rows("validation")
    rank = np.argsort(-ANSWERS.correct[rows].mean(axis=0), kind="stable")
    method = majority_vote(answers=ANSWERS, pool=ANSWERS, models=ANSWERS.models)
    for choices, option in zip(ANSWERS.choice, outcome(method, ANSWERS)[0], strict=True):
        given_answers = [c for c in choices[rank].tolist() if c >= 0]
        most = max((given_answers.count(c) for c in given_answers), default=0)
        expected = next((c for c in given_answers if given_answers.count(c) == most), -1)
        assert option == expected


def test_the_plain_majority_knows_nothing_of_the_experts():
    """The option named most often, the lowest of those named as often; the order of the experts plays no part."""
    method = plain_majority(pool=ANSWERS, models=ANSWERS.models)
    option = outcome(method, ANSWERS)[0]
    for choices, found in zip(ANSWERS.choice.tolist(), option, strict=True):
        answered = [c for c in choices if c >= 0]
        assert found == min(answered, key=lambda c, a=answered: (-a.count(c), c), default=-1)
    turned = outcome(plain_majority(pool=ANSWERS, models=ANSWERS.models[::-1]), ANSWERS)[0]
    assert np.array_equal(turned, option)


def test_the_average_is_the_best_option_of_the_calibrated_mixture():
    """By the definition: mean of distributions with a_n on the choice and the rest spread, no answer uniform."""
    answers = sample_answers(600)
    a = answers.correct[answers.rows("validation")].mean(axis=0)
    assert (a > 0.25).all()  # nobody is worse than chance here
    method = average_of_all(answers=answers, pool=answers, models=answers.models)
    for choices, option in zip(answers.choice.tolist(), outcome(method, answers)[0], strict=True):
        mean = np.zeros(4)
        for choice, accuracy in zip(choices, a, strict=True):
            spread = np.full(4, (1 - accuracy) / 3)
            spread[choice] = accuracy
            mean += (spread if choice >= 0 else 0.25) / len(choices)
        assert option == -1 or mean[option] >= mean.max() - 1e-12


def test_the_oracle_is_right_when_anyone_is_and_is_marked():
    """Its accuracy is the union of all experts', and it says that it cannot be had."""
    method = oracle(pool=ANSWERS, models=MODELS)
    assert np.array_equal(outcome(method, ANSWERS)[1], ANSWERS.correct.any(axis=1))
    assert not method.reachable


def test_random_experts_are_drawn_evenly_and_repeat_with_the_seed():
    """Every expert is asked in k / E of all prompts; the same seed asks the same ones."""
    big = sample_answers(4000)
    draw = random_experts(pool=big, models=MODELS, k=2, seed=1)
    again = random_experts(pool=big, models=MODELS, k=2, seed=1)
    assert np.array_equal(draw.experts, again.experts)
    assert np.bincount(draw.experts.ravel()) / 4000 == pytest.approx([0.5] * 4, abs=0.04)


def test_the_best_single_expert_is_chosen_on_validation():
    """An expert that is right on every test prompt and wrong on validation is not chosen."""
    choice = ANSWERS.choice.copy()
    choice[:, 2] = np.where(ANSWERS.split == "test", ANSWERS.gold, (ANSWERS.gold + 1) % 4)
    assert best_single(replace(ANSWERS, choice=choice), ANSWERS.models) != 2
