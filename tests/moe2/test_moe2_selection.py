"""Laws of subset selection: every method finds what plain loops find, and proves it."""

from dataclasses import replace
from functools import cache
from itertools import combinations
from math import exp, fsum, log

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from moe2.certificate import verify
from moe2.selection import Candidate, Problem, branch_and_bound, exhaustive, greedy, milp, polyblock, select
from moe2.selection.result import Cover, Leaf, Node, Tree


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


@st.composite
def instances(draw):
    """Return problems of up to 12 experts, budgets tight and loose, values tied and not."""
    N = draw(st.integers(2, 12))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    n, C = 12, 2
    tied = draw(st.booleans())
    likelihood = random.choice([0.1, 0.25, 0.7], (n, N)) if tied else random.uniform(0.05, 0.9, (n, N))
    delay_s = random.integers(1, 9, (n, N)).astype(float) if tied else random.lognormal(1, 0.7, (n, N))
    energy_j = random.integers(1, 9, (n, N)).astype(float) if tied else random.lognormal(1, 0.7, (n, N))
    idle = random.integers(0, 4, N).astype(float)
    k = draw(st.integers(1, 3))
    full_s = np.array([delay_s[np.arange(n) % C == c].max(axis=1).mean() for c in range(C)])
    full_j = np.sort(energy_j, axis=1)[:, -k:].sum(axis=1).mean() + idle.sum()
    tightness = draw(st.sampled_from([0.25, 0.45, 0.7, 1.0]))
    return make_problem(
        n=n, N=N, C=C, k=k,
        logits=random.normal(0, 1, (n, N)),
        likelihood=likelihood,
        delay_s=delay_s,
        energy_j=energy_j,
        idle_j_per_request=idle,
        delay_budget_s=full_s * draw(st.sampled_from([0.5, 0.7, np.inf])),
        energy_budget_j=draw(st.sampled_from([None, full_j * tightness])),
    )  # fmt: skip


def plain_value(problem, objective, subset):
    logs = []
    for logits, likelihood in zip(problem.logits.tolist(), problem.likelihood.tolist(), strict=True):
        ranked = sorted(subset, key=lambda expert: (-logits[expert], expert))[: problem.k]
        weights = [exp(logits[expert] - logits[ranked[0]]) for expert in ranked]
        mixture = fsum(w * likelihood[e] for w, e in zip(weights, ranked, strict=True)) / fsum(weights)
        logs.append(log(max(likelihood[e] for e in subset) if objective == "coverage" else mixture))
    return fsum(logs) / len(logs)


def plain_costs(problem, subset):
    """Return (cost, budget) pairs, by the definition of the worst case, or of what the gate chooses."""
    legs = []
    for logits, delay, joules in zip(problem.logits, problem.delay_s, problem.energy_j, strict=True):
        asked = sorted(subset, key=lambda expert: (-logits[expert], expert))[: problem.k]
        if problem.costs == "expected":
            legs.append((max(delay[e] for e in asked), fsum(joules[e] for e in asked)))
        else:
            costly = sorted((joules[e] for e in subset), reverse=True)[: problem.k]
            legs.append((max(delay[e] for e in subset), fsum(costly)))
    pairs = []
    for c, budget_s in enumerate(problem.delay_budget_s):
        slow = [legs[i][0] for i in range(len(legs)) if problem.category[i] == c]
        if slow:
            pairs.append((fsum(slow) / len(slow), budget_s))
    if problem.energy_budget_j is not None:
        idle = fsum(problem.idle_j_per_request[e] for e in subset)
        pairs.append((fsum(leg[1] for leg in legs) / len(legs) + idle, problem.energy_budget_j))
    return pairs


def plain_best(problem, objective):
    """Return the best value among all feasible subsets by plain loops, None when none fits."""
    subsets = [
        s for size in range(1, len(problem.experts) + 1) for s in combinations(range(len(problem.experts)), size)
    ]
    values = [
        plain_value(problem, objective, s)
        for s in subsets
        if all(cost <= budget * (1 + 1e-12) for cost, budget in plain_costs(problem, s))
    ]
    return max(values, default=None)


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
    """Coverage: polyblock, branch and bound and HiGHS reach the exhaustive value, with accepted proofs."""
    oracle = exhaustive(problem, objective="coverage") if len(problem.experts) <= 9 else None
    found = [m(problem, objective="coverage") for m in (polyblock, branch_and_bound)]
    found.append(milp(problem))
    for selection in found:
        verify(selection.certificate)
        assert selection.status in {"optimal", "infeasible"}
        assert selection.value == pytest.approx((oracle or found[0]).value, abs=1e-8)
    lower = greedy(problem)
    verify(lower.certificate)
    assert lower.status == found[0].status or lower.status == "gap"
    assert lower.value <= found[0].value + 1e-9 <= lower.upper_bound + 1e-8 or found[0].status == "infeasible"


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(instances())
def test_the_fused_objective_is_maximised_exactly(problem):
    """F_bar: polyblock and branch and bound reach the exhaustive value although a larger subset may fuse worse."""
    assume(len(problem.experts) <= 8)
    oracle = exhaustive(problem)
    for method in (polyblock, branch_and_bound):
        selection = method(problem)
        verify(selection.certificate)
        assert selection.value == pytest.approx(oracle.value, abs=1e-8)


