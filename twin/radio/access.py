"""Users on the radio: when what they send is at an access point, and what is sent to them is with them.

A request's way up: when its user is not in a handover's interruption and the serving site hears it, the prompt goes up
at the rate of the place where the user is then, shared as `sharing` says, and stretched by the interruptions that
fall into it. The answer comes down in the same way, whole, once the gateway has it. Out of coverage it waits, measuring
as the user does, until there is coverage; what still waits when the run stops is never carried.
"""

from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from twin.network import Instants, Whole
from twin.radio.attachment import Attachment
from twin.radio.channel import Channel, HandoverRule
from twin.radio.propagation import Air, air_of, efficiency, losses_db
from twin.radio.record import RadioRecord, Transfers, together
from twin.radio.sharing import Band
from twin.radio.signal_map import SignalMap, check_reach
from twin.radio.sites import Sites
from twin.randomness import streams
from twin.users.mobility import Mobility

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioNetwork:
    """Users, access points and the channel between them. A token is sent as `bytes_per_token` bytes."""

    mobility: Mobility
    sites: Sites
    channel: Channel = field(default_factory=Channel)
    handover: HandoverRule = field(default_factory=HandoverRule)
    bytes_per_token: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.bytes_per_token < inf:
            raise ValueError(f"radio: bytes_per_token is {self.bytes_per_token}, must be a finite number above 0")
        check_reach(self.sites.x_m, self.sites.y_m, self.box_m)

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """West, south, east and north end of where users can be."""
        return self.mobility.box_m

    def begin(self, *, seed: int, stop_s: float) -> "RadioAccess":
        """Return the radio of one run: the users where they start, the shadows drawn."""
        key = int(streams(seed)["shadowing"].integers(2**62))
        air = air_of(self.channel, self.sites.x_m, self.sites.y_m, key=key)
        ground = SignalMap(air, self.box_m)
        attachment = Attachment(mobility=self.mobility, seed=seed, ground=ground, rule=self.handover, stop_s=stop_s)
        return RadioAccess(network=self, air=air, ground=ground, attachment=attachment, stop_s=stop_s)


