"""Laws of the gate and its training: same seed same bits, learns what can be learnt, refuses what does not fit."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from moe2_samples import sample_answers

from moe2.answers import bundled_answers
from moe2.fusion import likelihood, top_k
from moe2.gate import Gate, bundled_gate, read_gate, write_gate
from moe2.narrowing import narrowed
from moe2.training import Recipe, scarcity, train_gate
from moe2.tuning import best_temperature, fused_log_likelihood

torch = pytest.importorskip("torch", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")
QUICK = Recipe(heads=2, hidden=8, epochs=2)


def small_gate(**changes):
    random = np.random.default_rng(0)
    gate = Gate(
        models=("ada", "bob", "cy"),
        projection=np.eye(6, dtype=np.float32),
        hidden_weight=random.normal(size=(6, 4)).astype(np.float32),
        hidden_bias=random.normal(size=4).astype(np.float32),
        output_weight=random.normal(size=(4, 3)).astype(np.float32),
        output_bias=random.normal(size=3).astype(np.float32),
        option_ratio=random.uniform(0.5, 1.5, (3, 4)).astype(np.float32),
        temperature=0.5,
        smoothing=0.3,
        k=2,
        encoder="a test encoder",
        evidence={"seed": 0},
    )
    return replace(gate, **changes)


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


def test_narrowing_keeps_what_the_gate_says():
    """Prompts in 10 of 20 directions: 10 dimensions lose nothing, of 5 none is better; few prompts change nothing."""
    random = np.random.default_rng(0)
    embedding = (random.normal(size=(400, 10)) @ random.normal(size=(10, 20)) + 1).astype(np.float32)
    layers = {"hidden_weight": (20, 30), "hidden_bias": (30,), "output_weight": (30, 3), "output_bias": (3,)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in layers.items()}

    def hidden(found):
        return embedding @ found["projection"] @ found["hidden_weight"] + found["hidden_bias"]

    wide = hidden(narrowed(arrays, embedding, 20))
    assert wide == pytest.approx(embedding @ arrays["hidden_weight"] + arrays["hidden_bias"], abs=1e-4)
    assert hidden(narrowed(arrays, embedding, 10)) == pytest.approx(wide, abs=1e-3)
    left = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False)[5:]
    assert np.square(hidden(narrowed(arrays, embedding, 5)) - wide).sum() == pytest.approx(
        np.square(left).sum(), rel=1e-3
    )
    assert narrowed(arrays, embedding[:79], 10)["projection"].shape == (20, 20)


def test_numpy_and_torch_compute_the_same_logits():
    """The gate's two matrix products equal torch's linear layers."""
    gate = small_gate()
    x = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    first, second = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(gate.hidden_weight.T.copy()))
        first.bias.copy_(torch.from_numpy(gate.hidden_bias))
        second.weight.copy_(torch.from_numpy(gate.output_weight.T.copy()))
        second.bias.copy_(torch.from_numpy(gate.output_bias))
        expected = second(torch.relu(first(torch.from_numpy(x)))).numpy() / 0.5
    assert gate.logits(x) == pytest.approx(expected, abs=1e-5)


def test_a_checkpoint_survives_its_file(tmp_path):
    """Reading what was written gives the same arrays, figures and bytes."""
    gate = small_gate()
    write_gate(gate, tmp_path / "g.safetensors")
    back = read_gate(tmp_path / "g.safetensors")
    for name in ("models", "temperature", "smoothing", "k", "encoder", "evidence"):
        assert getattr(back, name) == getattr(gate, name)
    assert np.array_equal(back.hidden_weight, gate.hidden_weight)
    write_gate(back, tmp_path / "h.safetensors")
    assert (tmp_path / "h.safetensors").read_bytes() == (tmp_path / "g.safetensors").read_bytes()


def test_the_bundled_gate_was_trained_on_the_bundled_answers():
    """Models, encoder and the hash of the answers agree; the evidence holds seed, recipe and versions."""
    gate, answers = bundled_gate(), bundled_answers()
    gate.check_fits(answers)
    assert gate.evidence["answers_sha256"] == answers.sha256
    assert gate.evidence["versions"]["torch"].split("+")[0] == "2.13.0"
    assert {"seed", "recipe", "validation_accuracy_by_k"} <= set(gate.evidence)


def test_training_again_gives_the_bundled_gate():
    """`moe2 train` with the bundled seed reproduces the bundled logits (to rounding, on another processor too)."""
    answers, gate = bundled_answers(), bundled_gate()
    again = train_gate(answers, seed=gate.evidence["seed"])
    rows = answers.rows("validation")
    difference = np.abs(again.log_odds(answers.embedding[rows]) - gate.log_odds(answers.embedding[rows]))
    assert difference.max() < 0.02
    assert again.temperature == pytest.approx(gate.temperature, rel=0.02)
    assert (again.smoothing, again.k) == (gate.smoothing, gate.k)


def test_the_temperature_is_the_likeliest_on_validation():
    """No temperature of a fine grid does better; log-odds three times as large get one three times as high."""
    answers = sample_answers(600)
    odds = 2 * answers.embedding[:, :3] + np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    value, temperature = best_temperature(answers, odds, 0.3)
    grid = np.geomspace(0.2, 5.0, 60)
    assert value >= max(fused_log_likelihood(answers, odds / t, 0.3) for t in grid)
    assert best_temperature(answers, 3 * odds, 0.3)[1] == pytest.approx(3 * temperature, rel=1e-3)


def test_the_likelihood_over_all_k_is_that_of_each_k():
    """Running sums over ranked experts are the mixtures of the top 1, 2, ... N."""
    answers, logits = sample_answers(200), np.random.default_rng(0).normal(size=(200, 3))
    right = likelihood(answers.choice, answers.gold, answers.n_options, smoothing=0.3)
    slow = []
    for k in (1, 2, 3):
        experts, weights = top_k(logits, k)
        slow.append(np.log((weights * np.take_along_axis(right, experts, axis=1)).sum(axis=1)).mean())
    assert fused_log_likelihood(answers, logits, 0.3) == pytest.approx(np.mean(slow))


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


def test_a_gate_for_other_models_is_refused():
    """The message names both lists and the way out; another order is another list."""
    with pytest.raises(ValueError, match=r"trained for the models bob, ada, cy; .* holds ada, bob, cy; .*moe2 train"):
        small_gate(models=("bob", "ada", "cy")).check_fits(sample_answers())
    with pytest.raises(ValueError, match="'dan' is not in this gate, which holds ada, bob, cy"):
        small_gate().logits_of(np.zeros((1, 6), dtype=np.float32), ["dan"])
    with pytest.raises(ValueError, match=r"takes embeddings of another; .* those of a test encoder"):
        small_gate(encoder="another").check_fits(sample_answers())


def test_embeddings_of_another_width_are_refused():
    """A vector of another encoder does not pass silently."""
    with pytest.raises(ValueError, match=r"must be \(prompts, 6\)"):
        small_gate().logits(np.zeros((2, 5), dtype=np.float32))


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"smoothing": 0.0}, {"k": 0}, {"models": ("ada",)}])
def test_wrong_gates_are_refused(changes):
    """What exists is valid."""
    with pytest.raises(ValueError, match="gate:"):
        small_gate(**changes)


def test_unreadable_checkpoints_are_named(tmp_path):
    """Missing, not safetensors, or another program's safetensors: one message that names the file."""
    from safetensors.numpy import save_file

    path = tmp_path / "g.safetensors"
    with pytest.raises(ValueError, match=r"g\.safetensors: no such file"):
        read_gate(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"g\.safetensors: not a readable gate"):
        read_gate(path)
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"g\.safetensors: gate schema is None, must be 4"):
        read_gate(path)


def test_a_checkpoint_of_an_older_schema_is_refused_with_the_way_out(tmp_path, monkeypatch):
    """Its votes were counted otherwise; the message says what to do."""
    path = tmp_path / "g.safetensors"
    monkeypatch.setattr("moe2.gate.SCHEMA", 3)
    write_gate(small_gate(), path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"g\.safetensors: gate schema is 3, must be 4; train one with: moe2 train"):
        read_gate(path)


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