@settings(deadline=None, max_examples=50)
@given(instances(), st.permutations(range(12)))
def test_permuting_experts_permutes_the_result(problem, order):
    """The order of the experts changes neither the best value nor the bound."""
    order = [i for i in order if i < len(problem.experts)]
    columns = {name: getattr(problem, name)[:, order] for name in ("logits", "likelihood", "delay_s", "energy_j")}
    there = replace(problem, **columns, idle_j_per_request=problem.idle_j_per_request[order])
    here, other = (select(p, method="branch_and_bound", objective="coverage") for p in (problem, there))
    assert here.status == other.status
    assert here.value == pytest.approx(other.value, abs=1e-8)


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


def tight_problem(seed=3, N=10):
    random = np.random.default_rng(seed)
    changes = {
        "likelihood": random.uniform(0.05, 0.9, (24, N)),
        "delay_s": random.lognormal(1, 0.6, (24, N)),
        "energy_j": random.lognormal(1, 0.6, (24, N)),
        "delay_budget_s": np.array([4.5, 5.0]),
        "energy_budget_j": 25.0,
    }
    return make_problem(seed, n=24, N=N, C=2, k=2, **changes)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["branch_and_bound", "polyblock", "exhaustive", "greedy"]), st.data())
def test_no_false_claim_is_accepted(method, data):
    """A certificate changed at random is refused, or what it still claims is true."""
    honest = honest_certificate(method)
    problem, truth = honest.problem, honest_certificate("exhaustive")
    changed = mutated(honest, data)
    try:
        verify(changed)
    except ValueError:
        return
    assert changed.subset
    assert changed.value == pytest.approx(plain_value(problem, "coverage", changed.subset), abs=1e-8)
    assert all(cost <= budget * (1 + 1e-8) for cost, budget in plain_costs(problem, changed.subset))
    assert changed.upper_bound >= truth.value - 1e-8


@cache
def honest_certificate(method):
    return select(tight_problem(N=8), method=method, objective="coverage").certificate


def mutated(certificate, data):
    """Return the certificate with one thing changed: a number, the subset, a node, a cut or a multiplier."""
    kinds = ["value", "bound", "subset", "both"]
    proof = certificate.proof
    kinds += ["node", "cut", "price", "dropped"] if isinstance(proof, Tree) else []
    kinds += ["split"] if isinstance(proof, Cover) and proof.splits else []
    kind = data.draw(st.sampled_from(kinds))
    change = data.draw(st.sampled_from([-0.3, -1e-3, 1e-3, 0.3]))
    if kind in {"value", "both"}:
        certificate = replace(certificate, value=certificate.value + change)
    if kind in {"bound", "both"}:
        certificate = replace(certificate, upper_bound=certificate.upper_bound + change)
    if kind == "subset":
        subset = tuple(sorted(data.draw(st.sets(st.integers(0, 9), max_size=5))))
        value = plain_value(certificate.problem, "coverage", subset) if subset and max(subset) < 8 else 0.0
        return replace(certificate, subset=subset, value=value, upper_bound=value)
    lower = replace(certificate, upper_bound=certificate.upper_bound - data.draw(st.sampled_from([0.0, 0.05])))
    if kind == "split":
        vertex = data.draw(st.sampled_from(sorted(proof.splits, key=sorted)))
        core = frozenset(data.draw(st.sets(st.sampled_from(sorted(vertex)))))
        return replace(lower, proof=Cover(splits={**proof.splits, vertex: core}))
    if kind in {"node", "price", "dropped"}:
        nodes = list(proof.nodes)
        place = data.draw(st.integers(0, len(nodes) - 1))
        nodes[place] = other_node(nodes[place], kind, data)
        return replace(lower, proof=replace(proof, nodes=tuple(nodes)))
    if kind == "cut":
        cuts = list(proof.cuts)
        place, other = (data.draw(st.integers(0, len(cuts) - 1)) for _ in range(2))
        cuts[place] = cuts[other]
        return replace(lower, proof=replace(proof, cuts=tuple(cuts)))
    return certificate


