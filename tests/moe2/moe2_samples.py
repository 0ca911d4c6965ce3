"""Small answers tables with a known structure, shared by the tests of moe2."""

import numpy as np

from moe2.answers import Answers, split_of


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
