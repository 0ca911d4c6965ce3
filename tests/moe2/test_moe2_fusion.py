"""Laws of fusion: a weighted vote with stated ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe2.fusion import fuse, likelihood, softmax, top_k

N_OPTIONS = 5


@st.composite
def votes(draw):
    """Return choice (n, k) and weight (n, k); multiples of 1/8 make ties common."""
    n, k = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    choice = draw(st.lists(st.integers(-1, N_OPTIONS - 1), min_size=n * k, max_size=n * k))
    weight = draw(st.lists(st.integers(0, 8), min_size=n * k, max_size=n * k))
    return np.array(choice, dtype=np.int8).reshape(n, k), np.array(weight).reshape(n, k) / 8


def options(choice):
    return np.full(len(choice), N_OPTIONS, dtype=np.int8)


def slow_fuse(choices, weights):
    """Return the option by the definition, one prompt at a time."""
    backed = [(c, w) for c, w in zip(choices, weights, strict=True) if c >= 0]
    if not backed:
        return -1
    score = {c: (sum(w for d, w in backed if d == c), max(w for d, w in backed if d == c), -c) for c, _ in backed}
    return max(score, key=score.get)


@settings(deadline=None)
@given(votes())
def test_fusion_is_the_weighted_vote(vote):
    """The fused option has the largest sum of weights; ties: the largest single weight, then the lowest option."""
    choice, weight = vote
    expected = [slow_fuse(c, w) for c, w in zip(choice.tolist(), weight.tolist(), strict=True)]
    assert fuse(choice, weight, options(choice)).tolist() == expected


@settings(deadline=None)
@given(votes(), st.randoms(use_true_random=False))
def test_the_order_of_experts_does_not_matter(vote, random):
    """Permuting the experts of a prompt leaves the fused option."""
    choice, weight = vote
    order = list(range(choice.shape[1]))
    random.shuffle(order)
    assert (fuse(choice, weight, options(choice)) == fuse(choice[:, order], weight[:, order], options(choice))).all()


@settings(deadline=None)
@given(votes())
def test_an_expert_without_an_answer_has_no_vote(vote):
    """Adding an expert that gave no answer, at any weight, changes nothing."""
    choice, weight = vote
    silent = np.full((len(choice), 1), -1, dtype=np.int8)
    more, heavier = np.hstack([choice, silent]), np.hstack([weight, np.full((len(choice), 1), 9.0)])
    assert (fuse(more, heavier, options(choice)) == fuse(choice, weight, options(choice))).all()


@settings(deadline=None)
@given(votes(), st.floats(0.05, 0.95))
def test_the_vote_is_the_best_option_of_the_smoothed_mixture(vote, smoothing):
    """The mixture of smoothed answers gives no option more than the fused one."""
    choice, weight = vote
    fused = fuse(choice, weight, options(choice))
    mixture = np.stack(
        [
            (weight * likelihood(choice, np.full(len(choice), y), options(choice), smoothing=smoothing)).sum(axis=1)
            for y in range(N_OPTIONS)
        ],
        axis=1,
    )
    rows = fused >= 0
    assert (mixture[rows, fused[rows]] >= mixture[rows].max(axis=1) - 1e-12).all()


@settings(deadline=None)
@given(st.integers(-1, N_OPTIONS - 1), st.floats(0.01, 1.0))
def test_a_smoothed_answer_is_a_distribution(choice, smoothing):
    """Over all options the likelihoods of one expert sum to 1."""
    sums = sum(
        likelihood(np.array([[choice]]), np.array([y]), np.array([N_OPTIONS]), smoothing=smoothing)[0, 0]
        for y in range(N_OPTIONS)
    )
    assert sums == pytest.approx(1.0, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 6))
def test_top_k_takes_the_best_first_and_weighs_by_softmax(rows, k):
    """Experts come by falling logit, then rising index; weights are the softmax of theirs and sum to 1."""
    logits = np.array(rows, dtype=np.float32)
    experts, weights = top_k(logits, k)
    for row, chosen, weight in zip(rows, experts.tolist(), weights, strict=True):
        assert chosen == sorted(range(4), key=lambda i, row=row: (-row[i], i))[:k]
        raw = np.exp([row[i] for i in chosen])
        assert weight == pytest.approx(raw / raw.sum())


def test_fewer_experts_than_k_leave_minus_one_and_weight_zero():
    """Where only one expert is kept, the second place is -1 with weight 0."""
    experts, weights = top_k(np.array([[-np.inf, 2.0, -np.inf]]), 2)
    assert experts.tolist() == [[1, -1]]
    assert weights.tolist() == [[1.0, 0.0]]


def test_softmax_survives_large_logits():
    """Weights depend on differences only: 1e4 more on every logit changes nothing."""
    assert softmax(np.array([[1e4, 1e4 - 1]])) == pytest.approx(softmax(np.array([[0.0, -1.0]])))


def test_sums_that_differ_by_rounding_are_ties():
    """0.1 + 0.2 against 0.3 is a tie, so the single largest weight wins."""
    assert fuse(np.array([[0, 0, 1]]), np.array([[0.1, 0.2, 0.3]]), np.array([3])).tolist() == [1]


@pytest.mark.parametrize(
    ("choice", "weight", "message"),
    [
        ([[0, 1]], [[0.5]], "must both be"),
        ([[0, 1]], [[0.5, -0.5]], "at least 0"),
        ([[0, 1]], [[0.5, float("nan")]], "at least 0"),
        ([[0, 7]], [[0.5, 0.5]], "beyond the prompt's options"),
    ],
)
def test_wrong_votes_are_refused(choice, weight, message):
    """Shapes that differ, negative or NaN weights and options that do not exist are errors."""
    with pytest.raises(ValueError, match=message):
        fuse(np.array(choice), np.array(weight), np.array([4]))


def test_wrong_smoothing_and_k_are_refused():
    """Smoothing 0 would make a wrong answer's log-likelihood -inf; k = 0 asks nobody."""
    with pytest.raises(ValueError, match="smoothing is 0, must be above 0"):
        likelihood(np.array([[0]]), np.array([0]), np.array([4]), smoothing=0)
    with pytest.raises(ValueError, match="k is 0, must be at least 1"):
        top_k(np.zeros((1, 2)), 0)
