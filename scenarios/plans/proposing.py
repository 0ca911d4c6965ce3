"""What a plan may propose: a subset, a k and each device's settings, with the costs that queues predict for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from moe2.selection import Problem
from moe2.selection.objective import Scorer
from scenarios.plans.settings import Legs, Predicted, alternatives, predict
from scenarios.runs.replicating import Assembly
from twin.servers.expert import Expert

__all__ = ["Proposal", "proposals"]

MAX_EXPERTS = 12
LATE = 1e9  # stands for an endless wait where a sum must stay finite; such a proposal never fits
WORTH = 0.02  # an expert is set otherwise than the scenario has it for this much less time or energy, relative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A subset, a k and settings, with what they are predicted to cost under load and to keep each expert busy."""

    subset: tuple[int, ...]
    k: int
    experts: tuple[Expert, ...]  # (N,) every expert of the scenario, as it is set
    value: float  # mean log-likelihood of the fused answer on validation prompts
    energy_j: float  # per request; NaN when unknown
    delay_s: NDArray[np.float64]  # (C,) mean by category
    busy: NDArray[np.float64]  # (N,) share of the time that each expert works with all its slots taken

    @property
    def names(self) -> list[str]:
        """The names of the experts kept."""
        return [self.experts[i].name for i in self.subset]

    def settings(self, given: Sequence[Expert]) -> dict[str, int]:
        """Return the largest batch of each expert kept that is set otherwise than given, by name."""
        return {
            self.experts[i].name: self.experts[i].max_batch
            for i in self.subset
            if self.experts[i].max_batch != given[i].max_batch
        }


def proposals(
    whole: Assembly, ks: Sequence[int], max_batches: Sequence[int] | None = None, *, tuned: bool = True
) -> list[Proposal]:
    """Return every subset, k and setting whose predicted costs fit and that keeps no expert busy all the time.

    `whole` keeps all experts. The best value comes first; ties: smaller k, then fewer experts, then the setting that
    uses less of its budgets. Two k that ask the same experts count once. Without `tuned` experts stay as they are set.
    """
    assert whole.routing is not None, "the caller checked that there is a router"  # noqa: S101
    problem, n = whole.routing.problem, len(whole.all_experts)
    if n > MAX_EXPERTS:
        raise ValueError(f"planning tries every subset: {n} experts found, at most {MAX_EXPERTS} are allowed")
    choices = [alternatives(e, max_batches) if tuned else (e,) for e in whole.all_experts]
    lengths = _lengths(whole)
    found: list[Proposal] = []
    for k in sorted(set(ks)):
        scorer = Scorer.of(replace(problem, k=k, costs="expected"), "fused")
        for size in range(k, n + 1):
            for subset in combinations(range(n), size):
                found += _settings(scorer, subset, choices, lengths, whole.requests_per_s)
    fitting = [p for p in found if _fits(problem, p) and p.busy[list(p.subset)].min() > 0]  # every expert is asked
    return sorted(fitting, key=lambda p: (-p.value, p.k, len(p.subset), _use(problem, p)))


def _lengths(whole: Assembly) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the tokens of each validation prompt, (n,), and of each expert's answer to it, (n, N)."""
    routing = whole.routing
    assert routing is not None, "the caller checked that there is a router"  # noqa: S101
    here = routing.answers.for_models([e.profile.model for e in whole.all_experts]).of(
        routing.answers.rows("validation")
    )
    prefix = getattr(whole.file.load, "prompt_prefix_tokens", 0)
    return (here.prompt_tokens + prefix).astype(np.float64), here.output_tokens.astype(np.float64)


