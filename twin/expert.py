"""Experts: one LLM on one device, with the settings of the server that serves it."""

from dataclasses import dataclass
from typing import Literal, get_args

from calibration.profile import Profile, did_you_mean

Scheduler = Literal["prefill_first", "chunked"]
Memory = Literal["reserve", "paged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One LLM on one device: its cost models, and how much its server takes on at once.

    `max_batch` is in sequences, `kv_capacity_tokens` in tokens of prompt and output; `noise` draws residuals.
    `token_budget` is the most tokens of an iteration that `chunked` fills with prompts, `block_tokens` the size of
    a block of `paged` memory; each is ignored by the other choice.
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
        if self.max_batch > 1 and self.profile.seconds.per_sequence is None:
            raise ValueError(
                f"expert {self.name!r}: max_batch is {self.max_batch}, but profile {self.profile.name!r} has no "
                "batch terms (decode_s.per_sequence is null); set max_batch = 1 or use a profile that has them"
            )

    @property
    def n_blocks(self) -> int:
        """Blocks of paged memory."""
        return self.kv_capacity_tokens // self.block_tokens

    def why_never(self, prompt_tokens: int, output_tokens: int) -> str | None:
        """Return why a leg of that size can never be served, or None when it can."""
        if self.kv == "reserve":
            need, have, unit = prompt_tokens + output_tokens, self.kv_capacity_tokens, "tokens"
        else:  # the last token's KV is never computed
            need, have, unit = -(-(prompt_tokens + output_tokens - 1) // self.block_tokens), self.n_blocks, "blocks"
        return None if need <= have else f"needs {need} {unit} of KV memory, {self.name} has {have}"
