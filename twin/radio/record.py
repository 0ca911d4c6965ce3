"""What the radio of a run did, as columns: transfers up and down, and handovers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.radio.sites import Sites

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """What was sent in one direction, as it was asked for; columns (n,).

    `begun_s` and `ended_s` are +inf for what was never carried; `site` carried it, or served the user at the end.
    `waited` tells whether there was no coverage at first.
    """

    user: Integers
    sent_s: Floats
    begun_s: Floats
    ended_s: Floats
    site: Integers
    waited: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def carried(self) -> NDArray[np.bool_]:
        """Which were carried at all (n,)."""
        return np.isfinite(self.ended_s)

    @property
    def lasted_s(self) -> Floats:
        """Seconds from being sent to being there (n,), waiting included; +inf for what was never carried."""
        return self.ended_s - self.sent_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Handovers:
    """Handovers in the order of time, those of one instant by user; columns (n,). Sites by their index."""

    user: Integers
    at_s: Floats
    from_site: Integers
    to_site: Integers

    def __len__(self) -> int:
        return len(self.user)

    def before(self, until_s: float) -> "Handovers":
        """Return those before an instant."""
        n = int(np.searchsorted(self.at_s, until_s))
        return Handovers(**{f.name: getattr(self, f.name)[:n] for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioRecord:
    """What the radio of a run did: all transfers, and the handovers of all users while requests arrive."""

    sites: Sites
    n_users: int
    up: Transfers
    down: Transfers
    handovers: Handovers


def together(parts: Sequence[Transfers]) -> Transfers:
    """Return transfers that were asked for one after another as one record."""
    if len(parts) == 1:
        return parts[0]
    empty: dict[str, NDArray[Any]] = {
        f.name: np.empty(0, dtype=_KINDS.get(f.name, np.float64)) for f in fields(Transfers)
    }
    return Transfers(
        **{name: np.concatenate([none, *(getattr(p, name) for p in parts)]) for name, none in empty.items()}
    )


_KINDS = {"user": np.int64, "site": np.int64, "waited": np.bool_}
