"""Laws of the votes: the odds that an expert is right, given the option it names."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe2_samples import sample_answers, sample_gate

from moe2.answers import bundled_answers
from moe2.fusion import fuse
from moe2.gate import bundled_gate
from moe2.router import GateRouter
from moe2.votes import SHRINK, odds_votes, option_ratio

ANSWERS = sample_answers(400)
SEEDS = st.integers(0, 1000)


def gate_of(temperature=1.0, ratio=None, log_odds=(0.0, 0.0, 0.0)):
    """Return a gate that says the same of every prompt."""
    return sample_gate(
        hidden_weight=np.zeros((6, 1), dtype=np.float32),
        hidden_bias=np.zeros(1, dtype=np.float32),
        output_weight=np.zeros((1, 3), dtype=np.float32),
        output_bias=np.array(log_odds, dtype=np.float32),
        option_ratio=np.ones((3, 4), dtype=np.float32) if ratio is None else ratio.astype(np.float32),
        temperature=temperature,
    )


def fused(router):
    return router.answer_all_served(np.arange(len(router.experts)))[0]


def test_the_ratio_is_the_odds_when_an_option_is_named_over_the_odds_at_all():
    """Counted by plain loops, shrunk by 20 answers at the overall rate; answers not found are not counted."""
    ratio = option_ratio(ANSWERS)
    for model in range(len(ANSWERS.models)):
        pairs = [(c, c == g) for c, g in zip(ANSWERS.choice[:, model], ANSWERS.gold, strict=True) if c >= 0]
        overall = sum(is_right for _, is_right in pairs) / len(pairs)
        for option in range(4):
            of_it = [is_right for c, is_right in pairs if c == option]
            rate = (sum(of_it) + SHRINK * overall) / (len(of_it) + SHRINK)
            assert ratio[model, option] == pytest.approx(rate / (1 - rate) * (1 - overall) / overall, rel=1e-6)


def test_more_answers_of_the_same_kind_take_the_ratio_further_from_1():
    """The table ten times over is the same evidence, counted more: never across 1, never nearer to it."""
    rows = np.tile(np.arange(len(ANSWERS)), 10)
    names = (
        "text_key",
        "category",
        "split",
        "prompt_tokens",
        "n_options",
        "gold",
        "choice",
        "output_tokens",
        "embedding",
    )
    columns = {name: getattr(ANSWERS, name)[rows] for name in names}
    few, many = (np.log(option_ratio(a)) for a in (ANSWERS, replace(ANSWERS, question_id=np.arange(4000), **columns)))
    assert (few * many >= 0).all()
    assert (np.abs(many) >= np.abs(few)).all()
    assert np.abs(many).max() > np.abs(few).max()


@pytest.mark.parametrize("off", [0, 1])
def test_a_model_that_is_always_or_never_right_has_a_ratio_of_1(off):
    """There is nothing to compare with."""
    choice = ANSWERS.choice.copy()
    choice[:, 1] = (ANSWERS.gold + off) % 4
    assert (option_ratio(replace(ANSWERS, choice=choice))[1] == 1).all()


def test_an_option_that_an_expert_is_always_wrong_with_counts_little():
    """Named a hundred times and never right: a tenth of the odds at most, however sure the gate is elsewhere."""
    choice, gold = ANSWERS.choice.copy(), ANSWERS.gold.copy()
    gold[gold == 3] = 0
    choice[:200, 0], choice[200:, 0] = 3, gold[200:]
    ratio = option_ratio(replace(ANSWERS, choice=choice, gold=gold))
    assert ratio[0, 3] < 0.1
    assert ratio[0, :3].min() > 1


@settings(deadline=None, max_examples=50)
@given(SEEDS)
def test_votes_are_the_posterior_odds_where_the_option_depends_on_the_prompt_only_through_being_right(seed):
    """Against the sum over a whole joint distribution P(prompt) P(right | prompt) P(option | right), per prompt."""
    random = np.random.default_rng(seed)
    prompts, experts, options = 4, 3, 5
    right_given_prompt = random.uniform(0.1, 0.9, (prompts, experts))
    named = random.dirichlet(np.ones(options), (2, experts)) + 1e-3  # given wrong, given right
    joint = np.stack([1 - right_given_prompt, right_given_prompt])[..., None] * named[:, None] / prompts
    choice = random.integers(0, options, (prompts, experts)).astype(np.int8)
    at = np.arange(prompts)[:, None], np.arange(experts), choice
    posterior = joint[1][at] / joint[0][at]  # P(right, prompt, option) / P(wrong, prompt, option)
    votes = odds_votes(np.log(right_given_prompt / (1 - right_given_prompt)), named[1] / named[0], choice)
    assert votes / votes[:, :1] == pytest.approx(posterior / posterior[:, :1], rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.permutations(range(3)), st.floats(-900, 900))
def test_votes_follow_their_experts_and_only_their_ratios_count(seed, order, shift):
    """Permuting experts permutes votes; log-odds all shifted, even far, or an even ratio, change no fused answer."""
    random = np.random.default_rng(seed)
    log_odds, ratio = random.normal(size=(40, 3)), random.uniform(0.2, 3, (3, 4))
    choice = random.integers(-1, 4, (40, 3)).astype(np.int8)
    votes, order = odds_votes(log_odds, ratio, choice), list(order)
    assert np.array_equal(odds_votes(log_odds[:, order], ratio[order], choice[:, order]), votes[:, order])
    n_options = np.full(40, 4, dtype=np.int8)
    shifted = fuse(choice, odds_votes(log_odds + shift, 2 * ratio, choice), n_options)
    assert np.array_equal(shifted[(choice >= 0).all(axis=1)], fuse(choice, votes, n_options)[(choice >= 0).all(axis=1)])


def test_an_option_beyond_those_counted_and_no_answer_leave_the_odds_as_they_are():
    """Nothing was counted of them; equal votes go to the lowest option."""
    choice = np.array([[3, -1], [1, 0]], dtype=np.int8)
    votes = odds_votes(np.zeros((2, 2)), np.full((2, 2), 0.5), choice)
    assert votes.tolist() == [[1, 1], [0.5, 0.5]]
    assert fuse(choice, votes, np.array([4, 4])).tolist() == [3, 0]


def test_a_router_counts_each_expert_by_its_own_model():
    """With two experts of equal odds the one whose options tell more is believed."""
    ratio = np.ones((3, 4))
    ratio[0], ratio[2] = 0.5, 0.9
    models = ANSWERS.models
    option = fused(GateRouter.of(gate=gate_of(ratio=ratio), answers=ANSWERS, models=(models[2], models[0]), k=2))
    answered = ANSWERS.choice[:, 2] >= 0
    assert np.array_equal(option[answered], ANSWERS.choice[answered, 2])


def test_the_temperature_moves_the_weights_and_no_answer():
    """Odds of 3 lose against 2 and 1.5 that agree, at any temperature; as weights of the mixture they need not."""
    routers = [
        GateRouter.of(
            gate=gate_of(temperature=t, log_odds=np.log([3.0, 2.0, 1.5])), answers=ANSWERS, models=ANSWERS.models, k=3
        )
        for t in (0.2, 1.0, 5.0)
    ]
    assert routers[0].weights[0, 0] > 0.8
    assert routers[2].weights[0, 0] < 0.4
    choice = ANSWERS.choice
    agree = (choice[:, 1] == choice[:, 2]) & (choice.min(axis=1) >= 0)
    assert agree.any()
    for router in routers:
        assert np.array_equal(fused(router)[agree], choice[agree, 1])


def test_the_bundled_gate_s_ratio_is_counted_outside_test():
    """The checkpoint holds what the train and validation splits give."""
    answers = bundled_answers()
    seen = answers.of(np.flatnonzero(answers.split != "test"))
    assert bundled_gate().option_ratio == pytest.approx(option_ratio(seen), rel=1e-6)


def test_a_ratio_that_fits_no_gate_is_refused():
    """A row per model, all finite and above 0."""
    gate = bundled_gate()
    for wrong in (gate.option_ratio[:3], -gate.option_ratio, gate.option_ratio[0], gate.option_ratio * np.inf):
        with pytest.raises(ValueError, match="gate: option_ratio is"):
            replace(gate, option_ratio=wrong)
