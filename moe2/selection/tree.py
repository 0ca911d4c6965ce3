"""A search tree while it is written, which becomes the proof, and the parts of it that are still open."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moe2.selection.relaxation import Dual
from moe2.selection.result import Leaf, Node

UNSEEN = Leaf(why="dual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An open part of the tree: its place there, and the dual that bounds it so far."""

    index: int
    inside: NDArray[np.bool_]  # (M,)
    possible: NDArray[np.bool_]  # (M,) inside and open
    dual: Dual

    @property
    def open_(self) -> NDArray[np.bool_]:
        """Experts (M,) neither kept nor excluded."""
        return self.possible & ~self.inside

    @property
    def bound(self) -> float:
        """What no subset of the part exceeds."""
        return self.bound_by(self.dual)

    def bound_by(self, dual: Dual) -> float:
        """Return what another dual says of it."""
        return dual.bound(self.inside, self.open_)

    def side(self, place: int, *, kept: bool, index: int, dual: Dual) -> "Part":
        """Return the part of it that keeps an expert, or excludes it."""
        inside, possible = self.inside.copy(), self.possible.copy()
        inside[place], possible[place] = kept, kept
        return Part(index=index, inside=inside, possible=possible, dual=dual)


@dataclass(slots=True, kw_only=True)
class GrowingTree:
    """Nodes so far; the first is the root. Experts are given by their places among `experts`."""

    experts: NDArray[np.intp]  # (M,)
    nodes: list[Node | Leaf] = field(default_factory=lambda: [UNSEEN])

    def close(self, index: int, why: Leaf | Dual) -> None:
        """Write why nothing better lies here."""
        if isinstance(why, Dual):
            why = Leaf(why="dual", cuts=why.cuts, multipliers=why.multipliers)
        self.nodes[index] = why

    def drop(self, index: int, places: Sequence[int]) -> int:
        """Exclude experts that no longer fit; return the node that goes on."""
        if not places:
            return index
        names = tuple(self.experts[list(places)].tolist())
        self.nodes[index] = Node(dropped=names, expert=-1, without=len(self.nodes), including=-1)
        self.nodes.append(UNSEEN)
        return len(self.nodes) - 1

    def branch(self, index: int, place: int) -> tuple[int, int]:
        """Part the subsets without an expert from those with it; return both nodes."""
        first = len(self.nodes)
        self.nodes[index] = Node(dropped=(), expert=int(self.experts[place]), without=first, including=first + 1)
        self.nodes += [UNSEEN, UNSEEN]
        return first, first + 1
