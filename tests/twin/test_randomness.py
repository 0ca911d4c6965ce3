"""Noise is keyed by published arithmetic; answers that are fused together are those fused one by one."""

from hashlib import blake2b

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.gateway.routing import fused_answers
from twin.randomness import noise_factors
from twin.users.load import Legs, Requests

MASK = 2**64 - 1


def splitmix(x: int) -> int:
    """The generator's step in Python's own integers."""
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(0, 9), st.booleans())
@settings(max_examples=50, deadline=None)
def test_noise_is_splitmix64_of_the_request_and_the_words(ids, seed, text):
    """Compiled or in exact integers, the same residual is chosen, for integer and for text ids."""
    names = np.array([f"r{i}" for i in ids], dtype=object) if text else np.array(ids, dtype=np.int64)
    choices = [0.5, 0.75, 1.0, 1.25, 1.5]
    found = noise_factors(choices, seed=seed, phase="decode", request_id=names, expert="x")
    for name, factor in zip(names.tolist(), found.tolist(), strict=True):
        key = splitmix(digest(name) if text else name & MASK)
        for word in (str(seed), "decode", "x"):
            key = splitmix(key ^ digest(word))
        assert factor == choices[int((key >> 11) * 2.0**-53 * len(choices))]


class Recalling:
    """A router that answers with a digest of everything it is told."""

    def answer(self, prompt, experts, weights, served):
        rows = zip(prompt.tolist(), experts.tolist(), weights.tolist(), served.tolist(), strict=True)
        option = np.array([hash((p, *e, *w, *s)) % 1000 for p, e, w, s in rows], dtype=np.int64)
        return option, option % 2 == 0


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=30), st.randoms())
@settings(max_examples=50, deadline=None)
def test_alike_requests_are_fused_once_and_each_gets_its_own_answer(sends, chance):
    """Fusing all requests at once gives what fusing each by itself gives, however many are alike."""
    n, k = len(sends), max(len(s) for s in sends)
    request = np.array([i for i, s in enumerate(sends) for _ in s])
    expert = np.array([e for s in sends for e in s])
    weight = np.array([chance.choice([0.25, 0.5]) for _ in request])
    served = np.array([chance.random() < 0.7 for _ in request])
    prompt = np.array([chance.randrange(3) for _ in sends])
    ones, none = np.ones(n, dtype=np.int64), np.full(n, -1)
    requests = Requests(
        request_id=np.arange(n), user_id=none, prompt=prompt, category=np.full(n, "any", dtype=object),
        arrived_s=np.zeros(n), prompt_tokens=ones, output_tokens=none,
    )  # fmt: skip
    tokens = np.ones(len(request), dtype=np.int64)
    legs = Legs(request=request, expert=expert, weight=weight, prompt_tokens=tokens, output_tokens=tokens)
    option, correct = fused_answers(requests, legs, served, Recalling())
    for i in range(n):
        mine = np.flatnonzero(request == i)
        pad = (0, k - len(mine))
        alone, right = Recalling().answer(
            prompt[[i]], np.pad(expert[mine], pad, constant_values=-1)[None],
            np.pad(weight[mine], pad)[None], np.pad(served[mine], pad)[None],
        )  # fmt: skip
        assert (option[i], correct[i]) == (alone[0], right[0])
