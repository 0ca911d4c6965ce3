"""The method's part of docs/results.md. Alone: python -m tools.results_method prints it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from moe2.answers import Answers, bundled_answers
from moe2.baselines import MAJORITY, PLAIN_MAJORITY
from moe2.crossfit import BEST_SINGLE, crossfit
from moe2.gate import Gate
from moe2.regret import subset_regret
from moe2.router import GateRouter
from moe2.training import Recipe, train_gate
from tools import results_budgets
from tools.pages import markdown_table, ratio

LOSSES = {
    "score": "each expert scored by itself (the default)",
    "subset": "mixture cross-entropy over random subsets",
    "mixture": "mixture cross-entropy over all experts",
}
SMALL = Recipe(heads=2, hidden=32, epochs=8)  # of the many gates that regret needs; both sides alike
SAMPLED = 12  # subsets of the whole pool


def sections() -> Iterable[str]:
    """Return the paragraphs and tables, each a block of Markdown."""
    answers = bundled_answers()
    yield "### Every prompt by a gate that never saw it"
    yield from out_of_fold(answers)
    yield "### At equal energy, every prompt out of fold"
    yield from results_budgets.out_of_fold(answers)
    yield "### Which loss orders all experts"
    yield from trainings(answers)
    yield "### Subset regret"
    yield from regrets(answers)
    yield "### A category the gate never saw"
    yield from left_out(answers)


def out_of_fold(answers: Answers) -> Iterable[str]:
    """Return the recipe beside the best single expert and the majority, each prompt answered out of fold."""
    table = crossfit(answers, (1, 2, 3, 4, 5)).set_index("method")
    yield (
        f"Five folds of all {len(answers):,} prompts, a gate trained for each on the others by the bundled gate's "
        "recipe; leads are paired, in points with 95 % intervals, and as ratios. How the recipe was settled stands in "
        "docs/decisions/gate.md; figures of the one fixed test split are in docs/results.md."
    )
    references = {
        "best_single": (BEST_SINGLE, "diff_low", "diff_high"),
        "majority": (MAJORITY, "majority_low", "majority_high"),
        "plain": (PLAIN_MAJORITY, "plain_low", "plain_high"),
    }
    rows = []
    for name, row in table.iterrows():
        shown = [str(name), f"{100 * row['accuracy']:.1f} %"]
        for words, (reference, low, high) in references.items():
            points = f"{100 * row[f'diff_vs_{words}']:+.1f} ({100 * row[low]:+.1f} to {100 * row[high]:+.1f})"
            shown += ["", ""] if name == reference else [points, ratio(row, words)]
        rows.append(shown)
    over = ("over the best single", "over the majority", "over the plain majority")
    yield markdown_table(["method", "accuracy", *(word for words in over for word in (words, "ratio"))], rows)


def trainings(answers: Answers) -> Iterable[str]:
    """Return accuracy on validation of gates trained with each loss."""
    rows = []
    for loss, words in LOSSES.items():
        accuracy = train_gate(answers, recipe=Recipe(loss=loss)).evidence["validation_accuracy_by_k"]
        rows.append([words, *(f"{100 * a:.1f} %" for a in accuracy[:5])])
    yield (
        "Accuracy on validation, by experts asked; trained on train. A vote takes a gate's outputs for log-odds, which "
        "those of the mixture losses are not:"
    )
    yield markdown_table(["loss", "k = 1", "k = 2", "k = 3", "k = 4", "k = 5"], rows)


def regrets(answers: Answers) -> Iterable[str]:
    """Return how much one gate for all subsets loses against one gate per subset."""
    six = answers.for_models(answers.models[:6])
    every = [s for size in range(2, 7) for s in combinations(range(6), size)]
    random = np.random.default_rng(0)
    sample = [tuple(sorted(random.choice(8, size=int(random.integers(2, 8)), replace=False))) for _ in range(SAMPLED)]
    yield (
        "L(θ, S) of one gate trained on all experts, less the loss of a gate trained for S alone, in nats per "
        f"validation prompt: all {len(every)} subsets of 2 to 6 of the first 6 LLMs, and {SAMPLED} random subsets of "
        f"all 8. The gates here are small ({SMALL.heads} × {SMALL.hidden} hidden units), the references trained on the "
        "mixture loss of S. Below 0 the gate for all is the better one on unseen prompts."
    )
    rows = []
    for table, subsets, name in ((six, every, "6 LLMs, all subsets"), (answers, sample, "8 LLMs, a sample")):
        references = _references(table)
        for loss, words in LOSSES.items():
            gate = train_gate(table, recipe=replace(SMALL, loss=loss))
            found = subset_regret(gate, table, subsets, references)["regret"]
            rows.append([name, words, f"{found.mean():+.4f}", f"{found.max():+.4f}", f"{(found > 0).mean():.0%}"])
    yield markdown_table(["subsets", "loss", "mean regret", "largest", "subsets with regret"], rows)


def _references(answers: Answers) -> Callable[[Sequence[str]], Gate]:
    known: dict[tuple[str, ...], Gate] = {}

    def reference(models: Sequence[str]) -> Gate:
        key = tuple(models)
        if key not in known:
            known[key] = train_gate(answers.for_models(models), recipe=replace(SMALL, loss="mixture"))
        return known[key]

    return reference


def left_out(answers: Answers) -> Iterable[str]:
    """Return, for each category, the accuracy on its test prompts of a gate that saw it and of one that did not."""
    k, rows, weights = 4, [], []
    whole = train_gate(answers)
    test = answers.split == "test"
    for category in np.unique(answers.category).tolist():
        kept = answers.of(np.flatnonzero((answers.category != category) | test))
        found = [_accuracy(answers, gate, k, category) for gate in (whole, train_gate(kept))]
        rows.append([category, *(f"{100 * f:.1f} %" for f in found), f"{100 * (found[1] - found[0]):+.1f}"])
        weights.append((int((test & (answers.category == category)).sum()), found[1] - found[0]))
    mean = sum(n * fall for n, fall in weights) / sum(n for n, _ in weights)
    yield (
        f"Accuracy on the category's test prompts with k = {k}, trained with and without the category. Over all test "
        f"prompts the difference is {100 * mean:+.2f} points."
    )
    yield markdown_table(["category", "seen", "never seen", "difference, points"], rows)


def _accuracy(answers: Answers, gate: Gate, k: int, category: str) -> float:
    rows = np.flatnonzero((answers.split == "test") & (answers.category == category))
    router = GateRouter.of(gate=gate, answers=answers, models=answers.models, k=k)
    return float(router.answer_all_served(rows)[1].mean())


def main() -> None:
    for section in sections():
        print(section, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
