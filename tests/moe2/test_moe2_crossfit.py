"""Cross-fitting: every prompt is judged once, by a gate that saw neither it nor its text."""

from dataclasses import replace

import numpy as np
import pytest
from moe2_samples import sample_answers

from moe2.crossfit import BEST_SINGLE, crossfit, folded
from moe2.training import Recipe

SMALL = Recipe(heads=1, hidden=32, epochs=40, dropout=0.1)


def test_every_prompt_is_tested_once_and_never_beside_its_own_text():
    """The folds' test splits are a partition, and a text lies in one split of a fold."""
    answers = sample_answers(n=200)
    twins = replace(answers, text_key=np.repeat(answers.text_key[:100], 2))
    cuts = [folded(twins, fold, 5) for fold in range(5)]
    assert np.array_equal(sum((cut.split == "test").astype(int) for cut in cuts), np.ones(200))
    for cut in cuts:
        assert np.array_equal(cut.split[0::2], cut.split[1::2])
        assert set(cut.split) == {"train", "validation", "test"}


def test_a_gate_that_can_tell_the_experts_apart_leads_the_best_of_them_out_of_fold():
    """The sample's embedding names the expert that is right: the lead is far above the interval's width."""
    table = crossfit(sample_answers(n=1200), [1], n_folds=3, recipe=SMALL).set_index("method")
    assert table.loc["gate, k = 1", "diff_low"] > 0.1
    assert table.loc[BEST_SINGLE, "diff_vs_best_single"] == 0


def test_a_gate_that_learns_nothing_has_no_lead_out_of_fold():
    """With right answers drawn without regard to the embedding, memorised prompts would show as a lead."""
    answers = sample_answers(n=1200)
    shuffled = replace(answers, embedding=np.random.default_rng(1).permutation(answers.embedding))
    table = crossfit(shuffled, [1], n_folds=3, recipe=SMALL).set_index("method")
    assert table.loc["gate, k = 1", "diff_low"] < 0.05


def test_two_folds_leave_nothing_to_validate_on():
    """Fewer than three folds are refused."""
    with pytest.raises(ValueError, match="n_folds is 2, must be at least 3"):
        folded(sample_answers(), 0, 2)
