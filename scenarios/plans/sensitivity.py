"""Which budget binds the choice of experts, and what one more joule or second of it buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenarios.files.loading import load
from scenarios.plans.answers import Difference, differences, standing
from scenarios.plans.questions import quoted, variants
from scenarios.story.answer import Answer
from scenarios.story.numbers import given, number
from scenarios.sweeps.question import Tables
from scenarios.sweeps.sweeping import Sweep

if TYPE_CHECKING:
    from twin.world import Engine

__all__ = ["relaxed", "sensitivity_answer"]


def relaxed(scenario: str | Path, changes: Sequence[str], *, by: float, engine: Engine) -> Sweep:
    """Return a scenario beside itself with each budget looser by a share, the subset chosen anew for each.

    What a budget buys is the paired difference in accuracy; where the subset stays the same it does not bind the
    choice. ValueError for a scenario without budgets, and for a subset that is named: then budgets choose nothing.
    """
    base = load(scenario, changes)
    budgets = base.file.budgets
    if not 0 < by <= 10:
        raise ValueError(f"--by {by}: must be above 0 and at most 10, for example 0.05 for 5 % more")
    if base.file.router.subset != "auto":
        raise ValueError(f'{base.source}: router.subset is named, so no budget chooses it; write subset = "auto"')
    delays = budgets.delay_by_category_s()
    looser = {f"delay {label}": _delays({**delays, label: at * (1 + by)}) for label, at in delays.items()}
    if len(delays) > 1:
        looser = {"every delay": _delays({label: at * (1 + by) for label, at in delays.items()}), **looser}
    if budgets.energy_j_per_request is not None:
        looser["energy"] = f"budgets.energy_j_per_request={budgets.energy_j_per_request * (1 + by)!r}"
    if not looser:
        raise ValueError(f"{base.source}: there is no budget to relax; give budgets.delay_s or energy_j_per_request")
    named = [(f"{name} +{100 * by:.3g} %", load(scenario, [*changes, change])) for name, change in looser.items()]
    return variants([("as it is", base), *named], engine)


def _delays(delay_s: Mapping[str, float]) -> str:
    return f"budgets.delay_s={{{', '.join(f'{quoted(label)} = {at!r}' for label, at in delay_s.items())}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bought:
    """What a looser budget buys: the new choice of experts, and the accuracy that comes with it."""

    variant: str
    more: float  # of the budget, in `unit`
    unit: str
    experts: tuple[str, ...]  # none: no choice fits
    binds: bool
    gain: Difference  # of accuracy, in points of a hundred

    @property
    def price(self) -> float | None:
        """Points of accuracy per joule or second more; None where they are not known."""
        return None if self.gain.value is None or not self.more else self.gain.value / self.more

    def words(self, of: str = "") -> str:
        """Return what it buys, for how much `of` what."""
        size = f"{given(float(f'{self.more:.6g}'))} {self.unit} more{of}"
        if self.gain.value is None or self.price is None:
            return f"{size} buy an accuracy that is not known"
        if not self.gain.told:
            return f"{size} buy no accuracy that can be told from chance, {self.gain.words}"
        verb = "buy" if self.gain.value > 0 else "cost accuracy,"
        return f"{size} {verb} {self.gain.words}, {number(self.price)} points per {self.unit}"


def sensitivity_answer(sweep: Sweep, tables: Tables, *, by: float) -> Answer:
    """Return which budgets bind the choice of experts, and what the one buys most that does."""
    base, *rows = tables["points"].to_dict("records")
    bought = [_bought(sweep, tables, row, str(base["subset"])) for row in rows]
    single = [b for b in bought if not b.variant.startswith("every ")]
    binding = [b for b in single if b.binds]
    still = [b.variant for b in single if not b.binds]
    share = f"{100 * by:.3g} %"
    notes = [
        f"{b.variant}: the choice becomes {', '.join(b.experts) or 'none'}; {b.words()}." for b in bought if b.binds
    ]
    if still:
        notes.append(f"Does not bind the choice, so more of it alone buys nothing: {', '.join(still)}.")
    if base["reason"]:
        notes.append(f"As it is, under load: {standing(tables, 0)}.")
    return Answer(
        question="Which budget binds the choice of experts, and what does a looser one buy?",
        sentence=_sentence(base, binding, len(single), share),
        numbers={
            "by": by,
            "as_it_is": {"status": base["status"], "experts": _experts(base)},
            "budgets": {b.variant: _plain(b) for b in bought},
        },
        notes=tuple(notes),
    )


def _sentence(base: Mapping[Any, Any], binding: Sequence[_Bought], n: int, share: str) -> str:
    if not _experts(base):
        lead = "No choice of experts fits the budgets as they are"
        fits = " or ".join(b.variant for b in binding)
        return f"{lead}; one does with {fits}." if fits else f"{lead}, nor with any of them {share} looser."
    if not binding:
        return f"No budget binds the choice alone: whichever of the {n} is {share} looser, the same experts are kept."
    most = max(binding, key=lambda b: b.gain.value or 0.0)
    if len(binding) == 1:
        lead = f"Of {n} budgets one binds the choice of experts, {_budget(most)}"
        return f"{lead}; {most.words(f' of it (+{share})')}."
    names, whole = ", ".join(_budget(b) for b in binding), f"{len(binding)} of {n} budgets bind the choice of experts"
    return f"{whole} ({names}); most is bought by {_budget(most)}, where {most.words(f' (+{share})')}."


def _budget(bought: _Bought) -> str:
    """Return the budget's own name, without how much looser it was made."""
    return bought.variant.rpartition(" +")[0]


def _bought(sweep: Sweep, tables: Tables, row: Mapping[Any, Any], before: str) -> _Bought:
    more, unit = _loosened(sweep, int(row["point"]))
    gain = differences(tables, int(row["point"]))[0]
    return _Bought(
        variant=str(row["variant"]),
        more=more,
        unit=unit,
        experts=_experts(row),
        binds=row["subset"] != before,
        gain=gain,
    )


def _experts(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(name for name in str(row["subset"]).split("|") if name)


def _loosened(sweep: Sweep, point: int) -> tuple[float, str]:
    """Return by how much the budgets of a variant are looser, in joules or, the most of any category, in seconds."""
    one, other = (sweep.points[i].scenario.file.budgets for i in (0, point))
    joules = (other.energy_j_per_request or 0.0) - (one.energy_j_per_request or 0.0)
    if joules:
        return joules, "J"
    delays = other.delay_by_category_s()
    return max((delays[c] - at for c, at in one.delay_by_category_s().items()), default=0.0), "s"


def _plain(bought: _Bought) -> dict[str, Any]:
    return {
        "binds": bought.binds,
        "more": bought.more,
        "unit": bought.unit,
        "experts": bought.experts,
        "accuracy_difference": bought.gain.plain,
        "points_per_unit": bought.price,
    }
