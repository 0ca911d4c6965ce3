"""Laws of the router: the subset's k best by the gate, whoever they are asked with and in whatever order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe2_samples import identity_gate, sample_answers

from moe2.baselines import majority_vote
from moe2.router import GateRouter

ANSWERS = sample_answers(60)
MODELS = ["bob", "cy", "ada", "bob"]  # another order than the table's, one model twice


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
