"""What the options of the bundled questions give away by themselves, and what that would do to the bar.

The reader learns from figures of the options' form which of them is right: where a number stands among the others,
words that only one option has, length. It is no part of the product: docs/decisions/gate.md says why.
Alone: MOE2_DATA=../shared/data python -m tools.results_options prints the page.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from moe2.answers import Answers, bundled_answers
from moe2.baselines import MAJORITY, PLAIN_MAJORITY, best_single, majority_vote, plain_majority, single_expert
from moe2.crossfit import BEST_SINGLE
from moe2.evaluation import compare
from moe2.gate import bundled_gate
from moe2.router import GateRouter, Router
from tools.derive_answers import read_pool
from tools.pages import markdown_table, ratio

FIGURES = (
    "options",
    "characters",
    "characters over the options' mean",
    "rank by characters",
    "ends with a full stop",
    "words that no other option has",
    "rank of its number among the options' numbers",
    "distance of its number from their median, in logarithms",
    "options with the same number",
    "share of options with a number",
)
NUMBER = re.compile(r"[-+]?\d*\.?\d+")
WORD = re.compile(r"[a-z]+|\d+")


def sections() -> Iterable[str]:
    """Yield markdown; nothing without the public measurements in $MOE2_DATA."""
    folder = os.environ.get("MOE2_DATA")
    if folder is None:
        return
    answers = bundled_answers()
    yield (
        "The wrong options of MMLU-Pro were written around the right one, and it shows. A reader of their form, which "
        "is no part of the product ([why](decisions/gate.md#what-the-options-give-away-not-used)), tells how much."
    )
    pool = read_pool(Path(folder) / "answers")
    if not np.array_equal(pool.index, answers.question_id):
        raise SystemExit(f"{folder}: other questions than the bundled answers'; run `make derive` first")
    figures = figures_of([json.loads(options) for options in pool["options"]])
    test, seen = answers.rows("test"), np.flatnonzero(answers.split != "test")
    read = shares(answers, figures, seen, test)
    yield from alone(answers, figures, read)
    yield from beside_the_vote(answers, read)


def alone(answers: Answers, figures: NDArray[np.float64], read: NDArray[np.float64]) -> Iterable[str]:
    """Return how often the reader is right without an LLM, on test, its category seen (`read`) and unseen."""
    yield "### Without any LLM"
    test, seen = answers.rows("test"), np.flatnonzero(answers.split != "test")
    unseen = np.full(len(test), -1)
    for category in np.unique(answers.category):
        here = np.flatnonzero(answers.category[test] == category)
        others = seen[answers.category[seen] != category]
        unseen[here] = shares(answers, figures, others, test[here]).argmax(axis=1)
    right = {
        "a guess": 1 / answers.n_options[test],
        "the reader": read.argmax(axis=1) == answers.gold[test],
        "the reader, trained on the other categories only": unseen == answers.gold[test],
    }
    found = compare(right, answers.text_key[test], best="a guess")
    yield (
        f"Boosted trees on {len(FIGURES)} figures of each option ({'; '.join(FIGURES)}), trained on the "
        f"{len(seen):,} prompts of train and validation. They see neither the question nor an LLM's answer."
    )
    rows = [[r["method"], accuracy(r)] for r in found.to_dict("records")]
    yield markdown_table(["who names the option", "right on test"], rows)


def beside_the_vote(answers: Answers, read: NDArray[np.float64]) -> Iterable[str]:
    """Return the bar with votes times what the reader thinks of the option named, beside the bar as it is."""
    yield "### Beside the vote"
    pool, models = answers.of(answers.rows("test")), answers.models
    lift = read * pool.n_options[:, None]  # 1: as likely as any other option
    majority = majority_vote(answers=answers, pool=pool, models=models)
    gates = [GateRouter.of(gate=bundled_gate(), answers=pool, models=models, k=k) for k in (2, 3, 4)]
    methods = {
        BEST_SINGLE: single_expert(pool=pool, models=models, expert=best_single(answers, models)),
        PLAIN_MAJORITY: plain_majority(pool=pool, models=models),
        MAJORITY: majority,
        f"{MAJORITY}, options read": with_reader(majority, lift),
        **{gate.name: gate for gate in gates},
        **{f"{gate.name}, options read": with_reader(gate, lift) for gate in gates},
    }
    right = {name: method.answer_all_served(np.arange(len(pool)))[1] for name, method in methods.items()}
    found = compare(right, pool.text_key, best=BEST_SINGLE, majority=f"{MAJORITY}, options read", plain=PLAIN_MAJORITY)
    yield (
        "Each vote times the reader's share of the option named over an even share; accuracies and leads as on the "
        "main page, and the lead over a majority vote that reads the options too."
    )
    references = {
        "best_single": "over the best single expert",
        "plain": "over the plain majority",
        "majority": "over the majority, options read",
    }
    yield markdown_table(
        ["method", "right on test", *references.values()],
        [[r["method"], accuracy(r), *(ratio(r, name) for name in references)] for r in found.to_dict("records")],
    )


def figures_of(options: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return (prompts, options, figures), NaN for an option that is not there and a figure that is not told."""
    found = np.full((len(options), max(map(len, options)), len(FIGURES)), np.nan)
    for row, texts in zip(found, options, strict=True):
        row[: len(texts)] = np.column_stack([*_forms(texts), *_words(texts), *_numbers(texts)])
    return found


