"""Laws of training: same seed same bits, learns what can be learnt, refuses what is too little."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from moe2_samples import sample_answers

from moe2.answers import bundled_answers
from moe2.gate import bundled_gate, write_gate
from moe2.training import Recipe, scarcity, train_gate
from moe2.tuning import fused_log_likelihood

torch = pytest.importorskip("torch", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")
QUICK = Recipe(heads=2, hidden=8, epochs=2)


def test_the_same_seed_trains_the_same_bytes(tmp_path):
    """Two trainings with one seed give one file; another seed gives other weights."""
    answers = sample_answers()
    gates = [train_gate(answers, seed=seed, recipe=QUICK) for seed in (3, 3, 4)]
    for gate, name in zip(gates, "abc", strict=True):
        write_gate(gate, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not np.array_equal(gates[0].hidden_weight, gates[2].hidden_weight)


def test_training_leaves_torch_as_it_was():
    """Neither the number of threads nor the global generator changes."""
    threads = torch.get_num_threads()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train_gate(sample_answers(), recipe=QUICK)
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_training_reports_every_epoch():
    """The callback sees (1, E) to (E, E)."""
    seen = []
    train_gate(sample_answers(), recipe=QUICK, progress=lambda epoch, total: seen.append((epoch, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("loss", ["score", "mixture"])
def test_both_losses_learn_who_is_right_where(loss):
    """Each made-up expert is right on its own side of the space: the gate finds it on prompts it never saw."""
    answers = sample_answers(1500)
    gate = train_gate(answers, recipe=Recipe(loss=loss, heads=2, hidden=32, dropout=0.1, epochs=15, learning_rate=1e-2))
    unseen = answers.of(answers.rows("test"))
    home = unseen.embedding[:, :3].argmax(axis=1)
    assert (gate.logits(unseen.embedding).argmax(axis=1) == home).mean() > 0.85


def test_the_score_loss_is_calibrated():
    """Sigmoid of the log-odds, averaged over unseen prompts, is the experts' accuracy there."""
    answers = sample_answers(1500)
    gate = train_gate(answers, recipe=Recipe(heads=2, hidden=32, epochs=8, learning_rate=5e-3))
    unseen = answers.of(answers.rows("test"))
    predicted = 1 / (1 + np.exp(-gate.log_odds(unseen.embedding)))
    assert predicted.mean(axis=0) == pytest.approx(unseen.correct.mean(axis=0), abs=0.06)


def test_training_again_gives_the_bundled_gate():
    """`moe2 train` with the bundled seed reproduces the bundled logits (to rounding, on another processor too)."""
    answers, gate = bundled_answers(), bundled_gate()
    again = train_gate(answers, seed=gate.evidence["seed"])
    rows = answers.rows("validation")
    difference = np.abs(again.log_odds(answers.embedding[rows]) - gate.log_odds(answers.embedding[rows]))
    assert difference.max() < 0.02
    assert again.temperature == pytest.approx(gate.temperature, rel=0.02)
    assert (again.smoothing, again.k) == (gate.smoothing, gate.k)


def test_the_default_loss_mixes_no_worse_than_the_mixture_s_own():
    """On validation, averaged over k: as likely a mixture as that of the gate trained for mixtures.

    And it knows each expert by itself, which the other does not: that is what orders subsets.
    """
    answers = bundled_answers()
    rows = answers.of(answers.rows("validation"))
    mixture = train_gate(answers, recipe=Recipe(loss="mixture"))

    def mixed(gate):
        return fused_log_likelihood(rows, gate.logits(rows.embedding), gate.smoothing)

    def alone(gate):
        odds = gate.log_odds(rows.embedding).astype(float)
        return np.mean(np.logaddexp(0.0, odds) - rows.correct * odds)

    assert mixed(bundled_gate()) > mixed(mixture) - 0.002
    assert alone(bundled_gate()) < alone(mixture) - 0.03


def prompts(train, validation):
    """Return a table with this many prompts of either split."""
    answers = sample_answers(1000)
    return answers.of(np.concatenate([answers.rows("train")[:train], answers.rows("validation")[:validation]]))


def test_training_needs_train_and_validation_prompts():
    """With fewer than 5 of either there is nothing to learn from or to choose on; with 5 of each a gate comes out."""
    answers = sample_answers()
    with pytest.raises(ValueError, match="0 train and 0 validation prompts"):
        train_gate(answers.of(answers.rows("test")))
    for few in ((4, 50), (50, 4), (2, 1)):
        message = f"{few[0]} train and {few[1]} validation prompts, must be at least 5 of each: .*moe2 answers collect"
        with pytest.raises(ValueError, match=message):
            train_gate(prompts(*few))
    assert train_gate(prompts(5, 5), recipe=QUICK).evidence["n_validation"] == 5


def test_a_gate_of_few_prompts_is_called_in_doubt():
    """Below 200 and 100 prompts a split is named with its number and what is in doubt; from there on nothing is."""
    assert scarcity(prompts(200, 100)) is None
    for few, named, unnamed in (
        ((199, 100), "199 train", "validation prompts"),
        ((200, 99), "99 validation", "train prompts"),
    ):
        told = scarcity(prompts(*few))
        assert named in told
        assert unnamed not in told
    assert "7 train prompts" in scarcity(prompts(7, 8))
    assert "8 validation prompts" in scarcity(prompts(7, 8))


@pytest.mark.parametrize(
    "changes", [{"loss": "scores"}, {"epochs": 0}, {"heads": 0}, {"dropout": 1.0}, {"learning_rate": 0.0}], ids=str
)
def test_recipes_that_train_nothing_are_refused(changes):
    """A loss that does not exist is not taken for another, and a gate needs at least one epoch and one head."""
    with pytest.raises(ValueError, match=f"recipe: .*{next(iter(changes))}"):
        Recipe(**changes)


def test_training_without_torch_names_the_way_out(monkeypatch):
    """Without torch the message is the pip command."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'moe2-twin\[gate\]'"):
        train_gate(sample_answers())


def test_training_stops_when_the_loss_on_validation_rises():
    """Trained far too long on few prompts, the gate is that of an earlier epoch and better on prompts never seen."""
    answers = bundled_answers()
    rows = np.concatenate([answers.rows("train")[:500], answers.rows("validation")[:500]])
    few, unseen = answers.of(rows), answers.of(answers.rows("validation")[500:])
    eager = Recipe(heads=2, hidden=64, dropout=0.0, weight_decay=0.0, epochs=30, learning_rate=3e-3)

    def loss(gate):
        odds = gate.log_odds(unseen.embedding).astype(float)
        return np.mean(np.logaddexp(0.0, odds) - unseen.correct * odds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe2.training.OVERFITTED", np.inf)
        overfitted = train_gate(few, recipe=eager)
    stopped = train_gate(few, recipe=eager)
    assert "stopped_after_epochs" not in overfitted.evidence
    assert stopped.evidence["stopped_after_epochs"] < 10
    assert loss(stopped) < loss(overfitted) - 0.02


def test_a_table_smaller_than_a_batch_can_be_trained_on():
    """One batch and few epochs: the schedule of the learning rate has fewer steps than its warm-up wants."""
    answers = sample_answers(60)
    for epochs in (1, 2, 10):
        assert train_gate(answers, recipe=replace(QUICK, epochs=epochs)).models == answers.models
