"""Laws of subset selection: exhaustive search equals plain loops, budgets bound the worst case."""

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe2.certificate import check_selection
from moe2.selection import Problem, exhaustive


def make_problem(seed=0, *, n=12, N=4, C=2, k=2, **changes):
    random = np.random.default_rng(seed)
    problem = Problem(
        experts=tuple(f"e{i}" for i in range(N)),
        categories=tuple(f"c{i}" for i in range(C)),
        logits=random.integers(-2, 3, (n, N)).astype(np.float32),
        likelihood=random.choice([0.1, 0.25, 0.7], (n, N)),
        delay_s=random.integers(1, 20, (n, N)).astype(float),
        energy_j=random.integers(1, 20, (n, N)).astype(float),
        category=np.arange(n) % C,
        delay_budget_s=np.full(C, np.inf),
        energy_budget_j=None,
        idle_j_per_request=random.integers(0, 5, N).astype(float),
        k=k,
    )
    return replace(problem, **changes)


@st.composite
def problems(draw):
    """Return random problems; half of them have ties between experts."""
    budget = st.one_of(st.just(np.inf), st.integers(8, 20).map(float))
    C = draw(st.integers(1, 2))
    problem = make_problem(
        draw(st.integers(0, 999)),
        n=draw(st.integers(2, 8)),
        N=draw(st.integers(1, 4)),
        C=C,
        k=draw(st.integers(1, 3)),
        delay_budget_s=np.array([draw(budget) for _ in range(C)]),
        energy_budget_j=draw(st.one_of(st.none(), st.integers(10, 60).map(float))),
    )
    if draw(st.booleans()):  # a duplicated expert
        for name in ("logits", "likelihood", "delay_s", "energy_j"):
            getattr(problem, name)[:, -1] = getattr(problem, name)[:, 0]
    return problem


@settings(deadline=None)
@given(problems())
def test_exhaustive_search_equals_plain_loops(problem):
    """The chosen subset is feasible, has the value it says, and no feasible subset is better."""
    try:
        selection = exhaustive(problem)
    except ValueError:
        assume(False)  # infeasible: another test's law
    check_selection(problem, selection)
    assert selection.n_evaluated == 2 ** len(problem.experts) - 1


@settings(deadline=None)
@given(problems())
def test_costs_grow_with_the_subset(problem):
    """Adding an expert never lowers a worst-case delay or energy: feasibility is closed downwards."""
    free = replace(problem, delay_budget_s=np.full(len(problem.categories), np.inf), energy_budget_j=1e9)
    found = exhaustive(free)
    for other in found.alternatives:
        if set(other.subset) > set(found.subset):
            assert other.energy_j >= found.energy_j - 1e-9
            assert all(a >= b - 1e-9 for a, b in zip(other.delay_s, found.delay_s, strict=True))


@settings(deadline=None)
@given(problems(), st.sampled_from([0.25, 4.0]))
def test_scaling_costs_and_budgets_together_changes_nothing(problem, factor):
    """Seconds or minutes, joules or kilojoules: the same subset."""
    scaled = replace(
        problem,
        delay_s=problem.delay_s * factor,
        delay_budget_s=problem.delay_budget_s * factor,
        energy_j=problem.energy_j * factor,
        idle_j_per_request=problem.idle_j_per_request * factor,
        energy_budget_j=None if problem.energy_budget_j is None else problem.energy_budget_j * factor,
    )
    try:
        expected = exhaustive(problem).subset
    except ValueError:
        with pytest.raises(ValueError, match="no subset of experts holds"):
            exhaustive(scaled)
    else:
        assert exhaustive(scaled).subset == expected


def test_budgets_count_the_worst_case_and_the_idle_power():
    """By hand: delay is the slowest kept expert's, energy the k dearest legs' plus every kept expert's idle."""
    problem = make_problem(
        n=1,
        N=3,
        C=1,
        k=2,
        logits=np.array([[2.0, 1.0, 0.0]]),
        likelihood=np.array([[0.5, 0.6, 0.7]]),
        delay_s=np.array([[1.0, 2.0, 3.0]]),
        energy_j=np.array([[10.0, 30.0, 20.0]]),
        idle_j_per_request=np.array([1.0, 2.0, 4.0]),
        energy_budget_j=57.0,
    )
    found = {c.subset: c for c in _all_candidates(problem)}
    assert found[0, 1, 2].delay_s == (3.0,)
    assert found[0, 1, 2].energy_j == 30 + 20 + 1 + 2 + 4
    assert found[0, 1].energy_j == 10 + 30 + 1 + 2
    e = np.exp(1.0)
    assert found[0, 1, 2].value == pytest.approx(np.log((0.5 * e + 0.6) / (e + 1)))
    assert exhaustive(problem).subset == (2,)
    assert exhaustive(replace(problem, energy_budget_j=23.9)).subset == (0,)


def _all_candidates(problem):
    selection = exhaustive(problem)
    first = type(selection.alternatives[0])
    best = first(subset=selection.subset, value=selection.value, delay_s=selection.delay_s, energy_j=selection.energy_j)
    return [best, *selection.alternatives, *selection.refused]


