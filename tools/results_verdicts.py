"""How often verdicts are wrong, on queues with a known answer: the section of docs/results.md on verdicts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from scenarios.files.schema import Budgets
from scenarios.runs.result import until_decided
from scenarios.verdicts.judging import Evidence
from scenarios.verdicts.stability import growing_backlogs
from twin.records.tables import Tables

RATE, SERVICE_S, DURATION_S, WARMUP_S = 0.5, 1.0, 2000.0, 100.0
LOOKS = (8, 16, 32, 64)
REPETITIONS = 400
OFF = (-0.10, -0.05, -0.02, 0.02, 0.05, 0.10)  # how far the truth is from the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A queue at load 0.5 of which one figure of the delay, service included, is known."""

    words: str
    statistic: Literal["mean", "p95"]
    truth_s: float
    services_s: Callable[[np.random.Generator, int], NDArray[np.float64]]


SYSTEMS = (
    System(
        words="mean delay is known (M/D/1 at load {load:g}: {truth_s:.4g} s, by Pollaczek and Khinchine)",
        statistic="mean",
        truth_s=SERVICE_S + RATE * SERVICE_S**2 / (2 * (1 - RATE * SERVICE_S)),
        services_s=lambda random, n: np.full(n, SERVICE_S),  # noqa: ARG005
    ),
    System(
        words="95th percentile is known (M/M/1 at load {load:g}: {truth_s:.4g} s, since the delay is exponential with "
        "rate μ − λ, so p95 = ln 20 / (μ − λ))",
        statistic="p95",
        truth_s=log(20) / (1 / SERVICE_S - RATE),
        services_s=lambda random, n: random.exponential(SERVICE_S, n),
    ),
)


def sections(repetitions: int = REPETITIONS) -> Iterable[str]:
    """Yield the section's paragraphs; about two minutes a system with 400 repetitions."""
    yield "## How often a verdict is wrong"
    for system in SYSTEMS:
        yield (
            f"A queue whose {system.words.format(load=RATE * SERVICE_S, truth_s=system.truth_s)}, judged like any "
            f"scenario: replications of {DURATION_S:g} s added at {', '.join(map(str, LOOKS))} until the budget is "
            f"decided. Each row is {repetitions} repetitions with the truth that far from the budget. The bound is the "
            "one-sided 95 % lower bound on the rate of wrong verdicts (Clopper and Pearson); it must be at most 5 %."
        )
        yield "\n".join([*HEAD, *(row(system, k, off, repetitions) for k, off in enumerate(OFF))])


HEAD = (
    "| truth − budget | wrong | lower bound | undecided | replications, mean |",
    "| --- | --- | --- | --- | --- |",
)


def row(system: System, k: int, off: float, repetitions: int) -> str:
    found = [verdict(system, system.truth_s / (1 + off), seed=1000 * k + i) for i in range(repetitions)]
    wrong = sum(status == ("violated" if off < 0 else "holds") for status, _ in found)
    undecided = sum(status == "undecided" for status, _ in found)
    bound = float(beta.ppf(0.05, wrong, repetitions - wrong + 1)) if wrong else 0.0
    spent = np.mean([n for _, n in found])
    return (
        f"| {100 * off:+.0f} % | {wrong} of {repetitions} | {100 * bound:.1f} % | "
        f"{100 * undecided / repetitions:.0f} % | {spent:.0f} |"
    )


def verdict(system: System, budget_s: float, *, seed: int) -> tuple[str, int]:
    """Return the verdict on a delay budget and the replications that it took."""
    runs: list[pd.DataFrame] = []
    random = np.random.default_rng(seed)

    def extend(first: int, size: int, level: float) -> Evidence:
        runs.extend(queue(system, random, i) for i in range(first, size))
        requests = pd.concat(runs, ignore_index=True)
        legs = requests.assign(expert="queue")
        return Evidence(
            experts=(),
            tables=Tables(requests=requests, legs=legs, devices=pd.DataFrame()),
            drawn=None,
            warmup_s=WARMUP_S,
            unstable=growing_backlogs(legs, DURATION_S),
            random=True,
            level=level,
        )

    budgets = Budgets(delay_s=budget_s, delay_statistic=system.statistic)
    evidence, verdicts = until_decided(budgets, LOOKS, extend)
    return verdicts[0].status, int(evidence.tables.requests["replication"].nunique())


def queue(system: System, random: np.random.Generator, replication: int) -> pd.DataFrame:
    """Return the requests of one run of the queue: Lindley's recursion, unrolled."""
    gaps_s = random.exponential(1 / RATE, int(1.5 * RATE * DURATION_S))
    arrived_s = np.cumsum(gaps_s)
    services_s = system.services_s(random, len(gaps_s))
    walk = np.concatenate([[0.0], np.cumsum(services_s[:-1] - gaps_s[1:])])
    delay_s = walk - np.minimum.accumulate(walk) + services_s
    kept = arrived_s < DURATION_S
    n = int(kept.sum())
    return pd.DataFrame(
        {
            "replication": replication, "request_id": np.arange(n), "category": "all", "arrived_s": arrived_s[kept],
            "finished_s": (arrived_s + delay_s)[kept], "status": "served",
        }
    )  # fmt: skip
