"""Verdicts as sentences that a planner understands without help."""

import math
import re
from collections.abc import Iterable, Sequence

from scenarios.story.numbers import THIN, bound, interval, quantity, unanswered
from scenarios.story.story import Story
from scenarios.verdicts.verdict import Verdict

_DELAY = re.compile(r"delay (?P<statistic>p\d+|mean)(?:, (?P<category>.+))?$", re.IGNORECASE)
_WORDS = {"holds": "Holds", "violated": "Violated", "undecided": "Undecided"}


def percentile(verdict: Verdict) -> float | None:
    """Return the share that a verdict's percentile speaks of; None when it is no percentile.

    The statistic is read from the label ("delay p95, law") or, without one there, from the metric.
    """
    found = re.search(r"\bp(\d{1,2})\b", f"{verdict.label} {verdict.metric}".replace("_", " "))
    return int(found.group(1)) / 100 if found else None


def status_word(status: str) -> str:
    """Return the word that a reader sees for a status."""
    return _WORDS.get(status, status.capitalize())


def used(verdict: Verdict) -> float:
    """Return estimate / budget; +inf when the estimate is infinite, unknown or the budget zero."""
    if verdict.estimate is None or math.isnan(verdict.estimate) or verdict.budget <= 0:
        return math.inf
    return verdict.estimate / verdict.budget


def claim(verdict: Verdict) -> str:
    """Return one sentence, without its full stop, on how a budget fared."""
    if verdict.status == "violated" and used(verdict) <= 1 and verdict.note:
        return f"{verdict.label}: {verdict.note}"  # the estimate is within the budget; something else is not
    match = _DELAY.match(verdict.label)
    if match:
        return _delay_claim(verdict, _answers(match["category"] or ""))
    budget = bound(verdict.budget, verdict.unit)
    if verdict.estimate is None or not math.isfinite(verdict.estimate):
        return f"{verdict.label} cannot be judged against {budget}"
    subject = "a request costs" if verdict.label == "energy per request" else f"{verdict.label} is"
    against = f", within its budget of {budget}" if verdict.status == "holds" else f"; the budget is {budget}"
    return f"{subject} {_found(verdict)}{against}"


def _answers(category: str) -> str:
    if category in {"", "all", "overall", "default", "all categories"}:
        return "answers"
    return "answers in other categories" if category == "other categories" else f"{category} answers"


def _delay_claim(verdict: Verdict, answers: str) -> str:
    share, budget = percentile(verdict), bound(verdict.budget, verdict.unit)
    whose = answers if share is None else f"{100 * share:g}{THIN}% of {answers}"
    if verdict.estimate is None or math.isnan(verdict.estimate):
        if verdict.status == "violated":  # unstable: there is no figure to give
            return f"the plant cannot keep up, so {answers} come ever later; the budget is {budget}"
        return f"whether {whose} arrive within {budget} is not known"
    if math.isinf(verdict.estimate):
        return _unanswered_claim(verdict, answers)
    if share is None:
        return f"{answers} take {_found(verdict)} on average; the budget is {budget}"
    if verdict.status == "holds":
        return f"{whose} arrive within {budget} ({_found(verdict)})"
    return f"{whose} take up to {_found(verdict)}; the budget is {budget}"


def _unanswered_claim(verdict: Verdict, answers: str) -> str:
    """Return the claim of an infinite estimate, which says little of the runs that are finite."""
    share, budget = percentile(verdict), bound(verdict.budget, verdict.unit)
    few = unanswered(share).removesuffix(" unanswered")
    wanted = f"the budget is {budget}" if share is None else f"{100 * share:g}{THIN}% should arrive within {budget}"
    if verdict.status == "violated" and in_some_runs(verdict) and verdict.low is not None:
        late = f"{few} of {answers}" if share is not None else answers
        return f"{late} take over {quantity(verdict.low, verdict.unit)}; {wanted}"
    where = "in some runs " if in_some_runs(verdict) else ""
    return f"{where}{few} of {answers} never arrive; {wanted}"


