"""Laws of certificates: every solver's is accepted, and no false one."""

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_problems import best_of_all, instances, make_problem, plain_costs, plain_value, tight_problem

from moe2.certificate import verify
from moe2.selection import branch_and_bound, exhaustive, greedy, milp, select
from moe2.selection.result import Certificate, Cover, Cut, Leaf, Node, Tree

EXACT = ("exhaustive", "polyblock", "branch_and_bound")
SOLVED = [(method, objective) for method in EXACT for objective in ("fused", "coverage")]
SOLVED += [("milp", "coverage"), ("greedy", "coverage")]
CASES = ("in full", "stopped", "nothing fits")


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SOLVED), st.sampled_from(CASES), st.data())
def test_no_false_claim_is_accepted(solved, case, data):
    """A certificate of any solver and objective changed at random is refused, or what it still claims is true."""
    honest = honest_certificate(*solved, case)
    changed = mutated(honest, data)
    try:
        verify(changed)
    except ValueError:
        return
    is_true(changed)


def is_true(certificate):
    """Assert by definition that the subset fits and has its value, and that the bound is none too low."""
    problem, objective, subset = certificate.problem, certificate.objective, certificate.subset
    assert certificate.upper_bound >= best_of_all(problem, objective) - 1e-8
    if not subset:
        assert certificate.value == -np.inf
        return
    assert certificate.value == pytest.approx(plain_value(problem, objective, subset), abs=1e-8)
    assert all(cost <= budget * (1 + 1e-8) for cost, budget in plain_costs(problem, subset))


@pytest.mark.parametrize("solved", SOLVED, ids=" ".join)
@pytest.mark.parametrize("case", CASES)
def test_what_a_solver_claims_is_accepted_and_true(solved, case):
    """Proved in full, stopped at once, or with nothing that fits."""
    honest = honest_certificate(*solved, case)
    verify(honest)
    is_true(honest)
    assert (honest.upper_bound == -np.inf) == (case == "nothing fits")


@cache
def honest_certificate(method, objective, case):
    problem = tight_problem(N=8)
    if case == "nothing fits":
        problem = replace(problem, delay_budget_s=np.array([4.5, 0.2]))
    seconds = 1e-9 if case == "stopped" else np.inf
    return select(problem, method=method, objective=objective, time_limit_s=seconds).certificate


def mutated(certificate, data):
    """Return the certificate with one thing changed: a number, the subset, a node, a cut, a multiplier, the costs."""
    if data.draw(st.booleans()):
        return other_claim(certificate, data)
    lower = replace(certificate, upper_bound=certificate.upper_bound - data.draw(st.sampled_from([0.0, 0.05])))
    return other_proof(lower, data)


def other_claim(certificate, data):
    kind = data.draw(st.sampled_from(["value", "bound", "both", "subset", "empty"]))
    change = data.draw(st.sampled_from([-0.3, -1e-3, 1e-3, 0.3]))
    value, bound = certificate.value, certificate.upper_bound
    if kind in {"value", "bound", "both"}:
        value, bound = value + change * (kind != "bound"), bound + change * (kind != "value")
        return replace(certificate, value=value, upper_bound=bound)
    if kind == "empty":
        return replace(certificate, subset=(), value=-np.inf, upper_bound=data.draw(st.sampled_from([-np.inf, np.nan])))
    subset = tuple(sorted(data.draw(st.sets(st.integers(0, 9), max_size=5))))
    known = subset and max(subset) < 8
    value = plain_value(certificate.problem, certificate.objective, subset) if known else 0.0
    return replace(certificate, subset=subset, value=value, upper_bound=value)


def other_proof(certificate, data):
    proof = certificate.proof
    kinds = ["lent"] + ["node", "price", "dropped"] * isinstance(proof, Tree)
    kinds += ["cut"] * bool(isinstance(proof, Tree) and proof.cuts)
    kinds += ["split"] * bool(isinstance(proof, Cover) and proof.splits)
    kind = data.draw(st.sampled_from(kinds))
    if kind == "lent":
        lent = honest_certificate(*data.draw(st.sampled_from(SOLVED)), data.draw(st.sampled_from(CASES)))
        costs = data.draw(st.sampled_from(["worst", "expected"]))
        return replace(certificate, proof=lent.proof, problem=replace(certificate.problem, costs=costs))
    if kind == "split":
        vertex = data.draw(st.sampled_from(sorted(proof.splits, key=sorted)))
        core = frozenset(data.draw(st.sets(st.sampled_from(sorted(vertex)))))
        return replace(certificate, proof=Cover(splits={**proof.splits, vertex: core}))
    if kind == "cut":
        cuts = list(proof.cuts)
        place, other = (data.draw(st.integers(0, len(cuts) - 1)) for _ in range(2))
        cuts[place] = cuts[other]
        return replace(certificate, proof=replace(proof, cuts=tuple(cuts)))
    nodes = list(proof.nodes)
    place = data.draw(st.integers(0, len(nodes) - 1))
    nodes[place] = other_node(nodes[place], kind, data)
    return replace(certificate, proof=replace(proof, nodes=tuple(nodes)))


