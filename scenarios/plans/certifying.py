"""Proofs beside a plan: how good anything that fits without load could be, with devices in some modes or in any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moe2.selection import Selection, exhaustive
from scenarios.plans.modes import Mode
from scenarios.plans.plant import Plant

__all__ = ["Certified", "certify"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Certified:
    """The best subset for every k by unloaded costs, each with its certificate, for one assignment of modes.

    `modes` are those of the devices that have a choice; None: in any modes, the bound is that of every assignment.
    """

    modes: Mapping[str, str] | None
    selections: Mapping[int, Selection]

    @property
    def k(self) -> int:
        """The k whose best subset is worth most."""
        return max(self.selections, key=lambda k: (self.selections[k].value, -k))

    @property
    def best(self) -> Selection:
        """The best subset of all k; of status infeasible when nothing fits."""
        return self.selections[self.k]

    @property
    def upper_bound(self) -> float:
        """Nats per prompt that nothing exceeds which fits without load; -inf when nothing does."""
        return max(found.upper_bound for found in self.selections.values())


def certify(plant: Plant, modes: Mapping[str, Mode] | None, ks: Sequence[int]) -> Certified:
    """Return what fits best without load, with devices in these modes, the others as they start; None: in any."""
    at = None if modes is None else {**dict.fromkeys(plant.modes), **modes}
    return Certified(
        modes=None if at is None else plant.mode_names(at),
        selections={k: exhaustive(plant.unloaded_problem(at, k)) for k in sorted(set(ks))},
    )