def in_some_runs(verdict: Verdict) -> bool:
    """Return whether an infinite estimate comes from some runs only: not every run leaves too many unanswered."""
    return verdict.low is None or math.isfinite(verdict.low)


def _found(verdict: Verdict) -> str:
    low, high, estimate = verdict.low, verdict.high, verdict.estimate
    if verdict.status == "undecided" and low is not None and high is not None and math.isfinite(high):
        between = interval(low, high, verdict.unit)
        return between if low > 0 or estimate is None else f"{quantity(estimate, verdict.unit)} ({between})"
    return quantity(estimate, verdict.unit) if estimate is not None else "not known"


def deciding(story: Story) -> list[Verdict]:
    """Return the budgets that decide: of each unit the most used that has the overall status, delay first."""
    candidates = ranked([v for v in story.verdicts if v.status == story.overall] or story.verdicts)
    first: dict[str, Verdict] = {}
    for verdict in candidates:
        first.setdefault(verdict.unit, verdict)
    return sorted(first.values(), key=lambda verdict: verdict.unit != "s")


def headline(story: Story) -> str:
    """Return the sentence at the top of the page: the verdict and the budgets that decide it."""
    if not story.verdicts:
        return "No budget: the scenario states none, so there is nothing to judge."
    return (
        f"{status_word(story.overall)}: {'. '.join(_capital(claim(v), n > 0) for n, v in enumerate(deciding(story)))}."
    )


def lede(story: Story) -> str:
    """Return the sentence below the headline: how many budgets fared how, and why when that is not plain."""
    notes = dict.fromkeys(v.note.rstrip(".") for v in deciding(story) if v.note and story.overall == "undecided")
    return " ".join([tally(story.verdicts), *(f"{_capital(note)}." for note in notes)])


def _capital(sentence: str, wanted: bool = True) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}" if wanted else sentence


def ranked(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts as a planner wants to read them: violated, undecided, holding; most used first."""
    order = list(_VERBS)
    return sorted(verdicts, key=lambda v: (order.index(v.status), -used(v), -_surely_used(v)))


def _surely_used(verdict: Verdict) -> float:
    """Return the low end of the interval / budget, which orders estimates that are all infinite."""
    return verdict.low / verdict.budget if verdict.low is not None and verdict.budget > 0 else 0.0


def tally(verdicts: Sequence[Verdict]) -> str:
    """Return how many budgets fared how, in one sentence.

    >>> v = Verdict(metric="m", label="l", budget=1.0, unit="s", estimate=0.5, low=0.5, high=0.5, status="holds")
    >>> tally([v, v]), tally([v]), tally([])
    ('Both budgets hold.', 'The one budget holds.', '')
    """
    n = {status: sum(v.status == status for v in verdicts) for status in _VERBS}
    parts = [f"{number} {_VERBS[status][number > 1]}" for status, number in n.items() if number]
    if len(parts) > 1:
        return f"Of {len(verdicts)} budgets, {', '.join(parts)}."
    return "".join(f"{_subject(len(verdicts))} {part.split(' ', 1)[1]}." for part in parts)


_VERBS = {
    "violated": ("is violated", "are violated"),
    "undecided": ("is undecided", "are undecided"),
    "holds": ("holds", "hold"),
}


def _subject(number: int) -> str:
    return {1: "The one budget", 2: "Both budgets"}.get(number, f"All {number} budgets")


def unequal(replications: Iterable[int], one: str = "replication") -> list[str]:
    """Return why a difference is not that of two means, where their numbers of replications differ.

    >>> unequal([8, 8]), unequal([8, 32])
    ([], ['A difference is over the replications that both have, a mean above over all of its own.'])
    """
    if len(set(replications)) <= 1:
        return []
    return [f"A difference is over the {one}s that both have, a mean above over all of its own."]
