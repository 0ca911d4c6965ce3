"""Experts: one LLM on one device, with the settings of the server that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Literal, get_args

from calibration.costs import Costs
from calibration.profile import Profile, did_you_mean

Scheduler = Literal["prefill_first", "chunked"]
Memory = Literal["reserve", "paged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One LLM on one device: its cost models, and how much its server takes on at once.

    `max_batch` is in sequences, `kv_capacity_tokens` in tokens of prompt and output; `noise` draws residuals.
    `token_budget` is the most tokens of an iteration that `chunked` fills with prompts, `block_tokens` the size of
    a block of `paged` memory; each is ignored by the other choice. `profile` is that of the power mode at the start,
    `power_modes` has those that the device may be switched to, by name. After a crash, and with `loads_at_start`
    at 0 too, the model is loaded first: `load_s` seconds and `load_j` joules beyond idle (None: not known).
    """

    name: str
    device: str
    profile: Profile
    max_batch: int
    kv_capacity_tokens: int
    scheduler: Scheduler = "prefill_first"
    token_budget: int = 512
    kv: Memory = "reserve"
    block_tokens: int = 16
    noise: bool = False
    power_modes: Mapping[str, Profile] = field(default_factory=dict)
    load_s: float = 0.0
    load_j: float | None = 0.0
    loads_at_start: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip() or "|" in self.name:
            raise ValueError(f"expert {self.name!r}: a name must not be empty or contain '|', which joins names")
        if not self.device.strip():
            raise ValueError(f"expert {self.name!r}: device is empty; name the device that it runs on")
        for key in ("max_batch", "kv_capacity_tokens", "token_budget", "block_tokens"):
            found = getattr(self, key)
            if isinstance(found, bool) or not isinstance(found, int) or found < 1:
                raise ValueError(f"expert {self.name!r}: {key} is {found!r}, must be an integer of at least 1")
        for key, choices in (("scheduler", get_args(Scheduler)), ("kv", get_args(Memory))):
            if (found := getattr(self, key)) not in choices:
                raise ValueError(
                    f"expert {self.name!r}: {key} is {found!r}, must be one of {', '.join(choices)}"
                    f"{did_you_mean(str(found), choices)}"
                )
        for key in ("load_s", "load_j"):
            if (seconds := getattr(self, key)) is not None and not (isfinite(seconds) and seconds >= 0):
                raise ValueError(f"expert {self.name!r}: {key} is {seconds}, must be a finite number of at least 0")
        for profile in (self.profile, *self.power_modes.values()):
            if self.max_batch > 1 and profile.seconds.per_sequence is None:
                raise ValueError(
                    f"expert {self.name!r}: max_batch is {self.max_batch}, but profile {profile.name!r} has no "
                    "batch terms (decode_s.per_sequence is null); set max_batch = 1 or use a profile that has them"
                )
            if self.scheduler == "chunked" and profile.seconds.tile_tokens > 1:
                raise ValueError(
                    f"expert {self.name!r}: scheduler is chunked, but profile {profile.name!r} costs prompts by whole "
                    f"tiles of {profile.seconds.tile_tokens} tokens, which only prefill_first has; use that, or fit "
                    "the profile without --tiles"
                )

    @property
    def n_blocks(self) -> int:
        """Blocks of paged memory."""
        return self.kv_capacity_tokens // self.block_tokens

    def profile_in(self, mode: str | None) -> Profile:
        """Return the profile of a power mode; None is the mode at the start."""
        return self.profile if mode is None else self.power_modes[mode]

    def why_never(self, prompt_tokens: int, output_tokens: int) -> str | None:
        """Return why a leg of that size can never be served, or None when it can."""
        if self.kv == "reserve":
            need, have, unit = prompt_tokens + output_tokens, self.kv_capacity_tokens, "tokens"
        else:  # the last token's KV is never computed
            need, have, unit = -(-(prompt_tokens + output_tokens - 1) // self.block_tokens), self.n_blocks, "blocks"
        return None if need <= have else f"needs {need} {unit} of KV memory, {self.name} has {have}"


def coefficients(costs: Costs | None, pace: float = 1.0) -> tuple[float, float, float, float, float, float, float]:
    """Return a, b, c of prefill and d, e, f, g of decode, `pace` times; NaN when unknown.

    d + e·B + f·C is an iteration that only decodes, d + e·B + g·C the decoding of one that carries prompts too. A lone
    sequence's base holds what it costs, so an unknown cost per sequence is 0.
    """
    if costs is None:
        return (nan, nan, nan, nan, nan, nan, nan)
    a, b, c = costs.prefill
    d, e, f = costs.base, costs.per_sequence or 0.0, costs.per_context_token
    g = f + costs.mixed_per_context_token
    return (a * pace, b * pace, c * pace, d * pace, e * pace, f * pace, g * pace)
