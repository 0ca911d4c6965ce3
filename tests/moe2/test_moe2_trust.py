"""Laws of the trust in an answer by the option it names."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe2_samples import sample_answers

from moe2.answers import bundled_answers
from moe2.fusion import fuse
from moe2.gate import Gate, bundled_gate
from moe2.router import GateRouter
from moe2.trust import SHRINK, option_trust, trusted

ANSWERS = sample_answers(400)


def test_trust_is_the_rate_when_an_option_is_named_over_the_rate_at_all():
    """Counted by plain loops, shrunk by 20 answers at the overall rate; answers not found are not counted."""
    trust = option_trust(ANSWERS)
    for model in range(len(ANSWERS.models)):
        pairs = [(c, c == g) for c, g in zip(ANSWERS.choice[:, model], ANSWERS.gold, strict=True) if c >= 0]
        overall = sum(right for _, right in pairs) / len(pairs)
        for option in range(4):
            of_it = [right for c, right in pairs if c == option]
            rate = (sum(of_it) + SHRINK * overall) / (len(of_it) + SHRINK)
            assert trust[model, option] == pytest.approx(rate / overall, rel=1e-6)


def test_a_model_that_is_never_right_is_trusted_evenly():
    """There is no rate to compare with."""
    wrong = ANSWERS.choice.copy()
    wrong[:, 1] = (ANSWERS.gold + 1) % 4
    assert (option_trust(replace(ANSWERS, choice=wrong))[1] == 1).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000))
def test_even_trust_changes_no_vote_and_distrust_only_takes_votes_away(seed):
    """Trust 1 changes nothing; an option in which everyone is trusted less wins no question anew."""
    random = np.random.default_rng(seed)
    choice = random.integers(-1, 5, (40, 3)).astype(np.int8)
    experts = np.tile([0, 1, 2], (40, 1))
    weights = random.dirichlet([1, 1, 1], 40)
    n_options = np.full(40, 5, dtype=np.int8)
    plain = fuse(choice, weights, n_options)
    assert np.array_equal(fuse(choice, trusted(weights, np.ones((3, 4)), experts, choice), n_options), plain)
    doubted = np.ones((3, 5))
    doubted[:, 2] = 0.5
    fused = fuse(choice, trusted(weights, doubted, experts, choice), n_options)
    assert not ((fused == 2) & (plain != 2)).any()


def test_a_router_trusts_each_expert_by_its_own_model():
    """With two experts of equal weight the one trusted more in the option it names is believed."""
    flat = np.zeros((6, 1), dtype=np.float32)
    models = ANSWERS.models
    trust = np.ones((3, 4), dtype=np.float32)
    trust[0], trust[2] = 0.5, 0.9
    gate = Gate(
        models=models,
        projection=np.eye(6, dtype=np.float32),
        hidden_weight=flat,
        hidden_bias=np.zeros(1, dtype=np.float32),
        output_weight=np.zeros((1, 3), dtype=np.float32),
        output_bias=np.zeros(3, dtype=np.float32),
        trust=trust,
        temperature=1.0,
        smoothing=0.3,
        k=2,
        encoder=ANSWERS.encoder,
        evidence={},
    )
    router = GateRouter.of(gate=gate, answers=ANSWERS, models=(models[2], models[0]), k=2)
    rows = np.arange(len(ANSWERS))
    experts, weights = router.route(rows)
    option, _ = router.answer(rows, experts, weights, np.ones(experts.shape, dtype=bool))
    answered = ANSWERS.choice[:, 2] >= 0
    assert np.array_equal(option[answered], ANSWERS.choice[answered, 2])


def test_the_bundled_gate_s_trust_is_counted_outside_test():
    """The checkpoint holds what the train and validation splits give."""
    answers = bundled_answers()
    seen = answers.of(np.flatnonzero(answers.split != "test"))
    assert bundled_gate().trust == pytest.approx(option_trust(seen), rel=1e-6)


def test_a_trust_that_fits_no_gate_is_refused():
    """A row per model, none below 0."""
    gate = bundled_gate()
    for wrong in (gate.trust[:3], -gate.trust, gate.trust[0]):
        with pytest.raises(ValueError, match="gate: trust is"):
            replace(gate, trust=wrong)