def other_node(node, kind, data):
    if kind == "node" or (isinstance(node, Leaf) and node.why != "dual"):
        return Leaf(why=data.draw(st.sampled_from(["infeasible", "single", "coverage"])))
    if isinstance(node, Node):
        return replace(node, dropped=tuple(data.draw(st.sets(st.integers(0, 7), max_size=3))))
    factor = data.draw(st.sampled_from([-1.0, 0.0, 0.5, 2.0]))
    return replace(node, multipliers=tuple(m * factor for m in node.multipliers))


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


@pytest.mark.parametrize("solved", [s for s in SOLVED if s[0] != "exhaustive"], ids=" ".join)
def test_only_an_enumeration_proves_anything_of_expected_costs(solved):
    """A part that does not fit says nothing of the whole when costs do not grow with it: such proofs are refused."""
    honest = honest_certificate(*solved, "in full")
    forged = replace(honest, problem=replace(honest.problem, costs="expected", delay_budget_s=np.full(2, np.inf)))
    with pytest.raises(ValueError, match="only an enumeration"):
        verify(replace(forged, problem=replace(forged.problem, energy_budget_j=None)))


def loose_claim(proof):
    """Return the claim that nothing is worth more than all experts but the first, where all four fit and are."""
    problem = replace(tight_problem(N=4), delay_budget_s=np.full(2, 99.0), energy_budget_j=999.0)
    honest = branch_and_bound(problem, objective="coverage")
    less = plain_value(problem, "coverage", (1, 2, 3))
    assert less < honest.value - 0.01
    return replace(honest.certificate, subset=(1, 2, 3), value=less, upper_bound=less, proof=proof)


def test_a_negative_multiplier_proves_nothing():
    """Turned around, a budget that all experts hold together would bound their value by as little as one likes."""

    def proof(multiplier):
        cut = Cut(kind="energy", index=0, order=np.arange(4))
        leaf = Leaf(why="dual", cuts=(0,), multipliers=(multiplier,))
        return Tree(groups=np.zeros(24, dtype=int), cuts=(cut,), nodes=(leaf,))

    for multiplier in (-1e3, np.nan, np.inf):
        with pytest.raises(ValueError, match="wrong multipliers"):
            verify(loose_claim(proof(multiplier)))


def test_a_part_that_fits_splits_no_vertex():
    """What fits may be kept whole: the vertices without one expert of it do not cover it."""
    everyone = frozenset(range(4))
    with pytest.raises(ValueError, match=r"the part \[0\] fits, so it cannot split"):
        verify(loose_claim(Cover(splits={everyone: frozenset({0})})))


@pytest.mark.parametrize("over", [0.0, 1e-9])
def test_a_budget_that_is_met_exactly_is_met(over):
    """An expert that needs just what is allowed fits, "nothing fits" is refused; with a little less it is true."""
    delay_s = np.tile([3.0, 5.0], (12, 1))
    problem = make_problem(N=2, C=1, delay_s=delay_s, delay_budget_s=np.array([3.0 * (1 - over)]))
    found = exhaustive(problem)
    verify(found.certificate)
    assert found.subset == (() if over else (0,))
    claim = replace(found.certificate, subset=(), value=-np.inf, upper_bound=-np.inf)
    kept = Node(dropped=(0, 1), expert=-1, without=1, including=-1)
    tree = Tree(groups=np.zeros(12, dtype=int), cuts=(), nodes=(kept, Leaf(why="coverage")))
    bounded = replace(found.certificate, subset=(), value=-np.inf, upper_bound=-9.0, proof=tree)
    for claimed in (claim, bounded):
        if over:
            verify(claimed)
        else:
            with pytest.raises(ValueError, match=r"an expert fits alone|expert 0 still fits"):
                verify(claimed)


@settings(deadline=None, max_examples=40)
@given(instances(), st.integers(0, 7))
def test_a_cut_of_a_budget_that_is_not_there_is_refused(problem, index):
    """Wherever it points: a certificate made of anything is refused in words, never by a failing look-up."""
    cut = Cut(kind="delay", index=index, order=np.array([0]))
    tree = Tree(groups=np.zeros(12, dtype=int), cuts=(cut,), nodes=(Leaf(why="dual", cuts=(0,), multipliers=(1.0,)),))
    claim = Certificate(
        problem=replace(problem, delay_budget_s=np.full(2, np.inf)),
        objective="coverage",
        subset=(),
        value=-np.inf,
        upper_bound=-99.0,
        proof=tree,
    )
    with pytest.raises(ValueError, match="has no delay budget"):
        verify(claim)


def test_the_check_shares_no_code_with_the_solvers():
    """Of moe2 it imports the records of problems and results, and neither they nor it import anything else of it."""
    from moe2 import certificate
    from moe2.selection import problem, result

    allowed = {"moe2.selection.problem", "moe2.selection.result"}
    for module in (certificate, problem, result):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        whole = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {name for name in froms | whole if name.startswith("moe2")} <= allowed, module


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
