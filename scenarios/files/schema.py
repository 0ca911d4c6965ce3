"""The scenario file as types: every key, its unit in its name, its default and what is allowed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scenarios.files.faults import Faults, PowerSwitchSpec
from scenarios.files.gateway import Gateway
from scenarios.files.limits import check_size
from scenarios.files.loads import (
    ClosedLoop,
    Count,
    Diurnal,
    Gamma,
    Modulated,
    Poisson,
    RecordedRun,
    RequestsFile,
    Section,
    Sessions,
    TraceLoad,
)
from scenarios.files.surroundings import AccessPoints, Network, Radio, Users, check_users_on_radio

__all__ = [
    "AccessPoints",
    "AddedPower",
    "Budgets",
    "ExpertSpec",
    "Network",
    "Poisson",
    "Radio",
    "RequestsFile",
    "Router",
    "ScenarioFile",
    "Users",
    "Verdicts",
    "json_schema",
]

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MOST_REPLICATIONS = 10_000
MOST_ASKED = 3  # where a scenario does not say how many


class Router(Section):
    """The gate, how many experts it picks, and from which subset."""

    gate: str = Field("bundled", description='"bundled" or a checkpoint written by `moe2 train`.')
    answers: str = Field("bundled", description='"bundled" or an answers table.')
    k: Count = Field(
        MOST_ASKED, description=f"Experts asked for each prompt; {MOST_ASKED}, or all of fewer, when left out."
    )
    subset: Literal["auto"] | list[str] = Field("auto", description='"auto" or a list of expert names.')


class AddedPower(Section):
    """Power of the host or board that a profile's energy leaves out, drawn at all times."""

    power_w: float = Field(ge=0, allow_inf_nan=False)
    scope: Literal["gpu", "module", "board", "wall"] = Field(description="What the energy covers with it.")
    source: str = Field(min_length=1, description="Where the figure comes from.")


class ExpertSpec(Section):
    """One LLM on one device."""

    name: str = Field(min_length=1, description="How tables and other keys name it, by custom model@device.")
    device: str = Field(min_length=1, description="The machine; experts of one name share it.")
    profile: str = Field(description="A JSON file, relative to the scenario's folder, or a bundled name.")
    max_batch: Count = Field(1, description="Sequences that the server runs at once.")
    kv_capacity_tokens: Count = Field(16384, description="Tokens that its KV memory holds.")
    scheduler: Literal["prefill_first", "chunked"] = Field(
        "prefill_first", description="A prompt alone, or prompts in chunks beside the running sequences."
    )
    token_budget: Count = Field(512, description='Tokens of an iteration, with scheduler = "chunked".')
    kv: Literal["reserve", "paged"] = Field("reserve", description="KV memory held whole from admission, or grown.")
    block_tokens: Count = Field(16, description='Tokens of a block of memory, with kv = "paged".')
    noise: bool = Field(False, description="Draw the profile's residuals for every leg.")
    added_power: AddedPower | None = Field(None, description="What the profile's energy leaves out.")
    power_modes: dict[str, str] = Field(
        {}, description="The profile in each power mode that the device may be switched to, by the mode's name."
    )
    load_model_s: Seconds = Field(0.0, description="Seconds to load the model, after a crash.")
    load_model_j: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Joules of that beyond idle; not known when left out."
    )
    load_model_at_start: bool = Field(False, description="Load the model at the start of the run too.")


class Budgets(Section):
    """What has to hold. A budget that is left out is not judged."""

    need: str = Field("", description="The service need behind the numbers, in words.")
    energy_j_per_request: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Joules of all devices, idle ones too, by requests served."
    )
    delay_s: PositiveSeconds | dict[str, PositiveSeconds] | None = Field(
        None, description="One number, or a table by category in which `default` serves the others."
    )
    delay_statistic: Literal["mean", "p50", "p95", "p99"] = Field(
        "p95", description="What of the delay is judged; to a percentile an unanswered request is infinitely late."
    )
    served_share: Probability = Field(0.99, description="Least share served for a mean delay to hold.")

    def delay_by_category_s(self) -> dict[str, float]:
        """Return the delay budgets in seconds by category, `default` among them if given."""
        if self.delay_s is None:
            return {}
        return dict(self.delay_s) if isinstance(self.delay_s, dict) else {"default": self.delay_s}


