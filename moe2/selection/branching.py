"""On which expert to branch: by what moving it was worth before, tried anew where little is known.

Reliability branching; Achterberg, Koch and Martin, "Branching rules revisited" (2005).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe2.selection.growth import Floats

TRIED = 20  # times both sides of an expert are tried before their mean is trusted
AT_ONCE = 16  # experts tried before one branching
WHOLE = 1e-6  # an expert closer to 0 or 1 is not branched on, unless all are
LEAST = 1e-7  # nats: two sides of which one gains nothing are still told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoCosts:
    """By how much the bound fell per unit by which an expert was moved; row 0: excluded, row 1: kept."""

    total: Floats  # (2, M) nats
    count: NDArray[np.intp]  # (2, M)

    @classmethod
    def of(cls, n_experts: int) -> "PseudoCosts":
        """Return what is known before anything was tried."""
        return cls(total=np.zeros((2, n_experts)), count=np.zeros((2, n_experts), dtype=np.intp))

    def learn(self, place: int, side: int, fall: float, moved: float) -> None:
        """Remember by how much the bound fell when an expert was moved to a side."""
        self.total[side, place] += max(fall, 0.0) / max(moved, WHOLE)
        self.count[side, place] += 1

    def scores(self, y: Floats, open_: NDArray[np.bool_]) -> Floats:
        """Return (M,) the product of the expected falls of both sides at y; -1 for what is not branched on."""
        overall = self.total.sum() / max(int(self.count.sum()), 1) or 1.0
        mean = np.where(self.count > 0, self.total / np.maximum(self.count, 1), overall)  # (2, M)
        product = np.maximum(mean[0] * y, LEAST) * np.maximum(mean[1] * (1 - y), LEAST)
        split = open_ & (y > WHOLE) & (y < 1 - WHOLE)
        return np.asarray(np.where(split if split.any() else open_, product, -1.0))

    @staticmethod
    def score(excluded: float, kept: float) -> float:
        """Return the product of the falls of both sides."""
        return max(excluded, LEAST) * max(kept, LEAST)

    def unsure(self, scores: Floats) -> list[int]:
        """Return the experts to try, best first."""
        known = self.count.min(axis=0) >= TRIED
        order = np.argsort(-np.where(known, -1.0, scores), kind="stable")[:AT_ONCE]
        return [place for place in order.tolist() if scores[place] >= 0 and not known[place]]
