"""A linear relaxation of "best coverage within the budgets", tightened by cuts, whose dual bounds any part of a tree.

Variables are y_n in [0, 1] and the mean value of each group of prompts. One program lives through a whole search:
HiGHS starts each solve from the basis of the last one; cuts come when they are broken and go when they have been
slack for a while.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe2.selection.cuts import Cuts
from moe2.selection.growth import Floats, Growth

ROOM = 50  # cuts beyond two per variable before slack ones go
SLACK_FOR = 8  # solves


@dataclass(frozen=True, slots=True, kw_only=True)
class Dual:
    """For every feasible subset: coverage <= constant + slope . y."""

    constant: float
    slope: Floats  # (M,)
    cuts: tuple[int, ...]
    multipliers: tuple[float, ...]

    def bound(self, inside: NDArray[np.bool_], open_: NDArray[np.bool_]) -> float:
        """Return the largest value where `inside` are kept and `open_` may be."""
        return float(self.constant + self.slope[inside].sum() + np.maximum(self.slope[open_], 0.0).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """One solution of the relaxation."""

    y: Floats  # (M,)
    theta: Floats  # (groups,)
    dual: Dual


@dataclass(slots=True, kw_only=True)
class Relaxation:
    """The linear program over some of the cuts found so far."""

    cuts: Cuts
    program: Any  # highspy.Highs
    present: list[int] = field(default_factory=list)  # cut of each row
    slack_for: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))  # solves, of each row

    @classmethod
    def of(cls, growth: Growth) -> "Relaxation":
        """Return the relaxation without cuts."""
        import highspy  # noqa: PLC0415 - slow to load, and a scenario may name its subset

        cuts = Cuts.of(growth)
        M = growth.n_experts
        penalty = 20.0 * (1.0 + float(-cuts.lowest.min()))  # price of breaking a budget: always feasible
        program: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("solver", "simplex")):
            program.setOptionValue(option, value)
        low = np.concatenate([np.zeros(M), cuts.lowest, [0.0]])
        high = np.concatenate([np.ones(M), cuts.highest, [inf]])
        program.addVars(len(low), low, high)
        cost = np.concatenate([np.zeros(M), -cuts.weights, [penalty]])
        program.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)
        return cls(cuts=cuts, program=program)

    def separate(self, y: Floats, theta: Floats | None) -> bool:
        """Add the cuts that (y, theta) breaks, all of them when theta is None; return whether there are any."""
        fresh = self.cuts.separate(y, theta)
        if not fresh:
            return False
        rows = np.array([self.cuts.rows[i] for i in fresh])
        limits = np.array([self.cuts.limits[i] for i in fresh])
        where, column = np.nonzero(rows)
        starts = np.searchsorted(where, np.arange(len(rows))).astype(np.int32)
        free = np.full(len(rows), -inf)
        self.program.addRows(len(rows), free, limits, len(where), starts, column.astype(np.int32), rows[where, column])
        self.present += fresh
        self.slack_for = np.concatenate([self.slack_for, np.zeros(len(fresh), dtype=np.intp)])
        return True

    def solve(self, inside: NDArray[np.bool_], possible: NDArray[np.bool_], *, probe: bool = False) -> Solved:
        """Return the best (y, theta) under the present cuts, y fixed to 1 inside and to 0 where not possible.

        A probe leaves the cuts as they are.
        """
        M = len(inside)
        self.program.changeColsBounds(M, np.arange(M, dtype=np.int32), inside.astype(float), possible.astype(float))
        self._run()
        solution = self.program.getSolution()
        x, price = np.array(solution.col_value), np.maximum(-np.array(solution.row_dual), 0.0)
        dual = self._dual(price)
        if not probe:
            self.slack_for = np.where(price > 0, 0, self.slack_for + 1)
            self._drop_slack()
        return Solved(y=x[:M], theta=x[M:-1], dual=dual)

    def _run(self) -> None:
        import highspy  # noqa: PLC0415

        optimal = highspy.HighsModelStatus.kOptimal
        self.program.run()
        if self.program.getModelStatus() != optimal:
            self.program.clearSolver()  # a basis that went bad: from the start
            self.program.run()
        if self.program.getModelStatus() != optimal:
            raise RuntimeError(f"the relaxation was not solved: {self.program.getModelStatus()}")

    def _drop_slack(self) -> None:
        """Leave out the cuts that have not mattered for some solves, once there are many."""
        gone = np.flatnonzero(self.slack_for > SLACK_FOR)
        if not gone.size or len(self.present) <= ROOM + 2 * len(self.cuts.rows[0]):
            return
        self.program.deleteRows(len(gone), gone.astype(np.int32))
        kept = np.setdiff1d(np.arange(len(self.present)), gone)
        self.present = [self.present[i] for i in kept.tolist()]
        self.slack_for = self.slack_for[kept]

    def _dual(self, price: Floats) -> Dual:
        """Return what the multipliers prove, computed from the cuts themselves: rounding in HiGHS cannot matter."""
        used = np.flatnonzero(price > 0).tolist()
        indices = [self.present[i] for i in used]
        price = price[used]
        M, cuts = self.cuts.growth.n_experts, self.cuts
        combined = np.zeros(M + len(cuts.weights) + 1)
        constant = 0.0
        if indices:
            combined = price @ np.array([cuts.rows[i] for i in indices])
            constant = float(price @ np.array([cuts.limits[i] for i in indices]))
        left = cuts.weights - combined[M:-1]  # of theta; 0 but for rounding
        constant += float(np.maximum(left * cuts.lowest, left * cuts.highest).sum())
        return Dual(constant=constant, slope=-combined[:M], cuts=tuple(indices), multipliers=tuple(price.tolist()))
