"""Small answers tables and gates with a known structure, shared by the tests of moe2."""

from dataclasses import replace

import numpy as np

from moe2.answers import Answers, split_of
from moe2.gate import Gate


def sample_answers(n: int = 240, seed: int = 0, models: tuple[str, ...] = ("ada", "bob", "cy")) -> Answers:
    """Return a table in which expert i is right mostly where coordinate i of the embedding is the largest."""
    random = np.random.default_rng(seed)
    N = len(models)
    embedding = random.normal(size=(n, 6)).astype(np.float32)
    gold = random.integers(0, 4, n).astype(np.int8)
    at_home = embedding[:, :N].argmax(axis=1)[:, None] == np.arange(N)
    right = random.random((n, N)) < np.where(at_home, 0.95, 0.2)
    wrong = (gold[:, None] + random.integers(1, 4, (n, N))) % 4
    choice = np.where(right, gold[:, None], wrong).astype(np.int8)
    choice[random.random((n, N)) < 0.05] = -1
    text_key = random.integers(0, 2**63 - 1, n)
    return Answers(
        models=models,
        question_id=np.arange(n) + 10,
        text_key=text_key,
        category=np.array(["law", "maths"])[random.integers(0, 2, n)],
        split=split_of(text_key),
        prompt_tokens=random.integers(1, 300, n),
        n_options=np.full(n, 4, dtype=np.int8),
        gold=gold,
        choice=choice,
        output_tokens=random.integers(1, 300, (n, N)),
        embedding=embedding,
        encoder="a test encoder",
        sources={"answers": "made up"},
    )


def sample_gate(**changes) -> Gate:
    """Return a gate of random weights for the models and the embeddings of `sample_answers`."""
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


def identity_gate(**changes) -> Gate:
    """Return a gate whose logits are the first three embedding coordinates (relu of x and -x, put together)."""
    eye = np.eye(6, dtype=np.float32)
    plain = {
        "hidden_weight": np.hstack([eye, -eye]),
        "hidden_bias": np.zeros(12, dtype=np.float32),
        "output_weight": np.vstack([eye, -eye])[:, :3].copy(),
        "output_bias": np.zeros(3, dtype=np.float32),
        "option_ratio": np.ones((3, 4), dtype=np.float32),
        "temperature": 1.0,
    }
    return sample_gate(**{**plain, **changes})
