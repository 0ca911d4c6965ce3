"""The load: requests of users, and the legs that they become."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.randomness import streams
from twin.users.arrivals import poisson_arrivals_s
from twin.users.prompts import PromptPool
from twin.users.traces import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests in the order of (arrival, request id); every column is (n,).

    `request_id` is int64 when all ids are integers, else text. -1 stands for an unknown user, for a prompt that
    is not in the pool, and for output tokens that the expert's own answer decides.
    """

    request_id: NDArray[np.generic]
    user_id: NDArray[np.int64]
    prompt: NDArray[np.intp]
    category: NDArray[np.object_]
    arrived_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.request_id)
        if n == 0:
            raise ValueError("the load is empty: no request arrives; raise the rate or duration_s, or add rows")
        for name in ("user_id", "prompt", "category", "arrived_s", "prompt_tokens", "output_tokens"):
            if (found := len(getattr(self, name))) != n:
                raise ValueError(f"requests: {name} has {found} rows beside {n} request ids")
        if not np.all(self.arrived_s[1:] >= self.arrived_s[:-1]):
            raise ValueError("requests: arrived_s must not fall from one row to the next; sort the rows first")

    def __len__(self) -> int:
        return len(self.request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """Requests on experts, in the order of requests; every column is (n,).

    `request` is a row of the requests, `expert` an index in the scenario's order.
    """

    request: NDArray[np.intp]
    expert: NDArray[np.intp]
    weight: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.request)
        for name in ("expert", "weight", "prompt_tokens", "output_tokens"):
            if (found := len(getattr(self, name))) != n:
                raise ValueError(f"legs: {name} has {found} rows beside {n} requests")
        if not np.all(self.request[1:] >= self.request[:-1]):
            raise ValueError("legs: they must be in the order of their requests")
        for name in ("prompt_tokens", "output_tokens"):
            if n and (least := int(getattr(self, name).min())) < 1:
                raise ValueError(f"legs: {name} holds {least}, must be at least 1 everywhere")

    def __len__(self) -> int:
        return len(self.request)

    def first(self) -> NDArray[np.intp]:
        """Return the row of the first leg of each request that has any (requests,); a request's legs stand together."""
        return np.concatenate([[0], np.flatnonzero(self.request[1:] != self.request[:-1]) + 1])[: len(self)]

    def greatest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the greatest of the values (n,) of each request's legs (requests,); NaN wins."""
        first = self.first()
        k = len(self) // len(first)
        if len(self) == k * len(first) and np.array_equal(first, np.arange(0, len(self), k)):  # all have as many
            return np.asarray(np.maximum.reduce([values[place::k] for place in range(k)]))
        return np.asarray(np.maximum.reduceat(values, first))


def poisson_requests(
    *,
    requests_per_s: float,
    n_users: int,
    duration_s: float,
    pool: PromptPool,
    rows: NDArray[np.intp],
    prompt_prefix_tokens: int = 0,
    seed: int,
) -> Requests:
    """Return the requests of `n_users` alike who together send `requests_per_s`, a Poisson process.

    For a rate per user, multiply it by `n_users`: the sum of their processes is the same process. For the rest
    see `drawn_requests`.
    """
    arrivals = streams(seed)["arrivals"]
    return drawn_requests(
        poisson_arrivals_s(arrivals, requests_per_s=requests_per_s, duration_s=duration_s),
        n_users=n_users,
        pool=pool,
        rows=rows,
        prompt_prefix_tokens=prompt_prefix_tokens,
        seed=seed,
    )


def drawn_requests(
    arrived_s: NDArray[np.float64],
    *,
    n_users: int,
    pool: PromptPool,
    rows: NDArray[np.intp],
    prompt_prefix_tokens: int = 0,
    seed: int,
    trace: Trace | None = None,
) -> Requests:
    """Return requests at the instants given (n,), each of a user and with a prompt drawn at random.

    Prompts are drawn from `rows` of the pool, uniformly and with replacement; `prompt_prefix_tokens` are added to
    each. The lengths of a `trace`, whose instants these are, take the place of the pool's. More instants at the end
    leave the earlier requests as they were. Raises ValueError when none arrives.
    """
    if n_users < 1:
        raise ValueError(f"load: there are {n_users} users, must be at least 1")
    if prompt_prefix_tokens < 0:
        raise ValueError(f"load: prompt_prefix_tokens is {prompt_prefix_tokens}, must be at least 0")
    if len(rows) == 0:
        raise ValueError("load: there is no prompt to draw from; the pool's rows are empty")
    n, chance = len(arrived_s), streams(seed)
    if n == 0:
        raise ValueError("the load is empty: no request arrives; raise the rate or duration_s")
    prompt = np.asarray(rows, dtype=np.intp)[chance["prompts"].integers(len(rows), size=n)]
    return Requests(
        request_id=np.arange(n, dtype=np.int64),
        user_id=chance["users"].integers(n_users, size=n),
        prompt=prompt,
        category=pool.category.astype(object)[prompt],
        arrived_s=arrived_s,
        prompt_tokens=trace.prompt_tokens
        if trace
        else pool.prompt_tokens[prompt].astype(np.int64) + prompt_prefix_tokens,
        output_tokens=trace.output_tokens if trace else np.full(n, -1, dtype=np.int64),
    )


def with_users(requests: Requests, *, n_users: int, seed: int) -> Requests:
    """Return the requests, each of a user drawn at random, as those of a drawn load are."""
    return replace(requests, user_id=streams(seed)["users"].integers(n_users, size=len(requests)))


def ranks(request_id: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return the place of each id in their order: integers first and as integers, then text.

    >>> ranks(np.array(["b", "10", "9", "a"], dtype=object)).tolist()
    [3, 1, 0, 2]
    """
    if request_id.dtype.kind in "iu":
        ids: NDArray[Any] = request_id
        if np.all(ids[1:] > ids[:-1]):
            return np.arange(len(ids))
        order = np.argsort(request_id, kind="stable")
    else:
        keys = [id_key(str(name)) for name in request_id]
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place


def id_key(request_id: str) -> tuple[int, int, str]:
    """Return the sorting key of an id. '007' and '+7' are text: as integers they would lose their spelling."""
    if re.fullmatch(r"0|-?[1-9][0-9]{0,99}", request_id):
        return 0, int(request_id), ""
    return 1, 0, request_id
