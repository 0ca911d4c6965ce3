"""The way from a user to a server and back."""

from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Instants = TypeVar("Instants", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One-way delays in seconds: the access link from user to gateway, the LAN from gateway to devices."""

    access_delay_s: float = 0.0
    lan_delay_s: float = 0.0

    def __post_init__(self) -> None:
        for key, found in (("access_delay_s", self.access_delay_s), ("lan_delay_s", self.lan_delay_s)):
            if not (isfinite(found) and found >= 0):
                raise ValueError(f"network: {key} is {found} s, must be a finite number of at least 0")

    def at_server_s(self, sent_s: Instants) -> Instants:
        """Return when a request that a user sent at `sent_s` is at the servers.

        >>> Network(access_delay_s=0.5, lan_delay_s=0.25).at_server_s(1.0)
        1.75
        """
        return sent_s + self.access_delay_s + self.lan_delay_s

    def at_user_s(self, finished_s: Instants) -> Instants:
        """Return when an answer that left the last server at `finished_s` is at its user."""
        return finished_s + self.lan_delay_s + self.access_delay_s
