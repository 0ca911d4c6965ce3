"""Inequalities that every feasible subset obeys, made where a point breaks them.

Coverage is below the cuts of Nemhauser and Wolsey (1981): max over S of v <= u + sum over S of (v - u)^+ for every
level u. A worst-case cost is submodular, so each order of the experts gives a lower bound on it that is linear in y
(Edmonds 1970): the cost of adding them one after the other.
"""

from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from moe2.selection.growth import Floats, Growth
from moe2.selection.result import Cut

N_GROUPS = 8
SEEN = 1e-7  # a cut broken by less is not made


@dataclass(slots=True, kw_only=True)
class Cuts:
    """The cuts found so far, as rows over (y, the mean value of each group of prompts, price of breaking a budget)."""

    growth: Growth
    groups: NDArray[np.intp]  # (n,)
    weights: Floats  # (groups,) share of the prompts
    group_mean: Floats  # (groups, n)
    by_value: NDArray[np.intp]  # (n, M) experts, best first
    sorted_value: Floats  # (n, M)
    lowest: Floats  # (groups,) no subset is worth less
    highest: Floats
    made: list[Cut] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)  # each (M + groups + 1,)
    limits: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, growth: Growth) -> "Cuts":
        """Return no cuts yet."""
        n = len(growth.value)
        groups = np.arange(n) % min(N_GROUPS, n)
        member = (groups[None, :] == np.arange(groups.max() + 1)[:, None]).astype(float)
        group_mean = member / member.sum(axis=1, keepdims=True)
        by_value = np.argsort(-growth.value, axis=1, kind="stable")
        return cls(
            growth=growth,
            groups=groups,
            weights=member.sum(axis=1) / n,
            group_mean=group_mean,
            by_value=by_value,
            sorted_value=np.take_along_axis(growth.value, by_value, axis=1),
            lowest=group_mean @ growth.value.min(axis=1),
            highest=group_mean @ growth.value.max(axis=1),
        )

    def separate(self, y: Floats, theta: Floats | None) -> list[int]:
        """Add the cuts that (y, theta) breaks, all of them when theta is None; return their indices."""
        before = len(self.made)
        self._cut_value(y, theta)
        order = np.argsort(-y, kind="stable")
        self._cut_delay(order, y, every=theta is None)
        if self.growth.energy_budget_j < inf:
            self._cut_energy(order, y, every=theta is None)
        return list(range(before, len(self.made)))

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
        self.made.append(cut)
        self.rows.append(np.concatenate([row, tail]))
        self.limits.append(limit)
