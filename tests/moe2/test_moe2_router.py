"""Laws of the router, the baselines and the evaluation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe2_samples import sample_answers

from moe2.answers import bundled_answers
from moe2.baselines import (
    average_of_all,
    baselines,
    best_single,
    majority_vote,
    oracle,
    plain_majority,
    random_experts,
)
from moe2.costs import LegCosts
from moe2.evaluation import compare, evaluate
from moe2.gate import Gate, bundled_gate
from moe2.router import GateRouter

ANSWERS = sample_answers(60)
MODELS = ["bob", "cy", "ada", "bob"]  # another order than the table's, one model twice


def identity_gate(**changes):
    """Return a gate whose logits are the first three embedding coordinates (relu of x and -x, put together)."""
    eye = np.eye(6, dtype=np.float32)
    gate = Gate(
        models=ANSWERS.models,
        projection=np.eye(6, dtype=np.float32),
        hidden_weight=np.hstack([eye, -eye]),
        hidden_bias=np.zeros(12, dtype=np.float32),
        output_weight=np.vstack([eye, -eye])[:, :3].copy(),
        output_bias=np.zeros(3, dtype=np.float32),
        option_ratio=np.ones((3, 4), dtype=np.float32),
        temperature=1.0,
        smoothing=0.3,
        k=2,
        encoder=ANSWERS.encoder,
        evidence={},
    )
    return replace(gate, **changes)


@settings(deadline=None)
@given(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 5))
def test_the_router_asks_the_best_of_the_subset(subset, k):
    """Experts are the subset's k best by logit, weights their softmax; beyond the subset -1 and 0."""
    router = GateRouter.of(gate=identity_gate(), answers=ANSWERS, models=MODELS, k=k, subset=sorted(subset))
    experts, weights = router.route(np.arange(len(ANSWERS)))
    column = [ANSWERS.models.index(m) for m in MODELS]
    for row in range(len(ANSWERS)):
        logit = {e: float(ANSWERS.embedding[row, column[e]]) for e in subset}
        best = sorted(subset, key=lambda e: (-logit[e], e))[:k]
        assert experts[row].tolist() == best + [-1] * (min(k, 4) - len(best))
        raw = np.exp([logit[e] for e in best])
        assert weights[row][: len(best)] == pytest.approx(raw / raw.sum(), rel=1e-5)
        assert weights[row].sum() == pytest.approx(1)


def test_one_by_one_equals_all_at_once():
    """Routing and answering a batch is routing and answering each prompt, bit by bit."""
    router = GateRouter.of(gate=identity_gate(), answers=ANSWERS, models=MODELS, k=2)
    prompts = np.array([5, 0, 5, 59])
    experts, weights = router.route(prompts)
    served = np.array([[True, True], [True, False], [False, True], [False, False]])
    option, right = router.answer(prompts, experts, weights, served)
    for i, prompt in enumerate(prompts):
        one = prompts[i : i + 1]
        assert prompt == one[0]
        single = router.route(one)
        assert np.array_equal(single[0][0], experts[i])
        assert np.array_equal(single[1][0], weights[i])
        alone = router.answer(one, *single, served[i : i + 1])
        assert (alone[0][0], alone[1][0]) == (option[i], right[i])
    assert (option[3], right[3]) == (-1, False)


def test_a_leg_that_was_not_served_has_no_vote():
    """With only the first leg served the answer is that expert's own."""
    router = GateRouter.of(gate=identity_gate(), answers=ANSWERS, models=MODELS, k=3)
    prompts = np.arange(len(ANSWERS))
    experts, weights = router.route(prompts)
    option, right = router.answer(prompts, experts, weights, np.tile([True, False, False], (len(prompts), 1)))
    alone = router.pool.choice[prompts, experts[:, 0]]
    assert np.array_equal(option, alone)
    assert np.array_equal(right, alone == ANSWERS.gold)


@settings(deadline=None)
@given(st.permutations(range(3)))
def test_permuting_the_experts_permutes_the_routes(order):
    """The order of a scenario's experts names them, and changes no decision."""
    models = list(ANSWERS.models)
    prompts = np.arange(len(ANSWERS))
    here = GateRouter.of(gate=identity_gate(), answers=ANSWERS, models=models, k=2)
    there = GateRouter.of(gate=identity_gate(), answers=ANSWERS, models=[models[i] for i in order], k=2)
    assert np.array_equal(np.array(order)[there.route(prompts)[0]], here.route(prompts)[0])


def test_wrong_routers_are_refused():
    """Unknown model, empty or unknown subset, k of 0, rows beyond the pool, an encoder that differs."""
    gate = identity_gate()
    for arguments, message in (
        ({"models": ["bobb"], "k": 1}, "'bobb' is not in this answers table, .* did you mean 'bob'"),
        ({"models": MODELS, "k": 1, "subset": []}, r"subset \[\]: must name at least one"),
        ({"models": MODELS, "k": 1, "subset": [4]}, "experts 0 to 3"),
        ({"models": MODELS, "k": 0}, "k is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            GateRouter.of(gate=gate, answers=ANSWERS, **arguments)
    with pytest.raises(ValueError, match="takes embeddings of other"):
        GateRouter.of(gate=replace(gate, encoder="other"), answers=ANSWERS, models=MODELS, k=1)
    router = GateRouter.of(gate=gate, answers=ANSWERS, models=MODELS, k=1)
    for rows in ([60], [-1]):
        with pytest.raises(ValueError, match="the pool has rows 0 to 59"):
            router.route(np.array(rows))
    with pytest.raises(ValueError, match="at least one expert"):
        majority_vote(answers=ANSWERS, pool=ANSWERS, models=[])


def outcome(method, answers):
    prompts = np.arange(len(answers))
    experts, weights = method.route(prompts)
    return method.answer(prompts, experts, weights, np.ones(experts.shape, dtype=bool))


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