def shares(
    answers: Answers, figures: NDArray[np.float64], seen: NDArray[np.intp], rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what a reader that learned from the rows seen thinks of each option of `rows`; sums to 1 over them."""
    there = np.arange(figures.shape[1]) < answers.n_options[:, None]  # (prompts, options)
    right = np.arange(figures.shape[1]) == answers.gold[:, None]
    reader = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=100, l2_regularization=1.0, random_state=0
    )
    reader.fit(figures[seen][there[seen]], right[seen][there[seen]])
    found = np.zeros(there[rows].shape)
    found[there[rows]] = reader.predict_proba(figures[rows][there[rows]])[:, 1]
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def with_reader(method: Router, lift: NDArray[np.float64]) -> Router:
    """Return the method with each vote times the lift (prompts, options) of the option named."""
    choice = method.pool.choice
    votes = method.votes
    if votes is None:
        votes = np.zeros(choice.shape)
        votes[np.arange(len(votes))[:, None], method.experts] += method.weights  # 0 where no expert is asked
    told = np.take_along_axis(lift, np.maximum(choice, 0).astype(np.intp), axis=1)
    return replace(method, votes=votes * told)


def _forms(texts: Sequence[str]) -> list[NDArray[np.float64]]:
    length = np.array([len(text) for text in texts], dtype=float)
    stops = np.array([text.rstrip().endswith(".") for text in texts], dtype=float)
    return [np.full(len(texts), float(len(texts))), length, length / max(length.mean(), 1.0), _rank(length), stops]


def _words(texts: Sequence[str]) -> list[NDArray[np.float64]]:
    words = [set(WORD.findall(text.lower())) for text in texts]
    options_with = Counter(word for of_option in words for word in of_option)
    return [np.array([sum(options_with[word] == 1 for word in of_option) for of_option in words], dtype=float)]


def _numbers(texts: Sequence[str]) -> list[NDArray[np.float64]]:
    """Return the figures of each option's first number; a thousands' comma is no end of it."""
    first = [NUMBER.search(text.replace(",", "")) for text in texts]
    value = np.array([np.nan if match is None else float(match.group()) for match in first])
    told = np.isfinite(value)
    rank, distance, same = (np.full(len(texts), np.nan) for _ in range(3))
    if told.any():
        size = np.log(np.abs(value[told]) + 1e-12)
        rank[told] = _rank(value[told])
        distance[told] = np.abs(size - np.median(size))
        same[told] = (value[told][:, None] == value[told]).sum(axis=1)
    return [rank, distance, same, np.full(len(texts), told.mean())]


def _rank(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value's place in ascending order, from 0 to 1; of equals the first is the lower."""
    return np.argsort(np.argsort(value, kind="stable"), kind="stable") / max(len(value) - 1, 1)


def accuracy(row: Mapping[str, float]) -> str:
    return f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def main() -> None:
    for section in sections():
        print(section, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
