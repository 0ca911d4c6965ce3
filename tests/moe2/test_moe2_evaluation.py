"""Laws of the evaluation: intervals, losses, costs, and the bundled gate's figures."""

from dataclasses import replace

import numpy as np
import pytest
from moe2_samples import identity_gate, sample_answers

from moe2.answers import bundled_answers
from moe2.costs import LegCosts
from moe2.evaluation import compare, evaluate
from moe2.gate import bundled_gate
from moe2.router import GateRouter

ANSWERS = sample_answers(60)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 120 samples of coins with p = 0.6 and 0.5, about 95 % of the intervals hold p, difference, ratio."""
    random = np.random.default_rng(0)
    held = []
    for trial in range(120):
        right = {"a": random.random(80) < 0.6, "b": random.random(80) < 0.5}
        table = compare(right, np.arange(80), best="b", seed=trial).set_index("method").loc["a"]
        assert table["ratio_vs_best_single"] == pytest.approx(right["a"].sum() / right["b"].sum() - 1)
        spans = (("", 0.6), ("diff_", 0.1), ("ratio_best_single_", 0.2))
        held.append([table[f"{name}low"] <= truth <= table[f"{name}high"] for name, truth in spans])
    assert np.mean(held, axis=0) == pytest.approx([0.95, 0.95, 0.95], abs=0.05)


def test_copies_of_a_question_do_not_narrow_the_interval():
    """Every row twice, resampled by text: the interval of the rows once."""
    right = np.random.default_rng(0).random(300) < 0.5
    once = compare({"a": right}, np.arange(300), best="a")
    twice = compare({"a": np.tile(right, 2)}, np.tile(np.arange(300), 2), best="a")
    assert np.allclose(once[["low", "high"]], twice[["low", "high"]])


def test_evaluation_needs_a_test_split_and_a_k():
    """Accuracy is shown on test only."""
    gate = identity_gate()
    with pytest.raises(ValueError, match="the test split is empty"):
        evaluate(ANSWERS.of(ANSWERS.rows("train")), gate)
    with pytest.raises(ValueError, match="no k to evaluate"):
        evaluate(ANSWERS, gate, ks=())
    with pytest.raises(ValueError, match="validation split is empty"):
        evaluate(ANSWERS.of(ANSWERS.rows("test")), gate)


@pytest.fixture(scope="module")
def accuracy():
    """Return the evaluation of the bundled gate on all test prompts, by method."""
    table = evaluate(bundled_answers(), bundled_gate())
    return table[table["category"] == "all"].set_index("method")


def test_the_bundled_gate_s_accuracy_on_test(accuracy):
    """The figures that the documentation prints: a change of data, gate, fusion or baselines shows here."""
    printed = {
        "gate, k = 1": 0.455,
        "gate, k = 2": 0.461,
        "gate, k = 3": 0.474,
        "gate, k = 4": 0.483,
        "only llama-3.1-8b-instruct": 0.435,
        "majority vote of all": 0.462,
        "average of all": 0.468,
        "oracle": 0.765,
    }
    assert accuracy["accuracy"][list(printed)].to_dict() == pytest.approx(printed, abs=0.001)
    assert (accuracy["n"] == 2506).all()


def test_the_fused_gate_beats_the_best_single_expert_and_the_majority(accuracy):
    """At k = 3 and 4 the paired 95 % intervals over the best single expert and the plain majority lie above 0.

    Over the majority whose ties know the experts k = 4 does, and k = 3 is ahead on average. k = 1 is not below the best
    single expert.
    """
    for k in (3, 4):
        row = accuracy.loc[f"gate, k = {k}"]
        assert row["diff_low"] > 0
        assert row["plain_low"] > 0
        assert row["diff_vs_majority"] > 0
    assert accuracy.loc["gate, k = 4", "majority_low"] > 0
    assert accuracy.loc["gate, k = 1", "diff_vs_best_single"] > 0
    assert accuracy.loc["gate, k = 4", "accuracy"] > 1.1 * accuracy.loc["only llama-3.1-8b-instruct", "accuracy"]


def test_evaluation_marks_what_each_row_is(accuracy):
    """Kinds and notes tell router, baselines, single experts and the oracle apart; a reference differs by 0."""
    assert accuracy["kind"].value_counts().to_dict() == {
        "single expert": 8,
        "router": 4,
        "baseline": 8,
        "unreachable": 1,
    }
    best = accuracy[accuracy["note"].str.contains("best single")]
    assert list(best.index) == ["only llama-3.1-8b-instruct"]
    assert best[["diff_vs_best_single", "diff_low", "diff_high"]].to_numpy().tolist() == [[0, 0, 0]]
    assert "no router can reach it" in accuracy.loc["oracle", "note"]


def test_categories_add_up_to_all():
    """Right answers of all categories are the right answers of all prompts."""
    answers = bundled_answers()
    table = evaluate(answers, bundled_gate(), ks=(2,), models=answers.models[:3], subset=[0, 2])
    whole = table["category"] == "all"
    right = (table["accuracy"] * table["n"]).groupby([whole, table["method"]]).sum()
    assert np.allclose(right[True], right[False])


def test_costs_of_other_prompts_are_refused():
    """A row for each prompt of the table and a column for each model."""
    few = np.ones((5, 3))
    with pytest.raises(ValueError, match=r"costs are \(5, 3\), must be \(60, 3\)"):
        evaluate(ANSWERS, identity_gate(), costs=LegCosts(delay_s=few, energy_j=few, delay_budget_s=np.ones(5)))


def test_a_category_called_all_is_told_once():
    """Questions without categories: each method has one row, that of all prompts."""
    one = replace(ANSWERS, category=np.full(len(ANSWERS), "all"))
    table = evaluate(one, identity_gate(), ks=(1,))
    assert table["method"].is_unique
    assert (table["n"] == len(ANSWERS.rows("test"))).all()


def test_loss_and_costs_are_those_of_the_experts_asked():
    """By hand: -log of the mixture, the slowest leg, the sum of the legs; a method that asks the unknown has none."""
    gate = identity_gate()
    n, N = len(ANSWERS), len(ANSWERS.models)
    random = np.random.default_rng(0)
    costs = LegCosts(
        delay_s=random.uniform(1, 9, (n, N)), energy_j=random.uniform(1, 9, (n, N)), delay_budget_s=np.full(n, 6.0)
    )
    costs.energy_j[:, 2] = np.nan
    table = evaluate(ANSWERS, gate, ks=(2,), costs=costs)
    whole = table[table["category"] == "all"].set_index("method")
    rows = ANSWERS.rows("test")
    pool = ANSWERS.of(rows)
    router = GateRouter.of(gate=gate, answers=pool, models=ANSWERS.models, k=2)
    losses, delays_s = [], []
    for i, row in enumerate(rows):
        p = 0.0
        for e, w in zip(router.experts[i], router.weights[i], strict=True):
            choice, m = pool.choice[i, e], pool.n_options[i]
            p += w * (1 / m if choice < 0 else (1 - gate.smoothing) * (choice == pool.gold[i]) + gate.smoothing / m)
        losses.append(-np.log(p))
        delays_s.append(max(costs.delay_s[row, e] for e in router.experts[i]))
    found = whole.loc["gate, k = 2"]
    assert found["loss"] == pytest.approx(np.mean(losses))
    assert found["delay_s"] == pytest.approx(np.mean(delays_s))
    only = f"only {ANSWERS.models[1]}"
    assert whole.loc[only, "energy_j"] == pytest.approx(costs.energy_j[rows, 1].mean())
    assert np.isnan(whole.loc["majority vote of all", "energy_j"])
    assert whole.loc["cheapest that fits", "energy_j"] <= whole.loc[only, "energy_j"] + 0.5
    assert evaluate(ANSWERS, gate, ks=(2,))[["delay_s", "energy_j"]].isna().all(axis=None)
