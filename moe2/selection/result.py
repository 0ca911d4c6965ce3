"""What a selection returns: the subset, how good it is, and a proof that another program can check."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe2.selection.problem import Objective, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One subset: its objective F and its costs."""

    subset: tuple[int, ...]  # indices of experts, ascending
    value: float  # F or F_max: nats per prompt
    delay_s: tuple[float, ...]  # by category; NaN for a category without prompts
    energy_j: float  # per request; NaN when unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One linear inequality that every feasible subset obeys, given by what it is made of.

    "value": for prompts `rows` and levels u (one per row), any subset's mean of max v is at most
    mean u + sum over its experts of mean (v - u)^+. "delay" of category `index`, and "energy": the cost of adding
    the experts in `order` one after the other, summed over the subset's experts, is at most the budget.
    """

    kind: Literal["value", "delay", "energy"]
    index: int  # group of prompts of a value cut, category of a delay cut
    levels: NDArray[np.float64] | None = None
    order: NDArray[np.intp] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A part of the search tree that needs no further look, and why: its best value is at most `bound`."""

    why: Literal["infeasible", "single", "coverage", "dual"]
    cuts: tuple[int, ...] = ()
    multipliers: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A branching of the search tree: without and with `expert`; `dropped` were excluded as they no longer fit."""

    dropped: tuple[int, ...]
    expert: int
    without: int  # index of the child
    including: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumeration:
    """Proof by trying every subset; the checker does so itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """Proof by vertices: each is split at a subset that does not fit, or at itself, or is worth too little.

    `splits` maps a vertex to the subset whose experts are dropped in turn to give its children.
    """

    splits: dict[frozenset[int], frozenset[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Proof by a search tree; `groups` assigns each prompt to one of the value cuts' groups."""

    groups: NDArray[np.intp]  # (n,)
    cuts: tuple[Cut, ...]
    nodes: tuple[Node | Leaf, ...]  # the first is the root


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The claim that `subset` fits, is worth `value`, and that nothing that fits is worth more than `upper_bound`.

    An empty subset with a bound of -inf claims that nothing fits. `moe2.certificate.verify` checks it without the
    solvers' code.
    """

    problem: Problem
    objective: Objective
    subset: tuple[int, ...]
    value: float
    upper_bound: float
    proof: Enumeration | Cover | Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen subset, how good it is, and what stood beside it."""

    method: str
    objective: Objective
    subset: tuple[int, ...]  # ascending; empty when infeasible, or (expected costs only) when none was found in time
    value: float  # of the objective, nats per prompt; -inf for an empty subset
    fused_value: float  # F of the subset, whatever the objective
    upper_bound: float  # no subset that fits is worth more
    gap: float  # upper_bound - value; 0 when infeasible
    status: Literal["optimal", "gap", "infeasible"]
    reason: str  # why there is no subset; empty otherwise
    certificate: Certificate
    n_evaluated: int  # subsets, nodes or relaxations looked at
    seconds: float
    delay_s: tuple[float, ...]  # by category
    energy_j: float  # per request; NaN when unknown
    alternatives: tuple[Candidate, ...] = ()  # the next best feasible subsets, where all were tried
    refused: tuple[Candidate, ...] = ()  # the best of the subsets that would be better but break a budget
    left_out: tuple[int, ...] = ()  # experts whose energy is unknown, under an energy budget