class Verdicts(Section):
    """How sure a verdict has to be, and of what."""

    inputs: Literal["drawn", "nominal"] | None = Field(
        None,
        description="Whether the errors of the profiles count: every replication is then run a second time with drawn "
        "coefficients. They count unless the scenario has no randomness.",
    )
    max_replications: Annotated[int, Field(ge=1, le=MOST_REPLICATIONS)] | None = Field(
        None, description="Replications are doubled up to this number until every budget is decided."
    )


class ScenarioFile(Section):
    """A whole scenario."""

    name: str = Field(min_length=1, description="How results name it.")
    description: str = Field("", description="The question that the scenario asks, in one sentence.")
    duration_s: PositiveSeconds = Field(description="Seconds in which requests arrive.")
    warmup_s: Seconds | Literal["auto"] = Field(
        0.0, description='Requests that arrive earlier are simulated but not judged; "auto" finds it (MSER-5).'
    )
    drain_cap_s: Seconds = Field(3600.0, description="Time after duration_s for what is still in the system.")
    replications: int = Field(5, ge=1, le=MOST_REPLICATIONS, description="Independent runs, from which intervals come.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of all chance: the same seed, the same tables.")
    load: Annotated[
        Poisson | Gamma | Modulated | Diurnal | ClosedLoop | Sessions | TraceLoad | RequestsFile | RecordedRun,
        Field(discriminator="process"),
    ]
    users: Users = Users()
    network: Network = Network()
    router: Router = Router()
    experts: list[ExpertSpec] = Field(min_length=1)
    gateway: Gateway = Gateway()
    faults: Faults = Faults()
    power_switches: list[PowerSwitchSpec] = Field(default_factory=list)
    budgets: Budgets = Budgets()
    verdicts: Verdicts = Verdicts()

    @model_validator(mode="before")
    @classmethod
    def _all_of_few(cls, data: Any) -> Any:
        """Ask all experts where there are fewer than are asked by default."""
        if not isinstance(data, dict) or not isinstance(experts := data.get("experts"), list):
            return data
        router = data.get("router", {})
        if isinstance(router, dict) and "k" not in router and 0 < len(experts) < MOST_ASKED:
            return {**data, "router": {**router, "k": len(experts)}}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> ScenarioFile:
        check_users_on_radio(self.users, self.network)
        if self.warmup_s != "auto" and self.warmup_s >= self.duration_s:
            raise ValueError(f"warmup_s = {self.warmup_s} leaves nothing of duration_s = {self.duration_s} to judge")
        check_size(self.load, self.users.count, self.faults, duration_s=self.duration_s, drain_cap_s=self.drain_cap_s)
        self.gateway.check(self.router.k)
        if not isinstance(self.load, RequestsFile | RecordedRun):  # whose requests may name their experts
            self.check_asked()
        names = [e.name for e in self.experts]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"experts: name {twice[0]!r} is used twice; every expert needs its own name")
        return self

    def check_asked(self) -> None:
        """Raise ValueError where more experts are asked, or looked at, than there are.

        Of a subset that is smaller than k all are asked: what is kept may be the selector's choice.
        """
        n = len(self.experts)
        for key, asked in (("router.k", self.router.k), ("gateway.load_aware_top_m", self.gateway.load_aware_top_m)):
            if asked is not None and asked > n:
                raise ValueError(f"{key} = {asked}: there are {n} experts, so it should be at most {n}")

    @model_validator(mode="after")
    def _known_devices(self) -> ScenarioFile:
        known = sorted({e.device for e in self.experts})
        for where, named in (
            ("faults", self.faults.named_devices()),
            ("power_switches", [switch.device for switch in self.power_switches]),
        ):
            for device in named:
                if device not in known:
                    raise ValueError(f"{where}: no expert has device {device!r}; devices: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _known_modes(self) -> ScenarioFile:
        for switch in self.power_switches:
            for expert in self.experts:
                if expert.device == switch.device and switch.mode not in expert.power_modes:
                    raise ValueError(
                        f"power_switches: {switch.device!r} goes to mode {switch.mode!r}, which is not among the "
                        f"power_modes of expert {expert.name!r}: {', '.join(expert.power_modes) or 'it has none'}"
                    )
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, `extends` and `without` included."""
    schema = ScenarioFile.model_json_schema()
    schema["title"] = "moe2 scenario"
    schema.pop("required")  # a file that extends another may leave anything out
    schema["properties"] = {
        "extends": {"type": "string", "description": "A bundled scenario or a path: this file is a difference to it."},
        "without": {"type": "array", "items": {"type": "string"}, "description": "Experts of the base to drop."},
        **schema["properties"],
    }
    return schema
