"""The gateway: it sends each request to its experts and fuses what they answer, through the router."""

import numpy as np
from numpy.typing import NDArray

from twin.protocols import Router
from twin.users.load import Legs, Requests
from twin.users.prompts import PromptPool


def routed_legs(requests: Requests, router: Router, pool: PromptPool) -> Legs:
    """Return the legs of all requests, routed in one batch: the load is open, so no decision needs the clock.

    A request's own output tokens, where it has them, take the place of the pool's.
    """
    experts, weights = router.route(requests.prompt)  # (n, k) both
    n_experts = pool.output_tokens.shape[1]
    _check_routes(experts, weights, n_requests=len(requests), n_experts=n_experts)
    request, expert, weight = _asked(experts, weights)
    given = requests.output_tokens[request]
    known = given > 0
    tokens = given if known.all() else np.where(known, given, pool.output_tokens[requests.prompt[request], expert])
    return Legs(
        request=request,
        expert=expert,
        weight=weight,
        prompt_tokens=requests.prompt_tokens[request],
        output_tokens=tokens,
    )


def fused_answers(
    requests: Requests, legs: Legs, served: NDArray[np.bool_], router: Router
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the option that each request's legs give together (n,), -1 for none, and whether it is right (n,).

    `served` is per leg. Every request must have a prompt.
    """
    experts, weights, done = _side_by_side(legs, served, n_requests=len(requests))
    like = _first_alike(requests.prompt, experts, weights, done)
    asked = np.flatnonzero(like == np.arange(len(requests)))
    option, correct = router.answer(requests.prompt[asked], experts[asked], weights[asked], done[asked])
    asked_as = np.empty(len(requests), dtype=np.intp)
    asked_as[asked] = np.arange(len(asked))
    return option[asked_as[like]], correct[asked_as[like]]


def _asked(
    experts: NDArray[np.intp], weights: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the request, the expert and the weight of each leg: the places of (n, k) routes that name an expert."""
    n, k = experts.shape
    if np.all(experts >= 0):  # no need to look for them
        return np.repeat(np.arange(n), k), experts.ravel(), weights.ravel()
    request, place = np.nonzero(experts >= 0)
    return request, experts[request, place], weights[request, place]


def _side_by_side(
    legs: Legs, served: NDArray[np.bool_], *, n_requests: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """Return expert, weight and `served` of each request's legs, (n, k) each; -1, 0 and False where it has fewer."""
    first = legs.first()
    counts = np.diff(first, append=len(legs))
    k = int(counts.max())
    shape = (n_requests, k)
    if len(legs) == n_requests * k:  # all have as many
        return legs.expert.reshape(shape), legs.weight.reshape(shape), served.reshape(shape)
    place = np.arange(len(legs)) - np.repeat(first, counts)  # within its request
    experts, weights = np.full(shape, -1, dtype=np.intp), np.zeros(shape)
    done = np.zeros(shape, dtype=np.bool_)
    experts[legs.request, place] = legs.expert
    weights[legs.request, place] = legs.weight
    done[legs.request, place] = served
    return experts, weights, done


def _first_alike(prompt: NDArray[np.intp], *columns: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return for each request one with the same prompt and the same legs (n,), itself where there is none.

    What is fused is a function of these, and a pool has far fewer prompts than a run has requests.
    """
    own = np.arange(len(prompt))
    first = np.zeros(int(prompt.max()) + 1, dtype=np.intp)
    first[prompt[::-1]] = own[::-1]
    like = first[prompt]
    same = np.ones(len(prompt), dtype=np.bool_)
    for column in columns:
        for values in column.T:
            same &= values == values[like]
    return np.where(same, like, own)


def _check_routes(experts: NDArray[np.intp], weights: NDArray[np.float64], *, n_requests: int, n_experts: int) -> None:
    if experts.ndim != 2 or len(experts) != n_requests or weights.shape != experts.shape:
        raise ValueError(f"router: experts {experts.shape} and weights {weights.shape}, must both be ({n_requests}, k)")
    if experts.size and not (experts.min() >= -1 and experts.max() < n_experts):
        raise ValueError(f"router: expert {experts.min()} or {experts.max()}, allowed are 0 to {n_experts - 1}")
    if not np.all(np.any(experts >= 0, axis=1)):
        raise ValueError("router: a request has no expert; every request needs at least one")
