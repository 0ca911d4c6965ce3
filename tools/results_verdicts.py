"""How often verdicts are wrong, on a queue whose mean delay is known: the section of docs/results.md on verdicts."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import beta

from scenarios.files.schema import Budgets
from scenarios.runs.result import until_decided
from scenarios.verdicts.judging import Evidence
from scenarios.verdicts.stability import growing_backlogs
from twin.records.tables import Tables

RATE, SERVICE_S, DURATION_S, WARMUP_S = 0.5, 1.0, 2000.0, 100.0
TRUTH_S = SERVICE_S + RATE * SERVICE_S**2 / (2 * (1 - RATE * SERVICE_S))  # Pollaczek and Khinchine, M/D/1
LOOKS = (8, 16, 32, 64)
REPETITIONS = 400
OFF = (-0.10, -0.05, -0.02, 0.02, 0.05, 0.10)  # how far the truth is from the budget


def sections(repetitions: int = REPETITIONS) -> Iterable[str]:
    """Yield the section's paragraphs; about two minutes with 400 repetitions."""
    yield "## How often a verdict is wrong"
    yield (
        f"A queue whose mean delay is known (M/D/1 at load {RATE * SERVICE_S:g}: {TRUTH_S:g} s, by Pollaczek and "
        f"Khinchine), judged like any scenario: replications of {DURATION_S:g} s added at {', '.join(map(str, LOOKS))} "
        f"until the budget is decided. Each row is {repetitions} repetitions with the truth that far from the budget. "
        "The bound is the one-sided 95 % lower bound on the rate of wrong verdicts (Clopper and Pearson); it must be "
        "at most 5 %."
    )
    rows = [
        "| truth − budget | wrong | lower bound | undecided | replications, mean |",
        "| --- | --- | --- | --- | --- |",
    ]
    for k, off in enumerate(OFF):
        found = [verdict(TRUTH_S / (1 + off), seed=1000 * k + i) for i in range(repetitions)]
        wrong = sum(status == ("violated" if off < 0 else "holds") for status, _ in found)
        undecided = sum(status == "undecided" for status, _ in found)
        bound = float(beta.ppf(0.05, wrong, repetitions - wrong + 1)) if wrong else 0.0
        spent = np.mean([n for _, n in found])
        rows.append(
            f"| {100 * off:+.0f} % | {wrong} of {repetitions} | {100 * bound:.1f} % | "
            f"{100 * undecided / repetitions:.0f} % | {spent:.0f} |"
        )
    yield "\n".join(rows)


def verdict(budget_s: float, *, seed: int) -> tuple[str, int]:
    """Return the verdict on a mean delay budget and the replications that it took."""
    runs: list[pd.DataFrame] = []
    random = np.random.default_rng(seed)

    def extend(first: int, size: int, level: float) -> Evidence:
        runs.extend(queue(random, i) for i in range(first, size))
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

    budgets = Budgets(delay_s=budget_s, delay_statistic="mean")
    evidence, verdicts = until_decided(budgets, LOOKS, extend)
    return verdicts[0].status, int(evidence.tables.requests["replication"].nunique())


def queue(random: np.random.Generator, replication: int) -> pd.DataFrame:
    """Return the requests of one run of the queue: Lindley's recursion, unrolled."""
    gaps_s = random.exponential(1 / RATE, int(1.5 * RATE * DURATION_S))
    arrived_s = np.cumsum(gaps_s)
    walk = np.concatenate([[0.0], np.cumsum(SERVICE_S - gaps_s[1:])])
    delay_s = walk - np.minimum.accumulate(walk) + SERVICE_S
    kept = arrived_s < DURATION_S
    n = int(kept.sum())
    return pd.DataFrame(
        {
            "replication": replication, "request_id": np.arange(n), "category": "all", "arrived_s": arrived_s[kept],
            "finished_s": (arrived_s + delay_s)[kept], "status": "served",
        }
    )  # fmt: skip
