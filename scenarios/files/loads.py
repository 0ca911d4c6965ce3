"""The loads of a scenario: its `[load]` table as types, and the requests that each of them draws."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from twin.randomness import streams
from twin.users.arrivals import diurnal_arrivals_s, gamma_arrivals_s, modulated_arrivals_s, poisson_arrivals_s
from twin.users.load import Requests, drawn_requests
from twin.users.prompts import PromptPool
from twin.users.traces import Trace, read_trace
from twin.users.visits import Visits, closed_loop, sessions

__all__ = [
    "ClosedLoop",
    "Count",
    "Diurnal",
    "Drawn",
    "Gamma",
    "Modulated",
    "Poisson",
    "RecordedRun",
    "RequestsFile",
    "Sessions",
    "TraceLoad",
    "Waiting",
    "draw_requests",
]

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
RateOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values are never converted from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Drawn(Section):
    """Requests that arrive at random, with prompts of the answers table."""

    prompt_prefix_tokens: int = Field(
        1000,
        ge=0,
        le=10_000_000,
        description="Tokens put before every prompt: the bundled answers were given behind five worked examples.",
    )

    @abstractmethod
    def planned_per_s(self, n_users: int) -> float:
        """Return the mean requests per second."""


class Poisson(Drawn):
    """Requests arrive at random, at a total rate or at a rate per user."""

    process: Literal["poisson"]
    requests_per_s: Rate | None = Field(None, description="Requests per second of all users together.")
    requests_per_s_per_user: Rate | None = Field(None, description="Requests per second of one user.")

    @model_validator(mode="after")
    def _one_rate(self) -> Poisson:
        if (self.requests_per_s is None) == (self.requests_per_s_per_user is None):
            raise ValueError("give exactly one of requests_per_s and requests_per_s_per_user")
        return self

    def planned_per_s(self, n_users: int) -> float:
        """Return the mean requests per second."""
        return self.requests_per_s or (self.requests_per_s_per_user or 0.0) * n_users


class Gamma(Drawn):
    """Bursty arrivals: gaps of a gamma distribution."""

    process: Literal["gamma"]
    requests_per_s: Rate = Field(description="Requests per second of all users together.")
    cv: Rate = Field(description="Coefficient of variation of the gaps; 1 is Poisson, above it bursty.")

    def planned_per_s(self, n_users: int) -> float:  # noqa: ARG002
        """Return the mean requests per second."""
        return self.requests_per_s


class State(Section):
    """A state of a Markov-modulated load."""

    requests_per_s: RateOrNone = Field(description="Requests per second of all users together in this state.")
    mean_s: Rate = Field(description="Seconds that the state lasts on average.")


class Modulated(Drawn):
    """Markov-modulated Poisson arrivals: the rate goes round its states, exponentially long in each."""

    process: Literal["mmpp"]
    states: list[State] = Field(min_length=2)

    def planned_per_s(self, n_users: int) -> float:  # noqa: ARG002
        """Return the mean requests per second over a whole round."""
        return sum(s.requests_per_s * s.mean_s for s in self.states) / sum(s.mean_s for s in self.states)

    @model_validator(mode="after")
    def _some_rate(self) -> Modulated:
        if all(s.requests_per_s == 0 for s in self.states):
            raise ValueError("no state sends a request; give one a requests_per_s above 0")
        return self


class Diurnal(Drawn):
    """Poisson arrivals whose rate follows the time of day."""

    process: Literal["diurnal"]
    requests_per_s: Rate = Field(description="Requests per second of all users together, mean of a period.")
    shape: list[RateOrNone] = Field(min_length=1, description="Relative rate in equal parts of the period.")
    period_s: Rate = Field(86_400.0, description="Length of a period; the run starts with its first part.")

    def planned_per_s(self, n_users: int) -> float:  # noqa: ARG002
        """Return the mean requests per second over a whole period."""
        return self.requests_per_s

    @model_validator(mode="after")
    def _some_rate(self) -> Diurnal:
        if not sum(self.shape):
            raise ValueError("shape has no part above 0; give the relative rate of each part of the period")
        return self


class TraceLoad(Section):
    """A public trace: its arrivals and token counts, with prompts drawn for their answers."""

    process: Literal["trace"]
    format: Literal["azure", "mooncake"] = Field(description="Whose form the file has.")
    path: str = Field(description="CSV file, may be gzipped, relative to the scenario's folder.")
    rate_scale: Rate = Field(1.0, description="How many times the trace's own rate.")


class RequestsFile(Section):
    """Requests are read from a CSV file."""

    process: Literal["requests"]
    path: str = Field(description="CSV file, relative to the scenario's folder.")


class Waiting(Drawn):
    """Users who wait for each answer, and think before they ask again."""

    think_s: Rate = Field(description="Seconds between an answer and the next question, mean or constant.")
    think: Literal["exponential", "constant"] = Field(
        "exponential", description="Drawn anew each time, or always the same."
    )

    @abstractmethod
    def visits(self, *, n_users: int, duration_s: float, seed: int) -> Visits:
        """Return when users begin and how they go on."""


class ClosedLoop(Waiting):
    """All users ask, wait, think and ask again for as long as the run lasts."""

    process: Literal["closed_loop"]

    def planned_per_s(self, n_users: int) -> float:
        """Return the requests per second if answers came at once: there can be no more."""
        return n_users / self.think_s

    def visits(self, *, n_users: int, duration_s: float, seed: int) -> Visits:  # noqa: ARG002
        """Return when users begin and how they go on."""
        return closed_loop(n_users=n_users, think_s=self.think_s, think=self.think, seed=seed)


class Sessions(Waiting):
    """Sessions begin at random; in each, every turn has all before it as its context."""

    process: Literal["sessions"]
    sessions_per_s: Rate = Field(description="Sessions that begin per second, of all users together.")
    turns: Annotated[int, Field(ge=1, le=10_000)] = Field(description="Questions of a session.")

    def planned_per_s(self, n_users: int) -> float:  # noqa: ARG002
        """Return the mean requests per second if no session ends early."""
        return self.sessions_per_s * self.turns

    def visits(self, *, n_users: int, duration_s: float, seed: int) -> Visits:
        """Return when users begin and how they go on."""
        return sessions(
            sessions_per_s=self.sessions_per_s,
            n_turns=self.turns,
            think_s=self.think_s,
            think=self.think,
            n_users=n_users,
            duration_s=duration_s,
            seed=seed,
        )


class RecordedRun(Section):
    """A recorded run played again: arrivals at the servers, lengths and routing are the record's."""

    process: Literal["recorded"]
    path: str = Field(description="Folder of the recorded run, relative to the scenario's folder.")


