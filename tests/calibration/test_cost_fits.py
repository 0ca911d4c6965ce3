"""Laws of the fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.costs import Costs
from calibration.fit import decode_terms, fit_relative, left_out, prefill_terms
from calibration.recordings import rows
from calibration.sources.edgereasoning import read_decodes, read_prefills

TRUE = np.array([0.08, 0.0008, 5e-8])
PROMPTS = np.arange(129, 4098, 128)
MODELS = ("DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek-R1-Distill-Llama-8B", "DeepSeek-R1-Distill-Qwen-14B")


@given(
    true=st.tuples(st.floats(0.01, 1.0), st.floats(1e-4, 1e-2), st.floats(1e-8, 1e-6)).map(np.array),
    order=st.permutations(range(len(PROMPTS))),
)
def test_exact_data_give_back_their_coefficients(true, order):
    """Without noise the fit is the truth, in whatever order the rows come."""
    terms = prefill_terms(PROMPTS[list(order)])
    fit = fit_relative(terms, terms @ true)
    assert fit.coefficients == pytest.approx(true, rel=1e-6)
    assert not fit.outliers.any()


def test_noisy_data_give_back_their_coefficients_within_the_stated_covariance():
    """Over many recordings, truth minus fit has mean 0 and the covariance that each fit states."""
    rng = np.random.default_rng(7)
    terms = prefill_terms(PROMPTS)
    fits = [fit_relative(terms, terms @ TRUE * (1 + 0.02 * rng.standard_normal(32))) for _ in range(300)]
    free = [fit for fit in fits if (fit.coefficients > 0).all()]
    assert len(free) > 250
    coefficients = np.array([fit.coefficients for fit in free])
    stated = np.mean([np.sqrt(np.diag(fit.covariance)) for fit in free], axis=0)
    assert coefficients.mean(axis=0) == pytest.approx(TRUE, rel=0.03)
    assert coefficients.std(axis=0) == pytest.approx(stated, rel=0.25)


def test_one_wild_row_moves_the_fit_by_less_than_a_hundredth():
    """22.5 s among 3 s neighbours: every coefficient stays within 1 %; an ordinary quadratic is carried off."""
    rng = np.random.default_rng(3)
    P = np.append(PROMPTS, 3300)
    clean = prefill_terms(P) @ TRUE * (1 + 0.002 * rng.standard_normal(33))
    wild = np.append(clean[:-1], 22.5)
    before, after = (fit_relative(prefill_terms(P), y) for y in (clean, wild))
    assert after.coefficients == pytest.approx(before.coefficients, rel=0.01)
    assert np.flatnonzero(after.outliers).tolist() == [32]
    assert len(after.noise) == 32
    ordinary = np.polynomial.Polynomial.fit(P, wild, 2).convert().coef
    assert np.max(np.abs(ordinary / before.coefficients - 1)) > 0.5


@given(P=st.integers(1, 4000), O=st.integers(2, 200), f=st.floats(1e-8, 1e-5))
def test_decode_terms_are_what_costs_say_a_leg_decodes(P, O, f):  # noqa: E741
    """Recorded totals are fitted with the same closed form that the twin uses."""
    costs = Costs(prefill=(0.0, 0.0, 0.0), base=0.1, per_sequence=None, per_context_token=f)
    assert (decode_terms([P], [O]) @ [0.1, f]).item() == pytest.approx(costs.leg_of(P, O).item(), rel=1e-12)


def test_coefficients_are_never_negative_and_their_bound_has_no_covariance():
    """A falling cost is fitted by its bound 0; what a bound holds has no spread to state."""
    terms = prefill_terms(PROMPTS)
    fit = fit_relative(terms, 5.0 - 0.001 * PROMPTS)
    assert (fit.coefficients >= 0).all()
    held = fit.coefficients == 0
    assert held.any()
    assert np.isnan(fit.covariance[held]).all()
    assert np.isfinite(fit.covariance[np.ix_(~held, ~held)]).all()


@pytest.mark.parametrize(
    ("prompts", "seconds", "message"),
    [
        ([1, 2], [1.0, 2.0], "2 rows do not tell 3 terms apart"),
        ([5, 5, 5, 5], [1.0, 1.0, 1.1, 1.2], "4 rows do not tell 3 terms apart"),
        ([1, 2, 3, 4], [1.0, 0.0, 1.0, 1.0], "row 1: measured is not above 0"),
        ([1, 2, 3, 4], [1.0, 1.0, np.nan, 1.0], "row 2: measured is not above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(prompts, seconds, message):
    """Too few lengths and values that have no relative error are errors, not fits."""
    with pytest.raises(ValueError, match=message):
        fit_relative(prefill_terms(prompts), seconds)


def test_left_out_errors_are_of_fits_that_did_not_see_the_row():
    """Each group's error equals the one of a fit made by hand without that group."""
    rng = np.random.default_rng(5)
    P = np.repeat([200, 400, 800, 1600, 3200], 3)
    terms = prefill_terms(P)
    measured = terms @ TRUE * (1 + 0.05 * rng.standard_normal(15))
    errors, covered = left_out(terms, measured, P)
    by_hand = fit_relative(terms[P != 800], measured[P != 800])
    expected = measured[P == 800] / (terms[P == 800] @ by_hand.coefficients) - 1
    assert errors[P == 800] == pytest.approx(expected)
    low, high = np.quantile(by_hand.residuals, [0.05, 0.95])
    assert covered[P == 800].tolist() == ((low <= expected) & (expected <= high)).tolist()


@pytest.mark.parametrize("model", MODELS)
def test_half_of_a_recording_predicts_the_other_half(model, data):
    """Median error on rows not seen: at most 2 % for decoding, 5 % for prefill above 256 tokens."""
    measurements = data / "measurements"
    prefills = read_prefills(measurements / "edgereasoning_agx_orin64_prefill.csv")
    decodes = read_decodes(measurements / "edgereasoning_agx_orin64_decode.csv")
    prefills = rows(prefills, (prefills.model == model) & (prefills.prompt_tokens > 256))
    decodes = rows(decodes, (decodes.model == model) & (decodes.output_tokens > 1))
    for seconds, terms, most in (
        (prefills.seconds, prefill_terms(prefills.prompt_tokens), 0.05),
        (decodes.seconds, decode_terms(decodes.prompt_tokens, decodes.output_tokens), 0.02),
    ):
        errors = []
        for seed in range(20):
            seen = np.random.default_rng(seed).permutation(len(seconds)) < len(seconds) // 2
            fit = fit_relative(terms[seen], seconds[seen])
            errors.append(np.median(np.abs(terms[~seen] @ fit.coefficients / seconds[~seen] - 1)))
        assert np.median(errors) <= most


@pytest.mark.parametrize("model", MODELS)
def test_a_recorded_decoding_covers_one_iteration_less_than_its_tokens(model, data):
    """Seconds per iteration do not depend on the number of tokens when counted O - 1, and do when counted O."""
    decodes = read_decodes(data / "measurements" / "edgereasoning_agx_orin64_decode.csv")
    decodes = rows(decodes, (decodes.model == model) & np.isin(decodes.output_tokens, [16, 128]))
    short = decodes.output_tokens == 16

    def drift(iterations):
        each_s = decodes.seconds / iterations
        return abs(np.median(each_s[short]) / np.median(each_s[~short]) - 1)

    assert drift(decodes.output_tokens - 1) < 0.01
    assert drift(decodes.output_tokens) > 0.04
