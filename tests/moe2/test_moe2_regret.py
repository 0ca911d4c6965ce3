"""Laws of subset regret: what Theorem 1 promises, where it fails, and what training must do about it."""

from itertools import combinations

import numpy as np
import pytest
from moe2_samples import sample_answers

from moe2.fusion import softmax
from moe2.regret import mixture_loss, subset_regret

SUBSETS = [s for size in (1, 2, 3) for s in combinations(range(3), size)]


def test_a_minimiser_on_all_experts_need_not_order_the_others():
    """DESIGN's counterexample: with p = (0.9, 0.5, 0.1) one-hot on the first is optimal and silent on the rest."""
    right = np.array([[0.9, 0.5, 0.1]])
    one_hot = np.array([[60.0, 0.0, 0.0]])  # the other two are tied, or in any order
    ordered = 60.0 * np.log(right)
    assert mixture_loss(one_hot, right) == pytest.approx(-np.log(0.9), abs=1e-9)
    assert mixture_loss(ordered, right) == pytest.approx(-np.log(0.9), abs=1e-9)
    pair = [1, 2]
    assert mixture_loss(one_hot[:, pair], right[:, pair]) == pytest.approx(-np.log(0.3))
    assert mixture_loss(ordered[:, pair], right[:, pair]) == pytest.approx(-np.log(0.5), abs=1e-9)


def test_logits_that_rank_by_likelihood_serve_every_subset():
    """The existence form: with one answer per prompt, log p at temperature to 0 is optimal for every subset."""
    right = np.random.default_rng(0).uniform(0.05, 0.95, (50, 4))
    logits = 1e4 * np.log(right)
    for size in range(1, 5):
        for subset in combinations(range(4), size):
            best = -np.log(right[:, list(subset)].max(axis=1)).mean()
            assert mixture_loss(logits[:, list(subset)], right[:, list(subset)]) == pytest.approx(best, abs=1e-3)


def test_label_noise_breaks_even_the_existence_form():
    """DESIGN's figure: experts (.9, .1), (.1, .9), (.5, .5), y drawn (.6, .4): total subset regret 0.031."""
    expert = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    y = np.array([0.6, 0.4])

    def losses(logits, subset):
        mixture = softmax(logits[..., list(subset)]) @ expert[list(subset)]
        return -(np.log(mixture) @ y)

    steps = np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = np.column_stack([np.zeros(len(grid)), grid])
    table = np.stack([losses(grid, s) for s in SUBSETS], axis=1)  # (gates, subsets)
    assert (table - table.min(axis=0)).sum(axis=1).min() == pytest.approx(0.031, abs=0.002)


def test_regret_is_the_difference_to_a_gate_trained_for_the_subset():
    """A gate that is its own reference has regret 0; one with its experts mixed up has more."""
    pytest.importorskip("torch", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")
    from moe2.training import Recipe, train_gate

    answers = sample_answers(600)
    recipe = Recipe(heads=1, hidden=16, epochs=40, dropout=0.0)
    gate = train_gate(answers, recipe=recipe)
    found = subset_regret(gate, answers, [(0, 1, 2)], lambda _models: gate)
    assert found["regret"].tolist() == [0.0]
    mixed = train_gate(answers.for_models(["bob", "cy", "ada"]), recipe=recipe)
    worse = subset_regret(mixed, answers, [(0, 1, 2)], lambda _models: gate)
    assert worse["regret"][0] > 0.05


@pytest.mark.parametrize("loss", ["score", "subset", "mixture"])
def test_every_loss_learns_who_is_at_home(loss):
    """Each training puts the expert at home first on most clear prompts."""
    pytest.importorskip("torch", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")
    from moe2.training import Recipe, train_gate

    answers = sample_answers(900)
    gate = train_gate(answers, recipe=Recipe(loss=loss, heads=2, hidden=16, epochs=60, dropout=0.0))
    rows = answers.rows("validation")
    x = np.sort(answers.embedding[rows, :3], axis=1)
    clear = rows[x[:, 2] - x[:, 1] > 1.5]
    home = answers.embedding[clear, :3].argmax(axis=1)
    assert (gate.logits(answers.embedding[clear]).argmax(axis=1) == home).mean() > 0.75