def test_ties_go_to_the_fewest_experts_then_the_lowest_index():
    """Experts that answer alike are worth nothing together: the first of them alone is chosen."""
    same = make_problem(N=3, likelihood=np.full((12, 3), 0.5))
    assert exhaustive(same).subset == (0,)
    assert exhaustive(
        replace(same, delay_s=same.delay_s + np.array([99, 0, 0]), delay_budget_s=np.full(2, 50.0))
    ).subset == (1,)


def test_a_better_subset_that_breaks_a_budget_is_listed():
    """The report can say what a larger budget would buy."""
    problem = make_problem(N=2, k=1, likelihood=np.tile([0.2, 0.9], (12, 1)), logits=np.tile([0.0, 1.0], (12, 1)))
    tight = replace(problem, delay_s=np.tile([1.0, 5.0], (12, 1)), delay_budget_s=np.array([2.0, np.inf]))
    selection = exhaustive(tight)
    assert selection.subset == (0,)
    assert {c.subset for c in selection.refused} == {(1,), (0, 1)}


def test_eight_experts_take_less_than_a_second():
    """Every subset of 8 experts on 1,700 prompts in under 1 s (2 s on a busy machine)."""
    problem = make_problem(n=1700, N=8, C=14, k=3, energy_budget_j=60.0, delay_budget_s=np.full(14, 19.0))
    started_s = perf_counter()
    exhaustive(problem)
    assert perf_counter() - started_s < 2.0


def test_no_feasible_expert_names_the_budget_and_the_relaxation_that_works():
    """The error's smallest relaxation, applied, admits exactly the expert it names."""
    problem = make_problem(
        N=2,
        C=1,
        delay_s=np.tile([30.0, 25.0], (12, 1)),
        energy_j=np.tile([5.0, 50.0], (12, 1)),
        idle_j_per_request=np.zeros(2),
        delay_budget_s=np.array([20.0]),
        energy_budget_j=40.0,
    )
    with pytest.raises(ValueError, match="tightest budget: delay_s of category 'c0' is 20 s") as caught:
        exhaustive(problem)
    assert (
        "raising delay_s of category 'c0' from 20 to 25 s and energy_j_per_request from 40 to 50 J admits 'e1'"
        in str(caught.value)
    )
    relaxed = replace(problem, delay_budget_s=np.array([25.0]), energy_budget_j=50.0)
    assert exhaustive(relaxed).subset == (1,)


def test_experts_of_unknown_energy_are_left_out_of_an_energy_budget_only():
    """Missing is not zero: unknown joules cannot hold a budget, and do not matter without one."""
    problem = make_problem(N=3)
    problem.energy_j[:, 1] = np.nan
    assert exhaustive(problem).left_out == ()
    selection = exhaustive(replace(problem, energy_budget_j=1e6))
    assert selection.left_out == (1,)
    assert 1 not in selection.subset
    problem.energy_j[:] = np.nan
    with pytest.raises(ValueError, match="no expert's energy is known"):
        exhaustive(replace(problem, energy_budget_j=1e6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"N": 17}, "17 experts found, at most 16"),
        ({"k": 0}, "k is 0"),
        ({"delay_s": np.full((12, 4), np.nan)}, "negative or NaN"),
        ({"likelihood": np.zeros((12, 4))}, "above 0"),
        ({"likelihood": np.ones((12, 3))}, "likelihood is"),
        ({"delay_budget_s": np.array([0.0, 1.0])}, "above 0 s"),
        ({"energy_budget_j": float("nan")}, "energy budget is nan"),
        ({"experts": ("only one",)}, "need names"),
        ({"categories": ("c0", "c1", "c2"), "delay_budget_s": np.ones(3)}, "'c2' has a delay budget but no"),
    ],
)
def test_wrong_problems_are_refused(changes, message):
    """What exists is valid: a problem that cannot be judged is an error with a way out."""
    with pytest.raises(ValueError, match=message):
        exhaustive(make_problem(**changes))


def test_the_certificate_refuses_what_is_not_optimal():
    """Wrong value, wrong bound, infeasible subset, a better one elsewhere: each is caught."""
    problem = make_problem(N=3, energy_budget_j=1e6)
    good = exhaustive(problem)
    check_selection(problem, good)
    worse = min(good.alternatives, key=lambda c: c.value)
    claims_optimal = replace(good, subset=worse.subset, value=worse.value, upper_bound=worse.value)
    for wrong, message in (
        (replace(good, value=good.value + 0.1, upper_bound=good.upper_bound + 0.1), "has value"),
        (replace(good, upper_bound=good.value - 1), "do not fit"),
        (claims_optimal, "is feasible and better"),
    ):
        with pytest.raises(ValueError, match=message):
            check_selection(problem, wrong)
    with pytest.raises(ValueError, match="breaks a budget"):
        check_selection(replace(problem, energy_budget_j=0.001), good)
