"""Laws of the cost models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.costs import Costs

coefficients = st.floats(0.0, 1e3)
maybe = st.none() | coefficients


@st.composite
def costs(draw, batch):
    return Costs(
        prefill=(draw(coefficients), draw(coefficients), draw(coefficients)),
        base=draw(coefficients),
        per_sequence=draw(batch),
        per_context_token=draw(coefficients),
    )


@given(costs=costs(maybe), P=st.integers(1, 4000), O=st.integers(1, 300))
def test_a_leg_alone_costs_its_prefill_and_every_one_of_its_decode_iterations(costs, P, O):  # noqa: E741
    """The closed form of a leg equals the sum over its iterations, written out."""
    explicit = float(costs.prefill_of(P)) + sum(float(costs.decode_of(1, P + j)) for j in range(1, O))
    assert costs.leg_of(P, O).item() == pytest.approx(explicit, rel=1e-12)


@given(costs=costs(maybe), legs=st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 300)), min_size=1))
def test_many_legs_cost_what_each_of_them_costs(costs, legs):
    """The vectorised form is the scalar form, element by element."""
    P, outputs = np.array(legs).T
    assert costs.leg_of(P, outputs).tolist() == [costs.leg_of(p, o).item() for p, o in legs]


@given(costs=costs(coefficients), B=st.integers(1, 64), C=st.integers(1, 100_000))
def test_sequences_that_share_an_iteration_share_its_base(costs, B, C):
    """B lone iterations cost the shared one and B - 1 bases more, for the same context in all."""
    alone = sum(float(costs.decode_of(1, C / B)) for _ in range(B))
    assert alone == pytest.approx(float(costs.decode_of(B, C)) + (B - 1) * costs.base, rel=1e-9, abs=1e-9)


def test_unknown_batch_terms_refuse_a_batch():
    """What was not identified has no cost, in an array too."""
    costs = Costs(prefill=(1.0, 0.0, 0.0), base=1.0, per_sequence=None, per_context_token=0.0)
    assert costs.decode_of(np.array([1, 1]), np.array([5, 6])).shape == (2,)
    with pytest.raises(ValueError, match=r"decode cost of 2 sequences.*only 1 is allowed"):
        costs.decode_of(np.array([1, 2]), np.array([5, 6]))


@pytest.mark.parametrize("bad", [-1e-9, float("nan"), float("inf"), True, "1", None, 10**400])
def test_a_coefficient_is_finite_and_at_least_zero(bad):
    """Anything else is refused where it enters, named."""
    with pytest.raises(ValueError, match="prefill b: found"):
        Costs(prefill=(1.0, bad, 0.0), base=1.0, per_sequence=None, per_context_token=0.0)
    with pytest.raises(ValueError, match=r"decode\.base: found"):
        Costs(prefill=(1.0, 0.0, 0.0), base=bad, per_sequence=None, per_context_token=0.0)
