"""What the twin asks of a router; how it decides is not the twin's affair."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Router(Protocol):
    """Sends prompts to experts and fuses what they answer; decides in batches."""

    def route(self, prompt: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the experts of each prompt and their weights, both (n, k), best first.

        `prompt` (n,) are rows of the prompt pool. Experts are indices in the scenario's order, -1 where a
        prompt has fewer than k; weights sum to 1 along a row and are 0 at -1.
        """
        ...

    def answer(
        self,
        prompt: NDArray[np.intp],
        experts: NDArray[np.intp],
        weights: NDArray[np.float64],
        served: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the option that the served legs give together (n,), -1 for none, and whether it is right (n,).

        `experts`, `weights` and `served` are (n, k).
        """
        ...