def _settings(
    scorer: Scorer,
    subset: tuple[int, ...],
    choices: Sequence[tuple[Expert, ...]],
    lengths: tuple[NDArray[np.float64], NDArray[np.float64]],
    requests_per_s: float,
) -> Iterator[Proposal]:
    """Yield a subset as the scenario sets its experts, and where that is worth it set for time and for energy."""
    chosen = _chosen(scorer, subset)
    prompt, output = lengths
    share = chosen.mean(axis=0)
    predicted = []
    for i, options in enumerate(choices):
        legs = Legs(
            per_s=requests_per_s * float(share[i]),
            prompt_tokens=prompt[chosen[:, i]],
            output_tokens=output[chosen[:, i], i],
        )
        predicted.append([predict(e, legs) for e in (options if i in subset else options[:1])])
    given = (0,) * len(choices)
    quick = tuple(_least(p, alone_s) for p, alone_s in zip(predicted, _alone_s(scorer, chosen), strict=True))
    thrifty = tuple(_least(p, None) for p in predicted)
    value = scorer.fused(subset)
    for taken in dict.fromkeys((given, quick, thrifty)):
        experts = tuple(options[i] for options, i in zip(choices, taken, strict=True))
        at = [options[i] for options, i in zip(predicted, taken, strict=True)]
        yield _proposal(scorer, subset, chosen, value=value, experts=experts, predicted=at)


def _chosen(scorer: Scorer, subset: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which experts each prompt asks, (n, N): the k of the subset that the gate prefers."""
    kept = np.isin(scorer.order, subset)
    in_order = kept & (np.cumsum(kept, axis=1) <= scorer.problem.k)
    chosen = np.zeros_like(kept)
    np.put_along_axis(chosen, scorer.order, in_order, axis=1)
    return chosen


def _alone_s(scorer: Scorer, chosen: NDArray[np.bool_]) -> list[float]:
    """Return the mean seconds of a lone leg of each expert, over the prompts that ask it."""
    count = np.maximum(chosen.sum(axis=0), 1)
    return list((np.where(chosen, scorer.problem.delay_s, 0.0).sum(axis=0) / count).tolist())


def _least(predicted: Sequence[Predicted], alone_s: float | None) -> int:
    """Return the setting of least delay, or of least energy where no seconds are given; 0 unless it is worth it."""

    def cost(p: Predicted) -> float:
        return p.thrift if alone_s is None else p.slower * alone_s + p.wait_s

    best = min(range(len(predicted)), key=lambda i: cost(predicted[i]))
    return best if cost(predicted[best]) < (1 - WORTH) * cost(predicted[0]) else 0


def _proposal(
    scorer: Scorer,
    subset: tuple[int, ...],
    chosen: NDArray[np.bool_],
    *,
    value: float,
    experts: tuple[Expert, ...],
    predicted: Sequence[Predicted],
) -> Proposal:
    problem = scorer.problem
    slower, wait_s, thrift = (
        np.array([getattr(p, name) for p in predicted]) for name in ("slower", "wait_s", "thrift")
    )
    asked_s = np.where(chosen, problem.delay_s, 0.0) * np.where(np.isinf(slower), LATE, slower)
    slowest_s = (asked_s + np.where(chosen, np.minimum(wait_s, LATE), 0.0)).max(axis=1)
    n_categories = len(problem.categories)
    count = np.maximum(np.bincount(problem.category, minlength=n_categories), 1)
    joules = np.where(chosen, problem.energy_j * thrift, 0.0).sum(axis=1).mean()
    return Proposal(
        subset=subset,
        k=problem.k,
        experts=experts,
        value=value,
        energy_j=float(joules + problem.idle_j_per_request[list(subset)].sum()),
        delay_s=np.bincount(problem.category, slowest_s, n_categories) / count,
        busy=np.array([p.busy for p in predicted]),
    )


def _fits(problem: Problem, proposal: Proposal) -> bool:
    if proposal.busy.max() >= 1:
        return False
    if problem.energy_budget_j is not None and not proposal.energy_j <= problem.energy_budget_j:
        return False
    return bool(np.all(proposal.delay_s <= problem.delay_budget_s))


def _use(problem: Problem, proposal: Proposal) -> float:
    """Return the predicted use of the tightest budget."""
    uses = [float((proposal.delay_s / problem.delay_budget_s).max())]
    if problem.energy_budget_j is not None:
        uses.append(proposal.energy_j / problem.energy_budget_j)
    return max(uses)
