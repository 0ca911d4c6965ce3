"""The fine level: per prompt, the k experts of the subset with the highest gate values, and their fused answer.

Prompts come from a pool, so every decision is taken when a router is built, in one gate call; `route` looks rows
up. Whether prompts are routed one by one or together therefore changes nothing, not even the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe2.answers import Answers, find_model
from moe2.fusion import fuse, top_k
from moe2.gate import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledAnswers:
    """What each expert of a scenario answers to each prompt of the pool; several experts may share a model."""

    choice: NDArray[np.int8]  # (P, E) 0-based option, -1: no answer
    gold: NDArray[np.int8]  # (P,)
    n_options: NDArray[np.int8]  # (P,)

    @classmethod
    def of(cls, pool: Answers, models: Sequence[str]) -> "PooledAnswers":
        """Return the answers of experts that run `models`, in this order."""
        if not models:
            raise ValueError("a router needs at least one expert; the list of models is empty")
        columns = [find_model(model, pool.models) for model in models]
        return cls(choice=pool.choice[:, columns], gold=pool.gold, n_options=pool.n_options)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each expert is right, (P, E)."""
        return np.equal(self.choice, self.gold[:, None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Which experts each prompt of the pool is sent to, and with which weights; gate and baselines alike.

    `reachable` is False for a method that needs the right answer to decide. `votes` is what each expert counts for the
    option it names; None: its weight.
    """

    name: str
    pool: PooledAnswers
    experts: NDArray[np.intp]  # (P, k) best first, -1 where fewer than k
    weights: NDArray[np.float64]  # (P, k) rows sum to 1, 0 at -1
    reachable: bool = True
    votes: NDArray[np.float64] | None = None  # (P, E)

    def route(self, prompt: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the experts (n, k) of these rows of the pool, best first, -1 where fewer, and their weights."""
        self._check_rows(prompt)
        return self.experts.take(prompt, axis=0), self.weights.take(prompt, axis=0)  # faster than by index

    def answer(
        self,
        prompt: NDArray[np.intp],
        experts: NDArray[np.intp],
        weights: NDArray[np.float64],
        served: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the option (n,) fused from the legs that were served, and whether it is right.

        The option is -1, and wrong, where no leg was served or none of them gave an answer.
        """
        self._check_rows(prompt)
        # expert -1 reads the last column and is masked
        choice = np.where(served & (experts >= 0), self.pool.choice[prompt[:, None], experts], np.int8(-1))
        votes = weights if self.votes is None else self.votes[prompt[:, None], experts]
        option = fuse(choice, votes, self.pool.n_options[prompt])
        return option, np.equal(option, self.pool.gold[prompt])

    def answer_all_served(self, prompt: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return what `answer` does for these rows where every leg that `route` asks for is served."""
        experts, weights = self.route(prompt)
        return self.answer(prompt, experts, weights, np.ones(experts.shape, dtype=np.bool_))

    def _check_rows(self, prompt: NDArray[np.intp]) -> None:
        if prompt.size and not 0 <= prompt.min() <= prompt.max() < len(self.experts):
            raise ValueError(
                f"prompt rows go from {prompt.min()} to {prompt.max()}; the pool has rows 0 to {len(self.experts) - 1}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRouter(Router):
    """The router that asks the k experts of the subset with the highest gate values."""

    @classmethod
    def of(
        cls, *, gate: Gate, answers: Answers, models: Sequence[str], k: int, subset: Sequence[int] | None = None
    ) -> "GateRouter":
        """Return the router of a scenario.

        Args:
            gate: one output per model of the answers table it was trained on.
            answers: the prompt pool that `route` takes rows of; may hold fewer models than the gate.
            models: model of each expert, in the scenario's order.
            k: experts asked per request.
            subset: indices of the experts kept; all when None.

        Raises ValueError when the gate was not trained for a model or for the table's encoder, when a model has no
        answers, when the subset is empty or names an expert that does not exist, or when k is below 1.
        """
        gate.check_encoder(answers)
        kept = list(range(len(models))) if subset is None else sorted(set(subset))
        if not kept or not set(kept) <= set(range(len(models))):
            raise ValueError(f"subset {kept}: must name at least one of the experts 0 to {len(models) - 1}")
        pool = PooledAnswers.of(answers, models)
        logits, votes = gate.logits_and_votes(answers.embedding, models, pool.choice)  # (P, E) both
        experts, weights = top_k(np.where(np.isin(np.arange(len(models)), kept), logits, -np.inf), k)
        return cls(name=f"gate, k = {k}", pool=pool, experts=experts, weights=weights, votes=votes)
