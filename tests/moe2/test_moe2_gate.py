"""Laws of the gate and its checkpoint: what is computed and written, and what does not fit is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe2_samples import sample_answers, sample_gate
from safetensors import safe_open
from safetensors.numpy import save_file

from moe2.answers import bundled_answers
from moe2.fusion import likelihood, top_k
from moe2.gate import bundled_gate, read_gate, write_gate
from moe2.narrowing import narrowed
from moe2.tuning import best_temperature, fused_log_likelihood


def test_a_checkpoint_survives_its_file(tmp_path):
    """Reading what was written gives the same arrays, figures and bytes."""
    gate = sample_gate()
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
    assert (gate.models, gate.encoder) == (answers.models, answers.encoder)
    assert gate.evidence["answers_sha256"] == answers.sha256
    assert gate.evidence["versions"]["torch"].split("+")[0] == "2.13.0"
    assert {"seed", "recipe", "validation_accuracy_by_k"} <= set(gate.evidence)


def test_a_gate_for_other_models_is_refused():
    """By name, whatever their order: a model it was not trained for has no logit; other embeddings have none either."""
    x = sample_answers().embedding
    with pytest.raises(ValueError, match=r"'dan' is not in this gate, which holds ada, bob, cy; .*moe2 train"):
        sample_gate().logits_of(x, ["ada", "dan"])
    with pytest.raises(ValueError, match=r"takes embeddings of another; .* those of a test encoder; .*moe2 train"):
        sample_gate(encoder="another").check_encoder(sample_answers())
    turned = sample_gate().logits_of(x, ["cy", "ada"])
    assert np.array_equal(turned, sample_gate().logits(x)[:, [2, 0]])


def test_embeddings_of_another_width_are_refused():
    """A vector of another encoder does not pass silently."""
    with pytest.raises(ValueError, match=r"must be \(prompts, 6\)"):
        sample_gate().logits(np.zeros((2, 5), dtype=np.float32))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_no_number_is_no_prompt(wrong):
    """The prompt is named, in whichever block of prompts and coordinate it stands; the others alone have log-odds."""
    x = np.ones((1100, 6), dtype=np.float32)
    x[700, 3] = wrong
    gate = sample_gate(hidden_weight=np.ones((6, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="prompt 700 has no log-odds"):
        gate.logits(x)
    assert np.isfinite(gate.logits(np.delete(x, 700, axis=0))).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": np.inf},
        {"smoothing": 0.0},
        {"k": 0},
        {"k": 4},
        {"models": ("ada",)},
        {"models": ("ada", "bob", "bob")},
        {"models": ()},
        {"hidden_bias": np.zeros(4)},
        {"hidden_bias": np.full(4, np.nan, dtype=np.float32)},
        {"output_weight": np.zeros((3, 3), dtype=np.float32)},
        {"projection": np.zeros(6, dtype=np.float32)},
        {"option_ratio": np.zeros((3, 4), dtype=np.float32)},
    ],
    ids=str,
)
def test_wrong_gates_are_refused(changes):
    """What exists is valid: layers that fit each other and the models, float32, finite; figures in their ranges."""
    with pytest.raises(ValueError, match="gate: "):
        sample_gate(**changes)


def test_unreadable_checkpoints_are_named(tmp_path):
    """Missing, not safetensors, or another program's safetensors: one message that names the file."""
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
    write_gate(sample_gate(), path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"g\.safetensors: gate schema is 3, must be 4; train one with: moe2 train"):
        read_gate(path)


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
    torch = pytest.importorskip("torch", reason="extra 'gate' is not installed: pip install 'moe2-twin[gate]'")
    gate = sample_gate()
    x = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    first, second = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(gate.hidden_weight.T.copy()))
        first.bias.copy_(torch.from_numpy(gate.hidden_bias))
        second.weight.copy_(torch.from_numpy(gate.output_weight.T.copy()))
        second.bias.copy_(torch.from_numpy(gate.output_bias))
        expected = second(torch.relu(first(torch.from_numpy(x)))).numpy() / 0.5
    assert gate.logits(x) == pytest.approx(expected, abs=1e-5)


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


def rewritten(path, *, arrays=None, text=None, **figures):
    """Write a checkpoint with other arrays, or other metadata: whole as `text`, or with these figures in it."""
    write_gate(sample_gate(), path)
    with safe_open(path, "np") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        record = {**json.loads(file.metadata()["moe2_gate"]), **figures}
    save_file({**found, **(arrays or {})}, path, {"moe2_gate": json.dumps(record) if text is None else text})


WRONG_FILES = {
    "a number": {"text": "5"},
    "a list": {"text": "[]"},
    "cut JSON": {"text": '{"schema": 4'},
    "models are a number": {"models": 5},
    "models are numbers": {"models": [1, 2, 3]},
    "no encoder": {"encoder": None},
    "a temperature in words": {"temperature": "hot"},
    "half an expert": {"k": 2.5},
    "evidence is a list": {"evidence": []},
    "a layer too small": {"arrays": {"hidden_bias": np.zeros(3, dtype=np.float32)}},
    "a layer of whole numbers": {"arrays": {"hidden_bias": np.zeros(4, dtype=np.int32)}},
    "a layer more": {"arrays": {"hidden": np.zeros(3, dtype=np.float32)}},
}


@pytest.mark.parametrize("changes", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_checkpoint_that_holds_no_gate_is_refused_in_words(tmp_path, changes):
    """Whatever the metadata or the arrays are: one message in one line that begins with the file."""
    path = tmp_path / "g.safetensors"
    rewritten(path, **changes)
    with pytest.raises(ValueError, match=r"^\S*g\.safetensors: ") as refused:
        read_gate(path)
    assert "\n" not in str(refused.value)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_a_checkpoint_cut_off_anywhere_is_refused(tmp_path_factory, n):
    """Of the bytes that were written none may be missing."""
    path = tmp_path_factory.mktemp("cut") / "g.safetensors"
    write_gate(sample_gate(), path)
    data = path.read_bytes()
    path.write_bytes(data[: n % len(data)])
    with pytest.raises(ValueError, match="not a readable gate checkpoint"):
        read_gate(path)


class Bomb:
    """An object whose pickle does something when it is read."""

    def __reduce__(self):
        return Path.touch, (Path("bomb-went-off"),)


def test_a_pickle_is_refused_and_not_executed(tmp_path, monkeypatch):
    """A checkpoint of torch is code; here it is bytes that are no safetensors."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "g.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="not a readable gate checkpoint"):
        read_gate(path)
    assert not Path("bomb-went-off").exists()
    pickle.loads(path.read_bytes())  # noqa: S301 - that it would have gone off
    assert Path("bomb-went-off").exists()
