"""A linear relaxation of "best coverage within the budgets", tightened by cuts, whose dual bounds any part of a tree.

Variables are y_n in [0, 1] and the mean value of each of four groups of prompts. Coverage is below the cuts of
Nemhauser and Wolsey (1981): max over S of v <= u + sum over S of (v - u)^+ for every level u. A worst-case cost is
submodular, so each order of the experts gives a lower bound on it that is linear in y (Edmonds 1970): the cost of
adding them one after the other. Cuts are made where the present solution breaks them.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from moe2.selection.growth import Floats, Growth
from moe2.selection.result import Cut

N_GROUPS = 4
SEEN = 1e-7  # a cut broken by less is not made


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
    tight: tuple[int, ...]  # cuts that the solution meets with equality


@dataclass(slots=True, kw_only=True)
class Relaxation:
    """The cuts found so far, and the linear program over any choice of them."""

    growth: Growth
    groups: NDArray[np.intp]  # (n,)
    weights: Floats  # (groups,) share of the prompts
    group_mean: Floats  # (groups, n)
    by_value: NDArray[np.intp]  # (n, M) experts, best first
    sorted_value: Floats  # (n, M)
    lowest: Floats  # (groups,) no subset is worth less
    highest: Floats
    penalty: float  # price of breaking a budget: keeps the program feasible
    cuts: list[Cut] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)  # each (M + groups + 1,)
    limits: list[float] = field(default_factory=list)
    n_solved: int = 0

    @classmethod
    def of(cls, growth: Growth) -> "Relaxation":
        """Return the relaxation without cuts."""
        n = len(growth.value)
        groups = np.arange(n) % min(N_GROUPS, n)
        member = (groups[None, :] == np.arange(groups.max() + 1)[:, None]).astype(float)
        group_mean = member / member.sum(axis=1, keepdims=True)
        by_value = np.argsort(-growth.value, axis=1, kind="stable")
        lowest = group_mean @ growth.value.min(axis=1)
        return cls(
            growth=growth,
            groups=groups,
            weights=member.sum(axis=1) / n,
            group_mean=group_mean,
            by_value=by_value,
            sorted_value=np.take_along_axis(growth.value, by_value, axis=1),
            lowest=lowest,
            highest=group_mean @ growth.value.max(axis=1),
            penalty=20.0 * (1.0 + float(-lowest.min())),
        )

    def separate(self, y: Floats, theta: Floats | None) -> list[int]:
        """Add the cuts that (y, theta) breaks, all of them when theta is None; return their indices."""
        before = len(self.cuts)
        self._cut_value(y, theta)
        order = np.argsort(-y, kind="stable")
        self._cut_delay(order, y, every=theta is None)
        if self.growth.energy_budget_j < inf:
            self._cut_energy(order, y, every=theta is None)
        return list(range(before, len(self.cuts)))

    def _cut_value(self, y: Floats, theta: Floats | None) -> None:
        enough = np.cumsum(y[self.by_value], axis=1) >= 1 - 1e-9
        enough[:, -1] = True
        u = self.sorted_value[np.arange(len(enough)), np.argmax(enough, axis=1)]  # (n,)
        excess = self.group_mean @ np.maximum(self.growth.value - u[:, None], 0.0)  # (groups, M)
        for g, constant in enumerate((self.group_mean @ u).tolist()):
            if theta is None or theta[g] > constant + excess[g] @ y + SEEN:
                self._add(Cut(kind="value", index=g, levels=u[self.groups == g]), -excess[g], g, constant)

    def _cut_delay(self, order: NDArray[np.intp], y: Floats, *, every: bool) -> None:
        g = self.growth
        steps = np.diff(np.maximum.accumulate(g.delay_s[:, order], axis=1), axis=1, prepend=0.0)  # (n, M)
        share = np.empty((len(g.mean), g.n_experts))
        share[:, order] = g.mean @ steps / g.delay_budget_s[:, None]
        for j, c in enumerate(g.categories.tolist()):
            if every or share[j] @ y > 1 + SEEN:
                self._add(Cut(kind="delay", index=c, order=g.experts[order]), share[j], None, 1.0)

    def _cut_energy(self, order: NDArray[np.intp], y: Floats, *, every: bool) -> None:
        g = self.growth
        displaced, total = g.energy_j[:, order], np.zeros(g.n_experts)
        for _ in range(min(g.k, g.n_experts)):
            top = np.maximum.accumulate(displaced, axis=1)  # the largest so far of what was passed down
            total += top.mean(axis=0)
            below = np.concatenate([np.zeros((len(top), 1)), top[:, :-1]], axis=1)
            displaced = np.minimum(displaced, below)
        share = np.empty(g.n_experts)
        share[order] = (np.diff(total, prepend=0.0) + g.idle_j[order]) / g.energy_budget_j
        if every or share @ y > 1 + SEEN:
            self._add(Cut(kind="energy", index=0, order=g.experts[order]), share, None, 1.0)

    def _add(self, cut: Cut, row: Floats, group: int | None, limit: float) -> None:
        tail = np.zeros(len(self.weights) + 1)
        tail[-1 if group is None else group] = -1.0 if group is None else 1.0
        self.cuts.append(cut)
        self.rows.append(np.concatenate([row, tail]))
        self.limits.append(limit)

    def solve(self, inside: NDArray[np.bool_], possible: NDArray[np.bool_], active: list[int]) -> Solved:
        """Return the best (y, theta) under the active cuts, y fixed to 1 inside and to 0 where not possible."""
        M = self.growth.n_experts
        A: Floats = np.array([self.rows[i] for i in active]).reshape(len(active), M + len(self.weights) + 1)
        b: Floats = np.array([self.limits[i] for i in active])
        low = np.concatenate([inside.astype(float), self.lowest, [0.0]])
        high = np.concatenate([possible.astype(float), self.highest, [np.inf]])
        cost: Floats = np.concatenate([np.zeros(M), -self.weights, np.array([self.penalty])])
        box: Any = list(zip(low.tolist(), high.tolist(), strict=True))
        found = linprog(cost, A_ub=A, b_ub=b, bounds=box, method="highs-ds")
        self.n_solved += 1
        if found.status != 0:
            raise RuntimeError(f"the relaxation was not solved: {found.message}")
        price = np.maximum(-found.ineqlin.marginals, 0.0)
        tight = tuple(i for i, slack in zip(active, found.slack.tolist(), strict=True) if slack < 1e-4)
        dual = self._dual(A, b, price, active)
        return Solved(y=found.x[:M], theta=found.x[M:-1], dual=dual, tight=tight)

    def _dual(self, A: Floats, b: Floats, price: Floats, active: list[int]) -> Dual:
        M = self.growth.n_experts
        combined = price @ A
        left = self.weights - combined[M:-1]  # of theta; 0 but for rounding
        constant = float(price @ b + np.maximum(left * self.lowest, left * self.highest).sum())
        used = np.flatnonzero(price > 0)
        return Dual(
            constant=constant,
            slope=-combined[:M],
            cuts=tuple(active[i] for i in used),
            multipliers=tuple(price[used].tolist()),
        )
