"""The way from a user to a server and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from twin.radio.record import RadioRecord
from twin.servers.outages import Outage, RandomOutages, held_s, merged

Instants = TypeVar("Instants", float, NDArray[np.float64])
Whole = int | NDArray[np.int64]
"""A number of tokens or a user, or one for each instant."""


class Access(Protocol):
    """The radio between users and access points during one run.

    Instants are asked for in the order of time, one by one or many at once (n,): the answers are the same. What is
    never carried before the run stops is so at +inf.
    """

    def up_s(self, sent_s: Instants, user: Whole, tokens: Whole) -> Instants:
        """Return when a prompt that a user sent at `sent_s` is at an access point."""
        ...

    def down_s(self, left_s: Instants, user: Whole, tokens: Whole) -> Instants:
        """Return when an answer that was at the access points at `left_s` is at its user."""
        ...

    def record(self, until_s: float) -> RadioRecord:
        """Return what was carried so far, and the handovers before `until_s`."""
        ...


class Radio(Protocol):
    """Users, access points and what is between them; `begin` lets a run of it start."""

    def begin(self, *, seed: int, stop_s: float) -> Access:
        """Return the radio of a run that nothing outlasts beyond `stop_s`; all its chance comes from `seed`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One-way delays in seconds: the access link from user to gateway, the LAN from gateway to devices.

    With a `radio`, a request is carried to an access point first, and the access delay is that of the wire from there.
    In an outage of the access link, of the LAN, or of a device's own link to the LAN, what is sent over it waits until
    it is over. Those of devices' links, by device, are stated, or drawn at random for every run, or both.
    """

    access_delay_s: float = 0.0
    lan_delay_s: float = 0.0
    radio: Radio | None = None
    access_outages: tuple[Outage, ...] = ()
    lan_outages: tuple[Outage, ...] = ()
    device_outages: Mapping[str, Sequence[Outage]] = field(default_factory=dict)
    random_outages: Mapping[str, RandomOutages] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, found in (("access_delay_s", self.access_delay_s), ("lan_delay_s", self.lan_delay_s)):
            if not (isfinite(found) and found >= 0):
                raise ValueError(f"network: {key} is {found} s, must be a finite number of at least 0")

    def begin(self, *, seed: int, stop_s: float) -> "Link":
        """Return the way of one run from users to servers and back; nothing is carried after `stop_s`."""
        access = None if self.radio is None else self.radio.begin(seed=seed, stop_s=stop_s)
        own = {device: list(outages) for device, outages in self.device_outages.items()}
        for device, random in self.random_outages.items():
            own.setdefault(device, []).extend(random.drawn(device, seed=seed, stop_s=stop_s))
        return Link(
            access_delay_s=self.access_delay_s,
            lan_delay_s=self.lan_delay_s,
            access=access,
            access_outages=merged(self.access_outages),
            lan_outages=merged(self.lan_outages),
            device_outages={device: merged([*self.lan_outages, *outages]) for device, outages in own.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The network of one run. Instants may be one (a float) or many (n,), asked for in the order of time.

    `device_outages` has the devices whose own link may be down: all outages on the way to each, the LAN's among them.
    """

    access_delay_s: float
    lan_delay_s: float
    access: Access | None = None
    access_outages: tuple[Outage, ...] = ()
    lan_outages: tuple[Outage, ...] = ()
    device_outages: Mapping[str, Sequence[Outage]] = field(default_factory=dict)

    def at_gateway_s(self, sent_s: Instants, user: Whole, prompt_tokens: Whole) -> Instants:
        """Return when a prompt that a user sent at `sent_s` is at the gateway; +inf when it never is.

        >>> Network(access_delay_s=0.5).begin(seed=0, stop_s=9.0).at_gateway_s(1.0, 0, 7)
        1.5
        """
        carried_s = sent_s if self.access is None else self.access.up_s(sent_s, user, prompt_tokens)
        return held_s(carried_s, self.access_outages) + self.access_delay_s

    def over_lan_s(self, left_s: Instants, device: str | None = None) -> Instants:
        """Return when what left the gateway at `left_s` is at a device, or what left the device is at the gateway.

        None is a device whose own link is never down.
        """
        outages = self.lan_outages if device is None else self.device_outages.get(device, self.lan_outages)
        return held_s(left_s, outages) + self.lan_delay_s

    def at_user_s(self, left_s: Instants, user: Whole, answer_tokens: Whole) -> Instants:
        """Return when an answer that left the gateway at `left_s` is at its user; +inf when it never is."""
        at_site_s = held_s(left_s, self.access_outages) + self.access_delay_s
        return at_site_s if self.access is None else self.access.down_s(at_site_s, user, answer_tokens)

    def record(self, until_s: float) -> RadioRecord | None:
        """Return what the radio carried, and the handovers before `until_s`; None without a radio."""
        return None if self.access is None else self.access.record(until_s)