def other_node(node, kind, data):
    if kind == "node" or (isinstance(node, Leaf) and node.why != "dual"):
        return Leaf(why=data.draw(st.sampled_from(["infeasible", "single", "coverage"])))
    if isinstance(node, Node):
        return replace(node, dropped=tuple(data.draw(st.sets(st.integers(0, 7), max_size=3))))
    factor = data.draw(st.sampled_from([-1.0, 0.0, 0.5, 2.0]))
    return replace(node, multipliers=tuple(m * factor for m in node.multipliers))


def test_the_time_limit_is_kept_with_a_subset_and_a_proven_bound():
    """At once: something that fits, a bound that is accepted, and the truth between them."""
    problem = tight_problem(N=14)
    truth = polyblock(problem, objective="coverage").value
    for method in ("polyblock", "branch_and_bound", "milp", "greedy"):
        found = select(problem, method=method, objective="coverage", time_limit_s=1e-6)
        assert found.seconds < 2.0
        verify(found.certificate)
        if found.subset:
            assert found.value <= truth + 1e-9 <= found.upper_bound + 1e-8
        assert found.subset


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


def test_every_subset_of_eight_experts_is_tried():
    """On 1,700 prompts in 14 categories: each of 255 subsets is valued once, and none listed beats the choice."""
    problem = make_problem(n=1700, N=8, C=14, k=3, energy_budget_j=60.0, delay_budget_s=np.full(14, 19.0))
    found = exhaustive(problem)
    assert found.n_evaluated == 2**8 - 1
    assert max(other.value for other in found.alternatives) <= found.value
    verify(found.certificate)


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
        ({"costs": "mean"}, "costs are 'mean'"),
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
    found = exhaustive(problem)
    good, worse = found.certificate, min(found.alternatives, key=lambda c: c.value)
    verify(good)
    for wrong, message in (
        (replace(good, value=good.value + 0.1), "is worth"),
        (replace(good, upper_bound=good.value - 1), "below the value"),
        (replace(good, subset=worse.subset, value=worse.value, upper_bound=worse.value), "fits and exceeds"),
        (replace(good, subset=(7,)), "not allowed"),
        (replace(good, subset=(), value=-np.inf, upper_bound=-np.inf), "an expert fits alone"),
        (replace(good, problem=replace(problem, energy_budget_j=0.001)), "breaks a budget"),
    ):
        with pytest.raises(ValueError, match=message):
            verify(wrong)


@pytest.mark.parametrize("marked", [False, True])
def test_a_proof_of_many_experts_is_accepted_and_agrees_with_the_program(marked):
    """Twenty experts: branch and bound and HiGHS's program find one value, each with a proof that is accepted."""
    random = np.random.default_rng(7)
    n, N = 96, 20
    skill = random.normal(0, 0.6, N) + random.normal(0, 1, (n, 1)) + random.normal(0, 1, (n, N))
    right = 1 / (1 + np.exp(-skill))
    delay_s = np.exp(random.normal(1.5, 0.5, N) + random.normal(0, 0.4, (n, N)))
    energy_j = np.exp(random.normal(4, 0.6, N) + random.normal(0, 0.4, (n, N)))
    problem = make_problem(
        n=n, N=N, C=2, k=3,
        logits=skill,
        likelihood=np.where(random.random((n, N)) < right, 0.55, 0.05) if marked else right,
        delay_s=delay_s,
        energy_j=energy_j,
        delay_budget_s=np.full(2, 0.5 * delay_s.max(axis=1).mean()),
        energy_budget_j=float(0.4 * np.sort(energy_j, axis=1)[:, -3:].sum(axis=1).mean()),
        idle_j_per_request=random.uniform(1, 5, N),
    )  # fmt: skip
    tree, program = branch_and_bound(problem, objective="coverage"), milp(problem)
    for found in (tree, program):
        assert found.status == "optimal"
        verify(found.certificate)
    assert tree.value == pytest.approx(program.value, abs=1e-9)
    assert tree.value >= greedy(problem).value - 1e-12
    assert any(isinstance(node, Node) and node.expert >= 0 for node in tree.certificate.proof.nodes)  # it branched
