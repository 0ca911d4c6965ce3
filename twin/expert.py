"""Experts: one LLM on one device, with the settings of the server that serves it."""

from dataclasses import dataclass

from calibration.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One LLM on one device: its cost models, and how much its server takes on at once.

    `max_batch` is in sequences, `kv_capacity_tokens` in tokens of prompt and output; `noise` draws residuals.
    """

    name: str
    device: str
    profile: Profile
    max_batch: int
    kv_capacity_tokens: int
    noise: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip() or "|" in self.name:
            raise ValueError(f"expert {self.name!r}: a name must not be empty or contain '|', which joins names")
        if not self.device.strip():
            raise ValueError(f"expert {self.name!r}: device is empty; name the device that it runs on")
        for key, found in (("max_batch", self.max_batch), ("kv_capacity_tokens", self.kv_capacity_tokens)):
            if isinstance(found, bool) or not isinstance(found, int) or found < 1:
                raise ValueError(f"expert {self.name!r}: {key} is {found!r}, must be an integer of at least 1")
        if self.max_batch > 1 and self.profile.seconds.per_sequence is None:
            raise ValueError(
                f"expert {self.name!r}: max_batch is {self.max_batch}, but profile {self.profile.name!r} has no "
                "batch terms (decode_s.per_sequence is null); set max_batch = 1 or use a profile that has them"
            )
