"""Random loads and servers, shared by the tests."""

from hypothesis import strategies as st

# Multiples of 1/64 are exact in binary: arrivals then fall on iteration boundaries again and again.
EXACT = st.integers(0, 64).map(lambda n: n / 64)
ROUGH = st.floats(0.0, 1.0, allow_nan=False).map(lambda x: round(x, 3))

MIXED = st.just(0.0) | EXACT.map(lambda x: x / 64)  # what mixed iterations cost more for each token of context


@st.composite
def coefficients(draw):
    """Return prefill (a, b, c) and decode (d, e, f); an iteration always takes some time."""
    number = draw(st.sampled_from([EXACT, ROUGH]))
    a, b, d, e = (draw(number) for _ in range(4))
    c, f = draw(number) / 64, draw(number) / 64
    return (a + 1 / 64, b, c), (d + 1 / 64, e, f)


@st.composite
def loads(draw, n_experts=1):
    """Return rows (request_id, arrived_s, prompt_tokens, output_tokens, expert index)."""
    number = draw(st.sampled_from([EXACT, ROUGH]))
    n = draw(st.integers(1, 25))
    ids = draw(st.lists(st.integers(0, 999), min_size=n, max_size=n, unique=True))
    row = st.tuples(number.map(lambda x: 20 * x), st.integers(1, 12), st.integers(1, 12), st.integers(0, n_experts - 1))
    return [(i, *draw(row)) for i in ids]
