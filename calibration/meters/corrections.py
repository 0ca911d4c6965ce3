"""Known biases of meters: each a stated correction with its source and uncertainty, off unless asked for."""

from dataclasses import asdict, dataclass
from typing import Any

from calibration.profile import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Multiply joules read under load by `loaded`, idle watts by `idle`; `uncertainty` is relative, of `loaded`.

    `meter` is how the name of the meter begins that it was found for.
    """

    name: str
    meter: str
    loaded: float
    idle: float
    uncertainty: float
    source: str

    def check(self, meter: str) -> None:
        """Raise ValueError for another meter than the one the bias was found on."""
        if not meter.startswith(self.meter):
            raise ValueError(
                f"correction {self.name!r} is of {self.meter}, this session's meter is {meter!r}; "
                "leave it out: a bias is of one kind of sensor"
            )

    def as_json(self) -> dict[str, Any]:
        """Return the correction as plain JSON, for manifests and evidence."""
        return asdict(self)


CORRECTIONS = (
    Correction(
        name="nvml-rtx-4090",
        meter="nvml on NVIDIA GeForce RTX 4090",
        loaded=1.020,
        idle=1.34,
        uncertainty=0.01,
        source="joules of an external meter over those of NVML on one RTX 4090, over a synthetic kernel of 6 s and "
        "while idle; over the whole series of 14 s, half of it idle, NVML reads 5.7 % low (GPU_Power_Benchmark, "
        "Transient_Response_4090; Yang, Adamek and Armour, SC 2024)",
    ),
)


def correction_named(name: str) -> Correction:
    """Return the correction of that name; ValueError with a near match."""
    known = {correction.name: correction for correction in CORRECTIONS}
    if name not in known:
        raise ValueError(f"correction {name!r}: must be one of {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]
