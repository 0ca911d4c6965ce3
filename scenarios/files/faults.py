"""What befalls devices, as tables of the file, and as the twin takes it in one replication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scenarios.files.loads import Section
from twin.servers.faults import Crash, Fault, PowerSwitch, SlowDown, drawn_crashes
from twin.servers.outages import Outage, RandomOutages

__all__ = ["Faults", "PowerSwitchSpec", "faults_by_device"]

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CrashSpec(Section):
    """A device loses everything that is on it, and is repaired."""

    device: str
    at_s: Seconds = Field(description="When it is lost.")
    repaired_s: PositiveSeconds | None = Field(None, description="When it starts again; never when left out.")

    @model_validator(mode="after")
    def _in_order(self) -> CrashSpec:
        if self.repaired_s is not None and self.repaired_s <= self.at_s:
            raise ValueError(f"repaired_s = {self.repaired_s} must be later than at_s = {self.at_s}")
        return self


class SlowDownSpec(Section):
    """A device whose iterations take longer for a time, at the same power."""

    device: str
    at_s: Seconds = Field(description="When it begins.")
    ends_s: PositiveSeconds | None = Field(None, description="When it is over; never when left out.")
    factor: float = Field(gt=0, le=1000, description="How many times as long an iteration takes.")

    @model_validator(mode="after")
    def _in_order(self) -> SlowDownSpec:
        if self.ends_s is not None and self.ends_s <= self.at_s:
            raise ValueError(f"ends_s = {self.ends_s} must be later than at_s = {self.at_s}")
        return self


class OutageSpec(Section):
    """A link that carries nothing for a time: what is sent over it meanwhile waits until it is over."""

    link: Literal["access", "lan"] = Field(description="Users to gateway, or gateway to devices; both ways.")
    device: str | None = Field(None, description="With lan: only this device's link to it; all when left out.")
    at_s: Seconds = Field(description="When it begins.")
    ends_s: PositiveSeconds = Field(description="When it is over.")

    @model_validator(mode="after")
    def _in_order(self) -> OutageSpec:
        if self.ends_s <= self.at_s:
            raise ValueError(f"ends_s = {self.ends_s} must be later than at_s = {self.at_s}")
        if self.device is not None and self.link != "lan":
            raise ValueError(f'device = {self.device!r} goes with link = "lan"; the access link has no devices')
        return self

    def of_link(self) -> Outage:
        """Return the outage as the network takes it."""
        return Outage(at_s=self.at_s, ends_s=self.ends_s)


class Faults(Section):
    """What goes wrong: crashes drawn at random or at given instants, slow devices, links that are down."""

    mtbf_s: PositiveSeconds | None = Field(
        None, description="Mean time from a device's repair to its next crash, exponential; none are drawn without it."
    )
    mean_repair_s: PositiveSeconds | None = Field(None, description="Mean time to repair, exponential; with mtbf_s.")
    lan_mtbf_s: PositiveSeconds | None = Field(
        None, description="Mean time from an outage's end to the next of each device's link to the LAN, exponential."
    )
    mean_lan_outage_s: PositiveSeconds | None = Field(None, description="Its mean, exponential; with lan_mtbf_s.")
    devices: list[str] | None = Field(
        None, description="Devices that crash, or whose links are down, at random; all when left out."
    )
    crashes: list[CrashSpec] = Field(default_factory=list)
    slow_downs: list[SlowDownSpec] = Field(default_factory=list)
    outages: list[OutageSpec] = Field(default_factory=list)

    @model_validator(mode="after")
    def _both_means(self) -> Faults:
        if (self.mtbf_s is None) != (self.mean_repair_s is None):
            raise ValueError("give both of mtbf_s and mean_repair_s, or neither")
        if (self.lan_mtbf_s is None) != (self.mean_lan_outage_s is None):
            raise ValueError("give both of lan_mtbf_s and mean_lan_outage_s, or neither")
        return self

    def named_devices(self) -> list[str]:
        """Return every device that a fault names."""
        found = [*(self.devices or []), *(crash.device for crash in self.crashes), *(s.device for s in self.slow_downs)]
        return found + [outage.device for outage in self.outages if outage.device is not None]

    def outages_by_device(self) -> dict[str, list[Outage]]:
        """Return the stated outages of single devices' links."""
        found: dict[str, list[Outage]] = {}
        for outage in self.outages:
            if outage.device is not None:
                found.setdefault(outage.device, []).append(outage.of_link())
        return found

    def random_outages(self, devices: Sequence[str]) -> dict[str, RandomOutages]:
        """Return how the links of those of the devices are down at random that are."""
        if self.lan_mtbf_s is None or self.mean_lan_outage_s is None:
            return {}
        random = RandomOutages(mtbf_s=self.lan_mtbf_s, mean_s=self.mean_lan_outage_s)
        return {device: random for device in devices if self.devices is None or device in self.devices}


class PowerSwitchSpec(Section):
    """A device goes to another power mode, of which each of its experts has a profile."""

    device: str
    at_s: Seconds = Field(description="When it begins to switch.")
    mode: str = Field(description="A key of the experts' power_modes.")
    switch_s: Seconds = Field(description="Seconds without an iteration meanwhile.")
    switch_j: float = Field(ge=0, allow_inf_nan=False, description="Joules of the switch beyond idle.")


def faults_by_device(
    faults: Faults, switches: Sequence[PowerSwitchSpec], devices: Sequence[str], *, seed: int, stop_s: float
) -> dict[str, list[Fault]]:
    """Return what befalls the devices that run, in one replication; the others are switched off."""
    found: dict[str, list[Fault]] = {device: [] for device in devices}
    for device in devices:
        if faults.mtbf_s is not None and (faults.devices is None or device in faults.devices):
            found[device] += drawn_crashes(
                mtbf_s=faults.mtbf_s, mean_repair_s=faults.mean_repair_s or 0.0, device=device, seed=seed, stop_s=stop_s
            )
        for crash in (c for c in faults.crashes if c.device == device):
            found[device].append(Crash(at_s=crash.at_s, **_given(repaired_s=crash.repaired_s)))
        for slow in (s for s in faults.slow_downs if s.device == device):
            found[device].append(SlowDown(at_s=slow.at_s, factor=slow.factor, **_given(ends_s=slow.ends_s)))
        for switch in (s for s in switches if s.device == device):
            found[device].append(
                PowerSwitch(at_s=switch.at_s, mode=switch.mode, lasts_s=switch.switch_s, energy_j=switch.switch_j)
            )
    return found


def _given(**values: float | None) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}
