"""Laws of the baselines that learn, and of accuracy against budgets."""

from dataclasses import replace

import numpy as np
import pytest
from moe2_samples import identity_gate, sample_answers

from moe2.costs import LegCosts
from moe2.curves import Costs, accuracy, budget_curves, methods_of
from moe2.learned import category_best, category_rates, cheapest_feasible, confidence_vote, neighbours, regression
from moe2.router import PooledAnswers
from moe2.votes import option_ratio

pytest.importorskip("sklearn", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")
ANSWERS = sample_answers(900)
MODELS = ANSWERS.models


def test_the_gate_of_a_category_is_its_best_expert():
    """With one expert always right in a category outside test, that expert is asked there."""
    choice = ANSWERS.choice.copy()
    law = ANSWERS.category == "law"
    choice[law, 1], choice[~law, 2] = ANSWERS.gold[law], ANSWERS.gold[~law]
    router = category_best(answers=replace(ANSWERS, choice=choice), pool=ANSWERS, models=MODELS)
    assert np.array_equal(router.experts[:, 0], np.where(law, 1, 2))


def test_nothing_is_learnt_from_test():
    """Wrong answers on every test prompt change no weight and no choice of any learned baseline."""
    spoiled = ANSWERS.choice.copy()
    test = ANSWERS.rows("test")
    spoiled[test] = (ANSWERS.gold[test, None] + 1) % 4
    for learn in (category_best, confidence_vote, neighbours, regression):
        k = {} if learn in {category_best, confidence_vote} else {"k": 2}
        here = learn(answers=ANSWERS, pool=ANSWERS, models=MODELS, **k)
        there = learn(answers=replace(ANSWERS, choice=spoiled), pool=ANSWERS, models=MODELS, **k)
        assert np.array_equal(here.experts, there.experts)
        assert np.allclose(here.weights, there.weights)


def test_learned_routers_find_the_expert_at_home():
    """Where coordinate i is by far the largest, expert i is asked first by neighbours and by regression."""
    clear = np.sort(ANSWERS.embedding[:, :3], axis=1)
    rows = np.flatnonzero((clear[:, 2] - clear[:, 1] > 1.5) & (ANSWERS.split == "test"))
    home = ANSWERS.embedding[rows, :3].argmax(axis=1)
    for learn in (neighbours, regression):
        router = learn(answers=ANSWERS, pool=ANSWERS, models=MODELS, k=1)
        assert (router.experts[rows, 0] == home).mean() > 0.8


def test_rates_are_shrunk_towards_the_expert_s_own():
    """By hand: (right in the category + 20 x overall rate) / (prompts of the category + 20)."""
    seen = ANSWERS.of(np.flatnonzero(ANSWERS.split != "test"))
    law = seen.category == "law"
    right = seen.correct.astype(float)
    expected = (right[law].sum(axis=0) + 20 * right.mean(axis=0)) / (law.sum() + 20)
    found = category_rates(ANSWERS, ANSWERS, MODELS)
    assert np.allclose(found[ANSWERS.category == "law"], expected)


def test_the_cheapest_that_fits_fits_and_is_cheapest():
    """Per category: of the experts whose mean delay fits, the one of least joules; the fastest where none fits."""
    n = len(ANSWERS)
    law = ANSWERS.category == "law"
    costs = LegCosts(
        delay_s=np.tile([1.0, 2.0, 9.0], (n, 1)),
        energy_j=np.tile([7.0, 5.0, 1.0], (n, 1)),
        delay_budget_s=np.where(law, 3.0, 0.5),
    )
    router = cheapest_feasible(answers=ANSWERS, pool=ANSWERS, models=MODELS, costs=costs)
    assert np.array_equal(router.experts[:, 0], np.where(law, 1, 0))
    unknown = np.array([1.0, np.nan, 1.0])
    for other, law_choice, rest in (
        (replace(costs, energy_j=costs.energy_j * unknown), 0, 0),  # the cheaper one's joules are not known
        (replace(costs, delay_s=costs.delay_s * unknown), 0, 0),  # whether it fits is not known
        (replace(costs, energy_j=costs.energy_j * np.nan), 0, 0),  # no joules: the fastest
    ):
        router = cheapest_feasible(answers=ANSWERS, pool=ANSWERS, models=MODELS, costs=other)
        assert np.array_equal(router.experts[:, 0], np.where(law, law_choice, rest))


def curve_parts():
    v = len(ANSWERS.rows("validation"))
    costs = Costs(
        delay_s=np.tile([1.0, 2.0, 4.0], (v, 1)),
        energy_j=np.tile([10.0, 20.0, 30.0], (v, 1)),
        category=np.arange(v) % 2,
        idle_j_per_request=np.array([1.0, 1.0, 1.0]),
    )
    return identity_gate(), costs


def test_curves_keep_their_budgets_and_more_budget_never_hurts_on_validation():
    """What is shown fits the budget it is shown at; accuracy on validation grows with the budget."""
    gate, costs = curve_parts()
    methods = methods_of(ANSWERS, gate, MODELS, most=2)
    curves = budget_curves(
        ANSWERS, methods, MODELS, costs, grids={"delay_s": [0.5, 1.0, 2.0, 4.0], "energy_j": [11.0, 32.0, 80.0]}
    )
    shown = curves[curves["accuracy"].notna()]
    for row in shown.to_dict("records"):
        assert row[row["kind"]] <= row["budget"]
    assert curves[curves["budget"] == 0.5]["accuracy"].isna().all()
    pooled, validation = PooledAnswers.of(ANSWERS, MODELS), ANSWERS.rows("validation")
    for method in methods:
        rows = shown[(shown["method"] == method.name) & (shown["kind"] == "delay_s")]
        if method.cheapest:
            assert rows["energy_j"].is_monotonic_decreasing
            assert (rows["experts"] == (0,)).all()
            continue
        values = [accuracy(method, pooled, r["experts"], r["k"], validation) for r in rows.to_dict("records")]
        assert values == sorted(values)


def test_a_curve_s_accuracy_is_the_router_s():
    """The gate on all experts in a curve answers as the fused top k does elsewhere."""
    gate = replace(curve_parts()[0], option_ratio=option_ratio(ANSWERS))
    method = methods_of(ANSWERS, gate, MODELS, most=2)[0]
    from moe2.router import GateRouter

    router = GateRouter.of(gate=gate, answers=ANSWERS, models=MODELS, k=2)
    rows = ANSWERS.rows("test")
    right = router.answer_all_served(rows)[1]
    pooled = PooledAnswers.of(ANSWERS, MODELS)
    assert accuracy(method, pooled, (0, 1, 2), 2, rows) == right.mean()
