"""What the tables of a sweep answer: what if, which is better, which budget binds; each in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from scenarios.story.answer import Answer
from scenarios.story.numbers import number
from scenarios.sweeps.question import Tables
from scenarios.verdicts.verdict import reason

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[Any, Any]

__all__ = ["Difference", "differences", "standing", "versus_answer", "what_if_answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric at one point less the same at the first, paired by replication, in `unit`; None where not known."""

    metric: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    more: str  # what the point is where the metric is larger there
    less: str

    @property
    def told(self) -> bool:
        """Whether the interval leaves out 0, so that the sign is known."""
        return self.value not in {None, 0.0} and self.low is not None and (self.low > 0 or (self.high or 0.0) < 0)

    @property
    def better(self) -> bool:
        """Whether the point is surely better than the first in this."""
        return self.told and ((self.value or 0.0) > 0) == (self.metric == "accuracy")

    @property
    def worse(self) -> bool:
        """Whether the point is surely worse than the first in this."""
        return self.told and not self.better

    @property
    def words(self) -> str:
        """The difference with its interval.

        >>> change = {"metric": "energy", "unit": "J", "more": "", "less": ""}
        >>> Difference(value=-20.0, low=-25.0, high=-15.0, **change).words.replace("−", "-")
        '-20.0 J (-25.0 to -15.0)'
        """
        if self.value is None:
            return "not known"
        span = "" if self.low is None or self.low == self.high else f" ({number(self.low)} to {number(self.high or 0)})"
        return f"{'+' if self.value > 0 else ''}{number(self.value)} {self.unit}{span}"

    @property
    def plain(self) -> dict[str, Any]:
        """The difference as JSON holds it."""
        found = {"value": self.value, "low": self.low, "high": self.high}
        return {**found, "unit": self.unit, "told_apart": self.told}


def differences(tables: Tables, point: int) -> list[Difference]:
    """Return accuracy, delay and energy per request of a point less those of the first."""
    statistic = str(tables["points"]["delay_statistic"].iloc[0])
    asked = (
        ("accuracy", "accuracy", "points", 100.0, "more accurate", "less accurate"),
        (f"delay_{statistic}_s", f"delay {statistic}", "s", 1.0, "slower", "quicker"),
        ("energy_j_per_request", "energy", "J per request", 1.0, "needs more energy", "needs less energy"),
    )
    table = tables["sweep"]
    rows = table[(table["point"] == point) & (table["category"] == "all")].set_index("metric").to_dict("index")
    found = []
    for column, metric, unit, scale, more, less in asked:
        ends = (rows.get(column, {}).get(f"difference{end}") for end in ("", "_low", "_high"))
        value, low, high = (None if v is None or isnan(v) else scale * v for v in ends)
        found.append(Difference(metric=metric, unit=unit, value=value, low=low, high=high, more=more, less=less))
    return found


def standing(tables: Tables, point: int) -> str:
    """Return a point's verdict with the budgets behind it."""
    status = str(tables["points"].set_index("point")["status"].to_dict()[point])
    judged = tables["verdicts"][tables["verdicts"]["point"] == point]
    rows = judged[["label", "status", "note"]].itertuples(index=False, name=None)
    which = reason(status, rows, notes=False)
    return f"{status} ({which})" if which else "every budget holds" if status == "holds" else status


def what_if_answer(tables: Tables) -> Answer:
    """Return in which variants every budget still holds, and what costs most; the first is the scenario as it is."""
    base, *others = tables["points"].to_dict("records")
    changes = {str(o["variant"]): differences(tables, int(o["point"])) for o in others}
    return Answer(
        question="What if a device is lost or crashes, prompts grow twice as long, or the load doubles?",
        sentence=f"{_what_if_sentence(base, others)}.",
        numbers={
            "as_it_is": base["status"],
            "variants": {
                name: {"status": other["status"], "reason": other["reason"], **_plain(changes[name])}
                for name, other in zip(changes, others, strict=True)
            },
        },
        notes=(*([f"As it is: {standing(tables, 0)}."] if base["reason"] else []), *_costliest(changes)),
    )


def _what_if_sentence(base: Row, others: Sequence[Row]) -> str:
    n, held = len(others), [o for o in others if o["status"] == "holds"]
    if base["status"] == "not judged":
        return "There is no budget to judge; what each change costs is in the table"
    failing = ", ".join(f"“{o['variant']}” ({o['status']})" for o in others if o["status"] != "holds")
    if base["status"] != "holds":
        names = ", ".join(f"“{o['variant']}”" for o in held)
        only = f"all hold only in {names}" if held else f"in none of {n} what-ifs do all hold"
        return f"As it is the budgets are {base['status']} already, and {only}"
    if not failing:
        return f"As it is every budget holds, and so it does in all {n} what-ifs"
    if not held:
        return f"As it is every budget holds, but in none of {n} what-ifs: {failing}"
    return f"As it is every budget holds, and so it does in {len(held)} of {n} what-ifs, but not in {failing}"


