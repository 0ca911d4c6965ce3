"""What a plan may propose: a subset, a k and each device's settings, with the costs that queues predict for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from moe2.selection import Problem
from moe2.selection.objective import Scorer
from scenarios.plans.modes import Mode, slowed
from scenarios.plans.plant import Plant, Setting
from scenarios.plans.settings import Legs, Predicted, predict
from twin.servers.expert import Expert

__all__ = ["Proposal", "proposals"]

MAX_EXPERTS = 12
LATE = 1e9  # stands for an endless wait where a sum must stay finite; such a proposal never fits
MISSED_J, MISSED_S = 0.05, 0.3  # by so much a prediction may be too high, relative: the twin then judges
WORTH = 0.02  # an expert is set otherwise than the scenario has it for this much less time or energy, relative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A subset, a k and settings, with what they are predicted to cost under load and to keep each expert busy."""

    subset: tuple[int, ...]
    k: int
    experts: tuple[Expert, ...]  # (N,) every expert of the scenario, as it is set
    modes: Mapping[str, Mode]  # of the devices of the experts kept
    value: float  # mean log-likelihood of the fused answer on validation prompts
    energy_j: float  # per request; NaN when unknown
    delay_s: NDArray[np.float64]  # (C,) mean by category
    busy: NDArray[np.float64]  # (N,) share of the time that each expert works with all its slots taken

    @property
    def names(self) -> list[str]:
        """The names of the experts kept."""
        return [self.experts[i].name for i in self.subset]

    def max_batches(self, given: Sequence[Expert]) -> dict[str, int]:
        """Return the largest batch of each expert kept that is set otherwise than given, by name."""
        return {
            self.experts[i].name: self.experts[i].max_batch
            for i in self.subset
            if self.experts[i].max_batch != given[i].max_batch
        }

    def set_otherwise(self, given: Sequence[Expert]) -> list[str]:
        """Return in words what is set otherwise than given: the modes of devices and the batches of experts."""
        modes = [f"{device} in mode {mode}" for device, mode in self.modes.items() if mode is not None]
        return [*modes, *(f"max_batch = {batch} at {name}" for name, batch in self.max_batches(given).items())]


