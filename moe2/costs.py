"""What asking an expert costs on an unloaded plant: arrays that whoever knows the devices hands in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegCosts:
    """Each expert alone on each prompt of an answers table; NaN where unknown."""

    delay_s: Floats  # (n, E)
    energy_j: Floats  # (n, E) of the leg, idle power left out
    delay_budget_s: Floats  # (n,) of the prompt's category; inf: none

    def __post_init__(self) -> None:
        if self.delay_s.shape != self.energy_j.shape or self.delay_budget_s.shape != self.delay_s.shape[:1]:
            raise ValueError(
                f"costs: delay_s {self.delay_s.shape} and energy_j {self.energy_j.shape} must both be (prompts, "
                f"experts), delay_budget_s {self.delay_budget_s.shape} must be (prompts,)"
            )

    def of(self, rows: NDArray[np.intp]) -> "LegCosts":
        """Return the costs on these rows only."""
        return LegCosts(
            delay_s=self.delay_s[rows], energy_j=self.energy_j[rows], delay_budget_s=self.delay_budget_s[rows]
        )

    def spent(self, experts: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return (n,) seconds of the slowest and (n,) joules of all experts (n, k) asked, -1 for none.

        >>> costs = LegCosts(delay_s=np.array([[1.0, 3.0]]), energy_j=np.array([[5.0, 7.0]]),
        ...                  delay_budget_s=np.array([9.0]))
        >>> [values.tolist() for values in costs.spent(np.array([[1, 0]]))]
        [[3.0], [12.0]]
        """
        asked = experts >= 0
        delay_s = np.where(asked, np.take_along_axis(self.delay_s, experts, axis=1), 0.0)
        energy_j = np.where(asked, np.take_along_axis(self.energy_j, experts, axis=1), 0.0)
        return delay_s.max(axis=1), energy_j.sum(axis=1)