class RadioAccess:
    """The radio of one run. Its instants are asked for in the order of time; see `twin.network.Access`."""

    def __init__(
        self, *, network: RadioNetwork, air: Air, ground: SignalMap, attachment: Attachment, stop_s: float
    ) -> None:
        """A run begins with nothing on the air."""
        self._network, self._air, self._ground = network, air, ground
        self._attachment, self._stop_s = attachment, stop_s
        self._bands = {"up": Band(len(network.sites)), "down": Band(len(network.sites))}
        self._carried: dict[str, list[Transfers]] = {"up": [], "down": []}

    def up_s(self, sent_s: Instants, user: Whole, tokens: Whole) -> Instants:
        """Return when a prompt that a user sent at `sent_s` is at an access point."""
        return self._sent("up", sent_s, user, tokens)

    def down_s(self, left_s: Instants, user: Whole, tokens: Whole) -> Instants:
        """Return when an answer that was at the access points at `left_s` is at its user."""
        return self._sent("down", left_s, user, tokens)

    def record(self, until_s: float) -> RadioRecord:
        """Return what was carried so far, and the handovers before `until_s`."""
        self._attachment.through(until_s)
        return RadioRecord(
            sites=self._network.sites,
            n_users=self._network.mobility.n_users,
            up=together(self._carried["up"]),
            down=together(self._carried["down"]),
            handovers=self._attachment.handovers().before(until_s),
        )

    def _sent(self, way: str, sent_s: Instants, user: Whole, tokens: Whole) -> Instants:
        at_s = np.atleast_1d(np.asarray(sent_s, dtype=np.float64))
        known = _rows(~np.isnan(at_s))  # an answer that never was is never sent
        users, sizes = np.atleast_1d(np.asarray(user))[known], np.atleast_1d(np.asarray(tokens))[known]
        self._check_users(users)
        ended_s = np.full(len(at_s), np.nan)
        if len(users):
            transfers = self._carry(way, at_s[known], users, 8 * self._network.bytes_per_token * sizes)
            self._carried[way].append(transfers)
            ended_s[known] = transfers.ended_s
        return float(ended_s[0]) if isinstance(sent_s, float) else ended_s

    def _check_users(self, user: Integers) -> None:
        n = self._network.mobility.n_users
        if len(user) and not (user.min() >= 0 and user.max() < n):
            raise ValueError(f"radio: a request of user {user.min()} or {user.max()}; there are users 0 to {n - 1}")

    def _carry(self, way: str, sent_s: Floats, user: Integers, bits: Floats) -> Transfers:
        attachment = self._attachment
        attachment.through(float(sent_s.max()))
        begun_s, site, bits_per_s_per_hz = self._begin(way, sent_s, user)
        waited = bits_per_s_per_hz == 0
        self._wait(way, user, begun_s, site, bits_per_s_per_hz)
        never = bits_per_s_per_hz == 0
        begun_s[never] = inf
        carried = _rows(~never)
        ended_s = np.full(len(sent_s), inf)
        alone_s = bits[carried] / (self._network.channel.bandwidth_hz * bits_per_s_per_hz[carried])
        unbroken_s = self._bands[way].ends_s(site[carried], sent_s[carried], begun_s[carried], alone_s)
        attachment.through(float(unbroken_s.max(initial=0.0)))
        ended_s[carried] = attachment.stretched_s(user[carried], begun_s[carried], unbroken_s)
        return Transfers(user=user, sent_s=sent_s, begun_s=begun_s, ended_s=ended_s, site=site, waited=waited)

    def _begin(self, way: str, from_s: Floats, user: Integers) -> tuple[Floats, Integers, Floats]:
        """Return when each user is free, the site that serves it then, and the efficiency of the link (n,)."""
        begun_s = self._attachment.free_s(user, from_s)
        site = self._attachment.site(user, begun_s)
        if self._network.mobility.moves_until_s > float(from_s.min(initial=inf)):
            return begun_s, site, self._efficiency(way, user, begun_s, site)
        pair, of_pair = _distinct(user, site, self._network.mobility.n_users, len(self._network.sites))
        return begun_s, site, self._efficiency(way, user[pair], begun_s[pair], site[pair])[of_pair]

    def _efficiency(self, way: str, user: Integers, at_s: Floats, site: Integers) -> Floats:
        """Return what the link between each user and its site carries at the instant beside it (n,), in bit/s/Hz."""
        x_m, y_m = self._attachment.paths.places_m(user, at_s)
        loss_db, channel = losses_db(self._air, x_m, y_m, site), self._network.channel
        if way == "up":
            sinr_db = channel.user_tx_dbm - loss_db - channel.uplink_noise_dbm
            share, cap = channel.uplink_efficiency_share, channel.uplink_efficiency_cap_bps_per_hz
        else:
            sinr_db = channel.site_tx_dbm - loss_db - self._disturbance_dbm(x_m, y_m, site)
            share, cap = channel.downlink_efficiency_share, channel.downlink_efficiency_cap_bps_per_hz
        return efficiency(sinr_db, share=share, cap_bps_per_hz=cap, min_sinr_db=channel.min_sinr_db)

    def _disturbance_dbm(self, x_m: Floats, y_m: Floats, site: Integers) -> Floats:
        """Return noise and interference at each place (n,): the other sites near it, in a share of the time."""
        channel = self._network.channel
        noise_dbm = np.full(len(site), channel.downlink_noise_dbm)
        if channel.interference_load == 0:
            return noise_dbm
        square = self._ground.measure(x_m, y_m)
        others = self._ground.site[square] != site[:, None]  # (n, m)
        heard_mw = np.where(others, 10 ** (self._ground.dbm[square].astype(np.float64) / 10), 0.0).sum(axis=1)
        return np.asarray(10 * np.log10(10 ** (noise_dbm / 10) + channel.interference_load * heard_mw))

    def _wait(self, way: str, user: Integers, begun_s: Floats, site: Integers, carried: Floats) -> None:
        """Let those without coverage wait, in place, from one measurement to the next, until it comes or never."""
        step_s = self._network.handover.measurement_s
        waiting = np.flatnonzero(carried == 0)
        while len(waiting):
            at_s = (np.floor(begun_s[waiting] / step_s) + 1) * step_s
            waiting, at_s = waiting[at_s < self._stop_s], at_s[at_s < self._stop_s]
            if not len(waiting):
                break
            self._attachment.through(float(at_s.max()))
            if at_s.min() > self._attachment.settled_s:
                break  # nothing changes any more
            begun_s[waiting], site[waiting], carried[waiting] = self._begin(way, at_s, user[waiting])
            waiting = waiting[carried[waiting] == 0]


def _rows(wanted: NDArray[np.bool_]) -> NDArray[np.intp] | slice:
    """Return which rows (n,) are wanted; all of them as a slice, for which nothing is copied."""
    return slice(None) if wanted.all() else np.flatnonzero(wanted)


def _distinct(user: Integers, site: Integers, n_users: int, n_sites: int) -> tuple[Integers, Integers]:
    """Return a place of each pair of user and site that occurs, and which of these every place (n,) has.

    Of users at rest each pair is looked at once, where there are fewer pairs than places.
    """
    if n_users * n_sites > len(user):
        every = np.arange(len(user))
        return every, every
    pair = user * n_sites + site
    place = np.full(n_users * n_sites, -1)
    place[pair] = np.arange(len(pair))
    found = np.flatnonzero(place >= 0)
    number = np.empty(n_users * n_sites, dtype=np.int64)
    number[found] = np.arange(len(found))
    return place[found], number[pair]
