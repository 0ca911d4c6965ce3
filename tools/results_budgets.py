"""Every method at its best within the same budget, on test and out of fold: parts of the pages of results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers
from moe2.crossfit import folded
from moe2.curves import Costs, budget_curves, methods_of, right
from moe2.evaluation import compare
from moe2.gate import Gate, bundled_gate
from moe2.router import PooledAnswers
from moe2.training import train_gate
from scenarios.files.loading import load
from scenarios.method.curves import worst_costs
from scenarios.runs.replicating import assemble
from tools.pages import markdown_table, ratio

Kind = Literal["energy_j", "delay_s"]
Point = tuple[Kind, float, str]  # kind of budget, budget, method
BUDGETS: Mapping[Kind, Sequence[float]] = {
    "energy_j": (1000.0, 1500.0, 2500.0, 4000.0),
    "delay_s": (5.0, 10.0, 20.0),  # 2 s admits one expert alone: all methods are it
}
UNITS: Mapping[Kind, str] = {"energy_j": "J", "delay_s": "s"}
MOST = 5  # experts asked per prompt; a vote asks all
RIVALS = (
    "gate",
    "single expert",
    "best of its category",
    "nearest neighbours",
    "majority vote of all",
    "confidence-weighted vote",
)
N_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a method came to within a budget."""

    correct: NDArray[np.bool_]  # (n,) on the test prompts
    k: int  # experts asked per prompt
    kept: int  # experts


def on_test(answers: Answers) -> Iterable[str]:
    """Return the gate beside every baseline on the testbed's experts, each at its best within a budget."""
    yield "### At equal energy, and at equal delay"
    yield (
        f"Experts and costs of the scenario `testbed`; a method may ask any k experts (at most {MOST}; a vote asks "
        "all) of any subset whose worst case fits, and takes what served it best on validation. Energy: joules per "
        "request, idle power included; delay: mean of the slowest category. Test accuracy, and the gate's paired lead "
        "in points and as a ratio less 1, with 95 % intervals."
    )
    outcomes = _outcomes(answers, bundled_gate(), *_experts(), BUDGETS)
    clusters = answers.text_key[answers.rows("test")]
    rows: list[list[str]] = []
    behind: dict[str, list[str]] = {}
    level: dict[str, list[str]] = {}
    for (kind, budget, name), outcome in outcomes.items():
        where = f"{budget:g} {UNITS[kind]}"
        shown = [where, name, f"{100 * outcome.correct.mean():.1f} %"]
        asked = [str(outcome.k), str(outcome.kept)]
        if name == "gate":
            rows.append([*shown, "", "", *asked])
            continue
        lead = _lead(outcomes[kind, budget, "gate"].correct, outcome.correct, clusters)
        rows.append([*shown, *_words(lead), *asked])
        if lead["diff_low"] <= 0:
            (behind if lead["diff_vs_best_single"] < 0 else level).setdefault(where, []).append(name)
    yield markdown_table(["budget", "method", "accuracy", "gate's lead", "ratio − 1", "k", "experts kept"], rows)
    yield (
        f"Where the gate does not win: it is behind, {_listed(behind)}. Its lead may be chance, the interval reaching "
        f"0, {_listed(level)}."
    )


def out_of_fold(answers: Answers) -> Iterable[str]:
    """Return the same at equal energy with five splits of all prompts: choices on one fold, answers on the next."""
    yield (
        f"All {len(answers):,} prompts in {N_FOLDS} folds: a gate and its rivals learned from the others, experts and "
        "k chosen on one of these. Budgets, experts and costs are those of the table on the main page."
    )
    correct, ks = _out_of_fold(answers, {"energy_j": BUDGETS["energy_j"]})
    rows = []
    for (kind, budget, name), hits in correct.items():
        ahead = ["", ""] if name == "gate" else _words(_lead(correct[kind, budget, "gate"], hits, answers.text_key))
        asked = ", ".join(str(k) for k in ks[kind, budget, name])
        rows.append([f"{budget:g} {UNITS[kind]}", name, f"{100 * hits.mean():.1f} %", *ahead, asked])
    yield markdown_table(["budget", "method", "accuracy", "gate's lead", "ratio − 1", "k in each fold"], rows)


def _out_of_fold(
    answers: Answers, budgets: Mapping[Kind, Sequence[float]]
) -> tuple[dict[Point, NDArray[np.bool_]], dict[Point, list[int]]]:
    """Return whether each prompt is answered rightly by a method that never saw it, and each fold's k."""
    experts = _experts()
    correct: dict[Point, NDArray[np.bool_]] = {}
    ks: dict[Point, list[int]] = {}
    for fold in range(N_FOLDS):
        cut = folded(answers, fold, N_FOLDS)
        outcomes = _outcomes(cut, train_gate(cut), *experts, budgets, RIVALS)
        for point, outcome in outcomes.items():
            correct.setdefault(point, np.zeros(len(answers), dtype=np.bool_))[cut.rows("test")] = outcome.correct
            ks.setdefault(point, []).append(outcome.k)
    return correct, ks


def _outcomes(  # noqa: PLR0917 - what is asked of whom, within what
    answers: Answers,
    gate: Gate,
    models: Sequence[str],
    costs: Costs,
    budgets: Mapping[Kind, Sequence[float]],
    names: Sequence[str] = (),
) -> dict[Point, Outcome]:
    """Return what each method comes to on test within each budget that some of its experts fit."""
    methods = {m.name: m for m in methods_of(answers, gate, models, most=MOST) if m.name in names or not names}
    curves = budget_curves(answers, list(methods.values()), models, costs, grids=budgets)
    pooled, test = PooledAnswers.of(answers, models), answers.rows("test")
    found = {(at["kind"], at["budget"], at["method"]): at for at in curves[curves["k"] > 0].to_dict("records")}
    order = [(kind, budget, name) for kind in budgets for budget in budgets[kind] for name in names or methods]
    return {
        point: Outcome(
            correct=right(methods[point[2]], pooled, at["experts"], at["k"], test), k=at["k"], kept=len(at["experts"])
        )
        for point in order
        if (at := found.get(point))
    }


def _experts() -> tuple[list[str], Costs]:
    """Return the models of the testbed's experts and what they cost."""
    assembly = assemble(load("testbed", []))
    return [e.profile.model for e in assembly.all_experts], worst_costs(assembly.routing.problem)


def _lead(gate: NDArray[np.bool_], rival: NDArray[np.bool_], clusters: NDArray[np.int64]) -> Mapping[str, float]:
    """Return the gate's paired lead over one rival, as `compare` gives it."""
    table = compare({"gate": gate, "rival": rival}, clusters, best="rival").set_index("method")
    return dict(table.loc["gate"])


def _listed(found: Mapping[str, Sequence[str]]) -> str:
    rows = sum(len(names) for names in found.values())
    where = "; ".join(f"at {budget} of {', '.join(names)}" for budget, names in found.items())
    return f"in {rows} rows: {where}" if rows else "in no row"


def _words(lead: Mapping[str, float]) -> list[str]:
    low, high = 100 * lead["diff_low"], 100 * lead["diff_high"]
    points = f"{100 * lead['diff_vs_best_single']:+.1f} ({low:+.1f} to {high:+.1f})"
    return [points, ratio(lead, "best_single")]
