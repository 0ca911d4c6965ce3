"""Laws of subset selection: every method finds what plain loops find."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from selection_problems import (
    best_of_all,
    instances,
    make_problem,
    plain_best,
    plain_costs,
    plain_value,
    problems,
    tight_problem,
)

from moe2.certificate import verify
from moe2.selection import branch_and_bound, exhaustive, greedy, milp, polyblock, select


@settings(deadline=None)
@given(problems(), st.sampled_from(["fused", "coverage"]), st.sampled_from(["worst", "expected"]))
def test_exhaustive_search_equals_plain_loops(problem, objective, costs):
    """The chosen subset fits, has the value it says, and no feasible subset is better; whatever the budgets bound."""
    problem = replace(problem, costs=costs)
    found = exhaustive(problem, objective=objective)
    best = plain_best(problem, objective)
    assert (found.status == "infeasible") == (best is None)
    if best is not None:
        assert found.value == pytest.approx(best, abs=1e-12)
        assert found.value == pytest.approx(plain_value(problem, objective, found.subset), abs=1e-12)
        assert found.fused_value == pytest.approx(plain_value(problem, "fused", found.subset), abs=1e-12)
        assert all(cost <= budget * (1 + 1e-9) for cost, budget in plain_costs(problem, found.subset))
    verify(found.certificate)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(instances())
def test_exact_methods_agree_with_exhaustive_search(problem):
    """Coverage: polyblock, branch and bound and HiGHS reach the best of all subsets, with accepted proofs."""
    truth = best_of_all(problem, "coverage")
    found = [m(problem, objective="coverage") for m in (polyblock, branch_and_bound)]
    found.append(milp(problem))
    for selection in found:
        verify(selection.certificate)
        assert selection.status == ("optimal" if truth > -np.inf else "infeasible")
        assert selection.value == pytest.approx(truth, abs=1e-8)
    lower = greedy(problem)
    verify(lower.certificate)
    assert lower.status == found[0].status or lower.status == "gap"
    assert lower.value <= truth + 1e-9
    assert truth <= lower.upper_bound + 1e-8


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(instances())
def test_the_fused_objective_is_maximised_exactly(problem):
    """F_bar: all exact methods reach the best of all subsets although a larger subset may fuse worse."""
    assume(len(problem.experts) <= 9)
    truth = best_of_all(problem, "fused")
    for method in (exhaustive, polyblock, branch_and_bound):
        selection = method(problem)
        verify(selection.certificate)
        assert selection.value == pytest.approx(truth, abs=1e-8)


@settings(deadline=None, max_examples=50)
@given(instances(), st.sampled_from(["fused", "coverage"]))
def test_expected_costs_are_kept_by_the_best_subset_that_keeps_them(problem, objective):
    """What the gate does choose costs less than what it could: the best of all subsets under those costs is found."""
    assume(len(problem.experts) <= 8)
    expected = replace(problem, costs="expected")
    found, worst = exhaustive(expected, objective=objective), exhaustive(problem, objective=objective)
    verify(found.certificate)
    assert found.value == pytest.approx(best_of_all(expected, objective), abs=1e-8)
    assert found.value >= worst.value - 1e-9
    assert ("worst case" in found.reason) is False


@settings(deadline=None, max_examples=50)
@given(instances(), st.permutations(range(12)))
def test_permuting_experts_permutes_the_result(problem, order):
    """The order of the experts changes neither the best value nor what the chosen experts are worth."""
    order = [i for i in order if i < len(problem.experts)]
    columns = {name: getattr(problem, name)[:, order] for name in ("logits", "likelihood", "delay_s", "energy_j")}
    there = replace(problem, **columns, idle_j_per_request=problem.idle_j_per_request[order])
    here, other = (select(p, method="branch_and_bound", objective="coverage") for p in (problem, there))
    assert here.status == other.status
    assert here.value == pytest.approx(other.value, abs=1e-8)
    if other.subset:
        named = [order[i] for i in other.subset]
        assert plain_value(problem, "coverage", named) == pytest.approx(here.value, abs=1e-8)
        assert all(cost <= budget * (1 + 1e-9) for cost, budget in plain_costs(problem, named))


@settings(deadline=None, max_examples=50)
@given(instances())
def test_a_duplicated_expert_changes_no_value_and_a_new_one_never_lowers_coverage(problem):
    """A twin brings nothing to coverage; F_max never falls when an expert is added."""
    extra = {
        name: np.hstack([getattr(problem, name), getattr(problem, name)[:, :1]])
        for name in ("logits", "likelihood", "delay_s", "energy_j")
    }
    idle = np.append(problem.idle_j_per_request, problem.idle_j_per_request[0])
    twin = replace(problem, experts=(*problem.experts, "twin"), idle_j_per_request=idle, **extra)
    here, there = (branch_and_bound(p, objective="coverage") for p in (problem, twin))
    assert here.value == pytest.approx(there.value, abs=1e-8)
    stranger = replace(twin, likelihood=np.roll(twin.likelihood, 1, axis=0))
    stranger.likelihood[:, :-1] = problem.likelihood
    assert branch_and_bound(stranger, objective="coverage").value >= here.value - 1e-8


@settings(deadline=None, max_examples=50)
@given(instances(), st.sampled_from([0.25, 4.0]))
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
    for method in (polyblock, branch_and_bound):
        here, there = method(problem, objective="coverage"), method(scaled, objective="coverage")
        assert (here.subset, here.status) == (there.subset, there.status)


def test_the_time_limit_is_kept_with_a_subset_and_a_proven_bound():
    """At once: something that fits, a bound that is accepted, and the truth between them; by every method."""
    problem = tight_problem(N=12)
    exact = ["exhaustive", "polyblock", "branch_and_bound"]
    methods = [(m, "fused") for m in exact] + [(m, "coverage") for m in (*exact, "milp", "greedy")]
    truths = {objective: best_of_all(problem, objective) for objective in ("fused", "coverage")}
    for method, objective in methods:
        truth = truths[objective]
        found = select(problem, method=method, objective=objective, time_limit_s=1e-6)
        assert found.subset
        assert found.n_evaluated < 100
        verify(found.certificate)
        assert found.value <= truth + 1e-9
        assert truth <= found.upper_bound + 1e-8


def test_several_experts_may_hold_expected_budgets_where_none_does_alone():
    """Each expert is slow on half of the prompts, which the gate sends to the other; stopped before, none is claimed.

    With time for it the pair is found; without, the bound is what all experts could cover, not "nothing fits".
    """
    home = np.arange(12) % 2 == 0
    problem = make_problem(
        N=2,
        C=1,
        k=1,
        costs="expected",
        logits=np.where(home[:, None] == [True, False], 1.0, 0.0),
        delay_s=np.where(home[:, None] == [True, False], 1.0, 9.0),
        delay_budget_s=np.array([2.0]),
    )
    found, stopped = exhaustive(problem), exhaustive(problem, time_limit_s=1e-9)
    assert (found.status, found.subset) == ("optimal", (0, 1))
    assert (stopped.status, stopped.subset, stopped.value) == ("gap", (), -np.inf)
    assert stopped.upper_bound >= found.value
    assert "found in time" in stopped.reason
    for selection in (found, stopped):
        verify(selection.certificate)
    with pytest.raises(ValueError, match="fits and exceeds the bound"):
        verify(replace(stopped.certificate, upper_bound=-np.inf))
    tight = exhaustive(replace(problem, delay_budget_s=np.array([0.5])))
    assert tight.status == "infeasible"
    assert "by what the gate would choose; tightest budget" in tight.reason
    verify(tight.certificate)


@pytest.mark.parametrize("objective", ["fused", "coverage"])
def test_the_same_problem_gives_the_same_selection(objective):
    """Subset, value, bound and proof repeat: no solver draws anything, or looks at a clock that has no limit."""
    problem = tight_problem(N=9)
    methods = ["exhaustive", "polyblock", "branch_and_bound"] + ["milp", "greedy"] * (objective == "coverage")
    for method in methods:
        first, again = (select(replace(problem), method=method, objective=objective) for _ in range(2))
        for name in ("subset", "value", "upper_bound", "n_evaluated"):
            assert getattr(first, name) == getattr(again, name), (method, name)
        assert repr(first.certificate.proof) == repr(again.certificate.proof)


def test_auto_takes_what_fits_the_problem():
    """Few experts: all subsets; more: branch and bound; coverage of very many: greedy, with its gap stated."""
    assert select(make_problem()).method == "exhaustive"
    assert select(tight_problem(N=12)).method == "branch_and_bound"
    many = select(tight_problem(N=140), objective="coverage")
    assert many.method == "greedy"
    assert many.gap == pytest.approx(many.upper_bound - many.value)
    verify(many.certificate)
    with pytest.raises(ValueError, match="greedy maximises coverage only"):
        select(make_problem(), method="greedy")
    with pytest.raises(ValueError, match="method 'best'"):
        select(make_problem(), method="best")
    with pytest.raises(ValueError, match="not monotone"):
        branch_and_bound(make_problem(costs="expected"))
    with pytest.raises(ValueError, match="time limit is 0"):
        select(make_problem(), time_limit_s=0)


def test_ties_go_to_the_fewest_experts_then_the_lowest_index():
    """Experts that answer alike are worth nothing together: the first of them alone is chosen."""
    same = make_problem(N=3, likelihood=np.full((12, 3), 0.5))
    assert exhaustive(same).subset == (0,)
    assert exhaustive(
        replace(same, delay_s=same.delay_s + np.array([99, 0, 0]), delay_budget_s=np.full(2, 50.0))
    ).subset == (1,)


def test_every_subset_of_eight_experts_is_tried():
    """On 1,700 prompts in 14 categories: each of 255 subsets is valued once, and none listed beats the choice."""
    problem = make_problem(n=1700, N=8, C=14, k=3, energy_budget_j=60.0, delay_budget_s=np.full(14, 19.0))
    found = exhaustive(problem)
    assert found.n_evaluated == 2**8 - 1
    assert max(other.value for other in found.alternatives) <= found.value
    verify(found.certificate)
