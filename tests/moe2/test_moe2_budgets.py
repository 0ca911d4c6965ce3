"""Laws of the budgets that a selection keeps: what they count, what breaks them, and what is said when nothing fits."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from selection_problems import instances, make_problem, problems

from moe2.certificate import verify
from moe2.selection import Candidate, branch_and_bound, exhaustive, greedy, milp, polyblock


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
    best = Candidate(
        subset=selection.subset, value=selection.value, delay_s=selection.delay_s, energy_j=selection.energy_j
    )
    return [best, *selection.alternatives, *selection.refused]


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


def test_a_better_subset_that_breaks_a_budget_is_listed():
    """The report can say what a larger budget would buy."""
    problem = make_problem(N=2, k=1, likelihood=np.tile([0.2, 0.9], (12, 1)), logits=np.tile([0.0, 1.0], (12, 1)))
    tight = replace(problem, delay_s=np.tile([1.0, 5.0], (12, 1)), delay_budget_s=np.array([2.0, np.inf]))
    selection = exhaustive(tight)
    assert selection.subset == (0,)
    assert {c.subset for c in selection.refused} == {(1,), (0, 1)}


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
    for method in (exhaustive, polyblock, branch_and_bound, milp, greedy):
        found = method(problem)
        assert (found.status, found.subset, found.value) == ("infeasible", (), -np.inf)
        assert "tightest budget: delay_s of category 'c0' is 20 s" in found.reason
        assert (
            "raising delay_s of category 'c0' from 20 to 25 s and energy_j_per_request from 40 to 50 J admits 'e1'"
            in found.reason
        )
        verify(found.certificate)
    relaxed = replace(problem, delay_budget_s=np.array([25.0]), energy_budget_j=50.0)
    assert exhaustive(relaxed).subset == (1,)


@settings(deadline=None, max_examples=60)
@given(instances(), st.sampled_from(["worst", "expected"]))
def test_the_relaxation_that_is_named_is_enough_and_no_smaller_one_is(problem, costs):
    """Raised as told, an expert fits; all budgets raised by a little less than the largest raise, none does."""
    tight = replace(
        problem,
        costs=costs,
        delay_budget_s=problem.delay_s.min(axis=0).mean() * np.array([0.3, 0.2]),
        energy_budget_j=float(problem.energy_j.min() * 0.5),
    )
    assume(costs == "worst" or len(tight.experts) <= 6)
    found = greedy(tight) if costs == "worst" else exhaustive(tight)
    assume(found.status == "infeasible")
    raises = re.findall(r"(delay_s of category 'c(\d)'|energy_j_per_request) from (\S+) to (\S+) [sJ]", found.reason)
    delay_s, energy_j, factor = tight.delay_budget_s.copy(), tight.energy_budget_j, 1.0
    for name, category, before, after in raises:
        if name.startswith("delay"):
            delay_s[int(category)] = float(after)
        else:
            energy_j = float(after)
        factor = max(factor, float(after) / float(before))
    relaxed = replace(tight, delay_budget_s=delay_s, energy_budget_j=energy_j)
    admitted = tight.experts.index(re.search(r"admits '(\w+)'", found.reason)[1])
    assert exhaustive(replace(relaxed, **only(relaxed, admitted))).subset
    less = factor * (1 - 1e-4)
    almost = replace(tight, delay_budget_s=tight.delay_budget_s * less, energy_budget_j=tight.energy_budget_j * less)
    alone = [replace(almost, **only(almost, expert)) for expert in range(len(almost.experts))]
    assert all(exhaustive(one).status == "infeasible" for one in alone)


def only(problem, expert):
    """Return what makes a problem one of this expert alone."""
    names = ("logits", "likelihood", "delay_s", "energy_j")
    idle = problem.idle_j_per_request[[expert]]
    columns = {name: getattr(problem, name)[:, [expert]] for name in names}
    return {"experts": (problem.experts[expert],), "idle_j_per_request": idle, **columns}


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
        ({"delay_s": np.full((12, 4), np.nan)}, "negative, infinite or NaN"),
        ({"likelihood": np.zeros((12, 4))}, "above 0"),
        ({"likelihood": np.ones((12, 3))}, "likelihood is"),
        ({"delay_budget_s": np.array([0.0, 1.0])}, "above 0 s"),
        ({"energy_budget_j": float("nan")}, "energy budget is nan"),
        ({"costs": "mean"}, "costs are 'mean'"),
        ({"experts": ("only one",)}, "need names"),
        ({"logits": np.zeros(12)}, r"logits are \(12,\)"),
        ({"delay_s": np.full((12, 4), np.inf)}, "infinite"),
        ({"likelihood": np.full((12, 4), 1.01)}, "at most 1"),
        ({"energy_j": np.full((12, 4), -1.0)}, "an energy is negative"),
        ({"idle_j_per_request": np.full(4, -1.0)}, "an energy is negative"),
        ({"category": np.full(12, 2)}, "category goes from 2 to 2, must be places among 2"),
        ({"category": np.full(12, -1)}, "category goes from -1 to -1"),
        ({"categories": ("c0", "c1", "c2"), "delay_budget_s": np.ones(3)}, "'c2' has a delay budget but no"),
    ],
)
def test_wrong_problems_are_refused(changes, message):
    """What exists is valid: a problem that cannot be judged is an error with a way out."""
    with pytest.raises(ValueError, match=message):
        exhaustive(make_problem(**changes))
