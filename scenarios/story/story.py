"""Everything that the report of one scenario tells, as plain tables and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import pandas as pd

from scenarios.verdicts.verdict import Status, Verdict

REQUEST_COLUMNS = ("replication", "request_id", "category", "arrived_s", "finished_s", "status")
LEG_COLUMNS = (
    "replication", "request_id", "expert", "device", "arrived_s", "started_s", "first_token_s", "finished_s",
    "status",
)  # fmt: skip
DEVICE_COLUMNS = (
    "replication", "device", "busy_s", "idle_s", "busy_energy_j", "idle_energy_j", "overhead_energy_j", "energy_j",
    "utilisation",
)  # fmt: skip
ACCURACY_COLUMNS = (
    "method", "kind", "accuracy", "low", "high", "diff_vs_best_single", "diff_low", "diff_high", "n", "note",
)  # fmt: skip
PROFILE_COLUMNS = (
    "expert", "device", "hardware", "model", "profile", "latency", "energy", "energy_scope", "source", "errors",
    "notes",
)  # fmt: skip
WORST_CASE_COLUMNS = ("category", "delay_s", "budget_s")
RUNNER_UP_COLUMNS = ("experts", "value", "energy_j", "feasible", "why")
LEFT_OUT_COLUMNS = ("expert", "why")

FIXED_ACCESS = "Users do not move and the radio does not fade: an access link is one fixed delay."
ON_THE_RADIO = (
    "The radio has no fast fading and no buildings of its own: sight and shadowing are drawn, walks are straight lines "
    "and a transfer keeps the rate that it began with."
)
STEADY_DEVICES = "Devices do not fail, throttle when hot or change their power mode during a run."
FREE_GATE = "The gate's own computation costs no time and no energy."
NOT_MODELLED = (
    FIXED_ACCESS,
    STEADY_DEVICES,
    "Sending bytes costs no time beyond the stated delays and no energy.",
    FREE_GATE,
    "An expert's answer to a prompt is the one it once gave: answers do not vary between runs.",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset:
    """The experts that were kept, how they were chosen, and what was not.

    Attributes:
        experts: names of the experts kept.
        how: one sentence: how the subset came about, with the status of its certificate.
        value: objective of the subset; None when it was not computed.
        value_meaning: what `value` is, in words.
        energy_j: worst-case joules per request, idle share included; None when not known.
        energy_budget_j: the budget it was held against; None without one.
        worst_case: delay of each category in the worst case without load (category, delay_s, budget_s; NaN: none).
        runners_up: other subsets (experts joined by ", ", value, energy_j, feasible, why).
        left_out: experts that were not kept (expert, why).
    """

    experts: tuple[str, ...]
    how: str
    value: float | None = None
    value_meaning: str = "log-likelihood of the fused answer, mean over validation prompts"
    energy_j: float | None = None
    energy_budget_j: float | None = None
    worst_case: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(WORST_CASE_COLUMNS)))
    runners_up: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(RUNNER_UP_COLUMNS)))
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LEFT_OUT_COLUMNS)))

    def __post_init__(self) -> None:
        _check_columns("worst_case", self.worst_case, WORST_CASE_COLUMNS)
        _check_columns("runners_up", self.runners_up, RUNNER_UP_COLUMNS)
        _check_columns("left_out", self.left_out, LEFT_OUT_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Story:
    """One scenario, its runs and its verdicts; what the report and its figures are made of.

    Attributes:
        name: name of the scenario.
        description: one or two sentences on the plant and the load.
        service_need: the stated need the budgets come from; "" when the scenario states none.
        budgets_in_words: one sentence per budget.
        facts: (name, value) pairs that describe the set-up, such as ("Users", "200").
        overall: status of the whole: violated beats undecided beats holds.
        verdicts: one per budget.
        delay_statistic: "mean" or a percentile such as "p95".
        delay_budgets_s: category -> seconds; "default" holds for every category not named.
        requests: DESIGN's table with a `replication` column, warm-up included.
        legs: DESIGN's table with a `replication` column.
        devices: DESIGN's table with a `replication` column.
        accuracy: one row per method, on the test split; empty when no answers are known.
        subset: the experts kept; None when the load names its experts itself.
        profiles: one row per expert (provenance of latency and energy, scope, source, errors, notes).
        warnings: sentences a planner must read.
        not_modelled: sentences.
        radio: figures of the radio by their names in the summary; empty without one.
        cells: one row per access point, all runs together; empty without a radio.
        n_requests: requests that arrived after warm-up, all replications together.
        wall_s: seconds of computing.
        command: what to type to get the same result.
        recorded: whether real servers were measured; else all is simulated.
    """

    name: str
    description: str
    service_need: str
    budgets_in_words: Sequence[str]
    facts: Sequence[tuple[str, str]]
    overall: Status
    verdicts: Sequence[Verdict]
    delay_statistic: str
    delay_budgets_s: Mapping[str, float]
    requests: pd.DataFrame
    legs: pd.DataFrame
    devices: pd.DataFrame
    accuracy: pd.DataFrame
    subset: Subset | None
    profiles: pd.DataFrame
    warnings: Sequence[str] = ()
    not_modelled: Sequence[str] = NOT_MODELLED
    radio: Mapping[str, float] = field(default_factory=dict)
    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    seed: int
    replications: int
    duration_s: float
    warmup_s: float
    n_requests: int
    wall_s: float
    version: str
    command: str
    recorded: bool = False

    def __post_init__(self) -> None:
        _check_columns("requests", self.requests, REQUEST_COLUMNS)
        _check_columns("legs", self.legs, LEG_COLUMNS)
        _check_columns("devices", self.devices, DEVICE_COLUMNS)
        _check_columns("accuracy", self.accuracy, ACCURACY_COLUMNS)
        _check_columns("profiles", self.profiles, PROFILE_COLUMNS)

    def budget_s(self, category: str) -> float | None:
        """Return the delay budget of a category in seconds; None when it has none."""
        return self.delay_budgets_s.get(category, self.delay_budgets_s.get("default"))


def _check_columns(table: str, frame: pd.DataFrame, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        found = [str(name) for name in frame.columns]
        near = get_close_matches(missing[0], found, n=1)
        hint = f"; near match: {near[0]!r}" if near else ""
        raise ValueError(
            f"table {table!r} of the report has no column {missing[0]!r}; found {found}, needed {list(needed)}{hint}"
        )
