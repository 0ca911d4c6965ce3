"""Laws of the reader of options (`tools/results_options.py`): what it sees, and what it may change of a vote."""

import numpy as np
import pytest
from moe2_samples import identity_gate, sample_answers

from moe2.baselines import plain_majority
from moe2.router import GateRouter
from tools.results_options import FIGURES, figures_of, shares, with_reader

RANK = FIGURES.index("rank of its number among the options' numbers")


def test_figures_of_an_option_do_not_depend_on_where_it_stands():
    """Options in another order have the same figures, in that order; what is not there and not told is NaN."""
    texts, order = ["12 kg of it.", "1,200 kg", "none", "3 kg"], [2, 0, 3, 1]
    found = figures_of([texts, [texts[i] for i in order], ["yes", "no"]])
    assert np.array_equal(found[0][order], found[1], equal_nan=True)
    assert np.isnan(found[2, 2:]).all()
    assert found[0, :, RANK] == pytest.approx([0.5, 1.0, np.nan, 0.0], nan_ok=True)


def numbered(gold_rank: int | None, n: int = 400):
    """Return answers, and figures of options that are four numbers; the right one is that of `gold_rank`, or any."""
    answers = sample_answers(n=n)
    random = np.random.default_rng(3)
    options = []
    for gold in answers.gold:
        values = list(np.sort(random.choice(1000, 4, replace=False)))
        right = values.pop(random.integers(4) if gold_rank is None else gold_rank)
        random.shuffle(values)
        values.insert(gold, right)
        options.append([f"{value} metres" for value in values])
    return answers, figures_of(options)


def test_a_habit_of_those_who_wrote_the_options_is_found():
    """Where the right number is always the second largest, the reader names it; its shares of a prompt sum to 1."""
    answers, figures = numbered(gold_rank=2)
    seen, unseen = np.arange(300), np.arange(300, 400)
    found = shares(answers, figures, seen, unseen)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found.argmax(axis=1) == answers.gold[unseen]).mean() > 0.95


def test_no_habit_is_found_where_there_is_none():
    """Where the right number is any of four, the reader is right about as often as a guess: within four deviations."""
    answers, figures = numbered(gold_rank=None, n=2000)
    seen, unseen = np.arange(1000), np.arange(1000, 2000)
    right = (shares(answers, figures, seen, unseen).argmax(axis=1) == answers.gold[unseen]).mean()
    assert abs(right - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 1000)


@pytest.mark.parametrize("kind", ["gate", "majority"])
def test_a_reader_without_an_opinion_changes_no_answer(kind):
    """Even shares leave every vote as it was, of a method with votes of its own and of one with weights."""
    pool = sample_answers()
    if kind == "gate":
        method = GateRouter.of(gate=identity_gate(), answers=pool, models=pool.models, k=2)
    else:
        method = plain_majority(pool=pool, models=pool.models)
    prompts = np.arange(len(pool))
    same = with_reader(method, np.ones((len(pool), 4)))
    assert np.array_equal(same.answer_all_served(prompts)[0], method.answer_all_served(prompts)[0])


def test_a_reader_that_is_sure_decides_among_the_options_named_and_names_none_itself():
    """With all of its weight on one option that option wins wherever an expert names it."""
    pool = sample_answers()
    method = plain_majority(pool=pool, models=pool.models)
    prompts = np.arange(len(pool))
    lift = np.full((len(pool), 4), 1e-3)
    lift[prompts, pool.gold] = 1e3
    right = with_reader(method, lift).answer_all_served(prompts)[1]
    assert np.array_equal(right, pool.correct.any(axis=1))