def proposals(plant: Plant, ks: Sequence[int]) -> list[Proposal]:
    """Return every subset, k and setting whose predicted costs fit and that keeps no expert busy all the time.

    The best value comes first; ties: smaller k, then fewer experts, then the setting that uses less of its budgets.
    Two k that ask the same experts count once. ValueError for more than twelve experts.
    """
    problem, n = plant.problem, len(plant.problem.experts)
    if n > MAX_EXPERTS:
        raise ValueError(f"planning tries every subset: {n} experts found, at most {MAX_EXPERTS} are allowed")
    found: list[Proposal] = []
    for k in sorted(set(ks)):
        scorer = Scorer.of(replace(problem, k=k, costs="expected"), "fused")
        for size in range(k, n + 1):
            for subset in combinations(range(n), size):
                found += _settings(scorer, plant, subset)
    fitting = [p for p in found if _fits(problem, p) and p.busy[list(p.subset)].min() > 0]  # every expert is asked
    return sorted(fitting, key=lambda p: (-p.value, p.k, len(p.subset), _use(problem, p)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Served:
    """An expert in one setting: what serving its part of the load takes."""

    expert: Expert
    predicted: Predicted
    delay_s: NDArray[np.float64]  # (n,) of a leg, its wait for a slot included
    energy_j: NDArray[np.float64]  # (n,) likewise
    idle_j: float
    means: tuple[float, float]  # seconds of a leg; joules per request, idle ones included


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """What a subset and a k ask of the experts kept."""

    problem: Problem
    subset: tuple[int, ...]
    chosen: NDArray[np.bool_]  # (n, S) which of them each prompt asks

    def costs(self, served: Sequence[_Served]) -> tuple[NDArray[np.float64], float]:
        """Return the mean delay by category in seconds, and the joules per request, of experts so set (S of them)."""
        problem, n_categories = self.problem, len(self.problem.categories)
        slowest_s = np.where(self.chosen, np.stack([s.delay_s for s in served], axis=1), 0.0).max(axis=1)
        joules = np.where(self.chosen, np.stack([s.energy_j for s in served], axis=1), 0.0).sum(axis=1).mean()
        count = np.maximum(np.bincount(problem.category, minlength=n_categories), 1)
        delay_s = np.bincount(problem.category, slowest_s, n_categories) / count
        return delay_s, float(joules + sum(s.idle_j for s in served))


def _settings(scorer: Scorer, plant: Plant, subset: tuple[int, ...]) -> Iterator[Proposal]:
    """Yield a subset as the scenario sets its devices, and as they are set for time, for energy and in between."""
    chosen = _chosen(scorer, subset)
    asked = _Asked(problem=scorer.problem, subset=subset, chosen=chosen)
    device = {i: plant.given[i].device for i in subset}
    served = {
        (i, mode): _serve(plant, i, mode, chosen[:, place])
        for place, i in enumerate(subset)
        for mode in plant.modes[device[i]]
    }
    styles = {at: (of[0], _least(of, _seconds), _least(of, _thrift)) for at, of in served.items()}
    value, seen = scorer.fused(subset), set()
    for modes in _assignments(asked, plant, device, {at: quick for at, (_, quick, _) in styles.items()}):
        for style in range(3):
            at = [styles[i, modes[device[i]]][style] for i in subset]
            if (same := tuple(map(id, at))) not in seen:
                seen.add(same)
                yield _proposal(asked, plant, at, modes=modes, k=scorer.problem.k, value=value)


def _assignments(
    asked: _Asked, plant: Plant, device: Mapping[int, str], quick: Mapping[Setting, _Served]
) -> Iterator[dict[str, Mode]]:
    """Yield the modes as given, then a chain of assignments from the quickest to the thriftiest."""
    kept = dict.fromkeys(device.values())
    yield dict.fromkeys(kept)

    def cost(modes: Mapping[str, Mode]) -> tuple[float, float]:
        delay_s, joules = asked.costs([quick[i, modes[device[i]]] for i in asked.subset])
        return float((delay_s / asked.problem.delay_budget_s).max()), joules

    choices = {}
    for name in kept:
        here = [i for i in asked.subset if device[i] == name]
        means = {m: np.sum([quick[i, m].means for i in here], axis=0) for m in plant.modes[name]}
        choices[name] = _front({mode: (float(s), float(j)) for mode, (s, j) in means.items()})
    yield from slowed(choices, cost)


def _front(means: Mapping[Mode, tuple[float, float]]) -> list[Mode]:
    """Return the modes that no other beats in both seconds and joules, the quickest first.

    >>> _front({"fast": (1.0, 9.0), "slow": (2.0, 5.0), "slower": (3.0, 5.0), "poor": (2.5, 9.5)})
    ['fast', 'slow']
    """
    found: list[Mode] = []
    for mode in sorted(means, key=means.__getitem__):
        if not found or means[mode][1] < (1 - WORTH) * means[found[-1]][1]:
            found.append(mode)
    return found


def _serve(plant: Plant, i: int, mode: Mode, asks: NDArray[np.bool_]) -> list[_Served]:
    """Return what serving the prompts that ask an expert takes in a mode, one for each of its servers."""
    alone_s, alone_j, idle_j = plant.delay_s[i, mode], plant.energy_j[i, mode], plant.idle_j[i, mode]
    legs = Legs(
        per_s=plant.requests_per_s * float(asks.mean()),
        prompt_tokens=plant.prompt_tokens[asks],
        output_tokens=plant.output_tokens[asks, i],
    )
    mean_s = float(alone_s[asks].mean()) if asks.any() else 0.0
    mean_j = float(np.where(asks, alone_j, 0.0).mean())
    found = []
    for expert in plant.options[i, mode]:
        p = predict(expert, legs)
        slower = LATE if np.isinf(p.slower) else p.slower
        found.append(
            _Served(
                expert=expert,
                predicted=p,
                delay_s=alone_s * slower + min(p.wait_s, LATE),
                energy_j=alone_j * p.thrift,
                idle_j=idle_j * p.idle,
                means=(mean_s * p.slower + p.wait_s, mean_j * p.thrift + idle_j * p.idle),
            )
        )
    return found


def _chosen(scorer: Scorer, subset: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which experts of the subset each prompt asks, (n, S): the k that the gate prefers."""
    kept = np.isin(scorer.order, subset)
    in_order = kept & (np.cumsum(kept, axis=1) <= scorer.problem.k)
    chosen = np.zeros_like(kept)
    np.put_along_axis(chosen, scorer.order, in_order, axis=1)
    return chosen[:, list(subset)]


def _seconds(served: _Served) -> float:
    return served.means[0]


def _thrift(served: _Served) -> float:
    return served.predicted.thrift


def _least(served: Sequence[_Served], cost: Callable[[_Served], float]) -> _Served:
    """Return the setting that costs least, the first of them unless it is worth it."""
    best = min(served, key=cost)
    return best if cost(best) < (1 - WORTH) * cost(served[0]) else served[0]


def _proposal(
    asked: _Asked, plant: Plant, at: Sequence[_Served], *, modes: Mapping[str, Mode], k: int, value: float
) -> Proposal:
    delay_s, energy_j = asked.costs(at)
    busy = np.zeros(len(plant.problem.experts))
    busy[list(asked.subset)] = [s.predicted.busy for s in at]
    experts = list(plant.given)
    for i, served in zip(asked.subset, at, strict=True):
        experts[i] = served.expert
    return Proposal(
        subset=asked.subset,
        k=k,
        experts=tuple(experts),
        modes=modes,
        value=value,
        energy_j=energy_j,
        delay_s=delay_s,
        busy=busy,
    )


def _fits(problem: Problem, proposal: Proposal) -> bool:
    if proposal.busy.max() >= 1:
        return False
    energy_budget_j = problem.energy_budget_j
    if energy_budget_j is not None and not proposal.energy_j <= (1 + MISSED_J) * energy_budget_j:
        return False
    return bool(np.all(proposal.delay_s <= (1 + MISSED_S) * problem.delay_budget_s))


def _use(problem: Problem, proposal: Proposal) -> float:
    """Return the predicted use of the tightest budget."""
    uses = [float((proposal.delay_s / problem.delay_budget_s).max())]
    if problem.energy_budget_j is not None:
        uses.append(proposal.energy_j / problem.energy_budget_j)
    return max(uses)