def _plain(found: Sequence[Difference]) -> dict[str, Any]:
    return {f"{d.metric.replace(' ', '_')}_difference": d.plain for d in found}


def _costliest(changes: Mapping[str, Sequence[Difference]]) -> list[str]:
    """Return, for each metric, the variant that surely makes it worst."""
    notes = []
    for place, metric in enumerate(next(iter(changes.values()), [])):
        worse = {name: found[place] for name, found in changes.items() if found[place].worse}
        if worse:
            name, most = max(worse.items(), key=lambda item: abs(item[1].value or 0.0))
            notes.append(f"{metric.metric.capitalize()} suffers most in “{name}”: {most.words}.")
    return notes


def versus_answer(tables: Tables) -> Answer:
    """Return which of two scenarios is better, metric by metric, where the paired interval leaves out 0."""
    one, other = tables["points"].to_dict("records")
    names = (str(one["variant"]), str(other["variant"]))
    found = differences(tables, 1)
    lead, leader = _leader(one, other, found)
    parts = [_compared(d, names, tables["replications"], leader) for d in found]
    return Answer(
        question=f"Which is better, {names[0]} or {names[1]}?",
        sentence=f"{lead}: {'; '.join(parts)}.",
        numbers={
            "first": names[0],
            "second": names[1],
            "status": {names[0]: one["status"], names[1]: other["status"]},
            "better": {d.metric: names[1] if d.better else names[0] if d.worse else None for d in found},
            "second_less_first": _plain(found),
        },
        notes=(
            f"Verdicts: {'; '.join(f'{name}, {standing(tables, i)}' for i, name in enumerate(names))}.",
            "Differences are paired, over the replications that both have; each interval is at 95 %, and “not told "
            "apart” means that it contains 0.",
        ),
    )


def _leader(one: Row, other: Row, found: Sequence[Difference]) -> tuple[str, str]:
    """Return who is better, in words and by name: who alone keeps the budgets, else who is ahead and never behind."""
    a, b = str(one["variant"]), str(other["variant"])
    for mine, its, best in ((one, other, a), (other, one, b)):
        if mine["status"] == "holds" and its["status"] in {"violated", "infeasible"}:
            return f"{best} is better, as it alone holds every budget", best
    better, worse = any(d.better for d in found), any(d.worse for d in found)
    if better and worse:
        return "Neither is better in everything", ""
    far = " in what can be compared" if any(d.value is None for d in found) else ""
    if better or worse:
        best = b if better else a
        return f"{best} is better{far}", best
    return f"The two are not told apart{far}", ""


def _compared(change: Difference, names: tuple[str, str], replications: pd.DataFrame, leader: str) -> str:
    """Return how the second compares with the first in one metric, as a clause about the one that is ahead."""
    if change.value is None:
        return f"{change.metric} cannot be compared{_unbounded(change.metric, names, replications)}"
    if change.value == 0 and change.low == change.high:
        return f"{change.metric} is the same"
    if not change.told:
        return f"{change.metric} is not told apart: {change.words}"
    ahead = names[1] if change.better else names[0]
    words = change.more if change.metric == "accuracy" else change.less
    size, ends = abs(change.value), sorted(abs(end) for end in (change.low or 0.0, change.high or 0.0))
    span = f" ({number(ends[0])} to {number(ends[1])})" if ends[0] < ends[1] else ""
    verb = words if words.startswith("needs") else f"is {words}"
    return f"{'it' if ahead == leader else ahead} {verb}, by {number(size)} {change.unit}{span}"


def _unbounded(metric: str, names: tuple[str, str], replications: pd.DataFrame) -> str:
    """Return whose delay has no bound in how many replications; nothing where the figure is just not known."""
    if not metric.startswith("delay"):
        return ", for it is not known of both"
    column = f"{metric.replace(' ', '_')}_s"
    rows = replications[(replications["category"] == "all") & (replications["metric"] == column)]
    told = []
    for place, name in enumerate(names):
        mine = rows.loc[rows["point"] == place, "value"]
        if n := int((mine == float("inf")).sum()):
            told.append(f"{name} leaves too many requests unanswered in {n} of {len(mine)} replications")
    return f", as {' and '.join(told)}" if told else ""