def draw_requests(
    load: Drawn | TraceLoad,
    *,
    path: Path | None,
    duration_s: float,
    n_users: int,
    pool: PromptPool,
    rows: NDArray[np.intp],
    seed: int,
) -> Requests:
    """Return the requests of one replication; `path` is where a trace is. ValueError for one that is wrong or empty."""
    trace = scaled_trace(path, load, duration_s) if isinstance(load, TraceLoad) and path else None
    return drawn_requests(
        trace.arrived_s if trace else _arrivals_s(load, n_users=n_users, duration_s=duration_s, seed=seed),
        n_users=n_users,
        pool=pool,
        rows=rows,
        prompt_prefix_tokens=getattr(load, "prompt_prefix_tokens", 0),
        seed=seed,
        trace=trace,
    )


def scaled_trace(path: Path, load: TraceLoad, duration_s: float) -> Trace:
    """Return the part of a trace that arrives in a run."""
    return _trace(path, load.format).sped_up(load.rate_scale, duration_s)


_trace = cache(read_trace)  # replications read it once


def _arrivals_s(load: Section, *, n_users: int, duration_s: float, seed: int) -> NDArray[np.float64]:
    chance = streams(seed)
    arrivals = chance["arrivals"]
    if isinstance(load, Gamma):
        return gamma_arrivals_s(arrivals, requests_per_s=load.requests_per_s, cv=load.cv, duration_s=duration_s)
    if isinstance(load, Diurnal):
        return diurnal_arrivals_s(
            arrivals,
            requests_per_s=load.requests_per_s,
            shape=load.shape,
            period_s=load.period_s,
            duration_s=duration_s,
        )
    if isinstance(load, Modulated):
        return modulated_arrivals_s(
            arrivals,
            chance["modulation"],
            requests_per_s=[state.requests_per_s for state in load.states],
            mean_s=[state.mean_s for state in load.states],
            duration_s=duration_s,
        )
    assert isinstance(load, Poisson), load  # noqa: S101 - no other kind
    return poisson_arrivals_s(arrivals, requests_per_s=load.planned_per_s(n_users), duration_s=duration_s)
