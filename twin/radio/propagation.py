"""The radio channel between a user and an access point: path loss, line of sight, shadowing, rate.

Source: 3GPP TR 38.901 V17, urban micro (UMi), street canyon, outdoor users. Lengths in metres, ratios in dB, power in
dBm. Which formulas, and what is left out: docs/decisions/radio.md.
"""

from functools import cache
from math import exp, log10, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled, inlined
from twin.mixing import scrambled
from twin.radio.channel import Channel

Floats = NDArray[np.float64]

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
LOS_STATE_CORRELATION_M = 50.0  # TR 38.901 Table 7.6.3.1-2, UMi
SHADOWING_CORRELATION_M = (10.0, 13.0)  # TR 38.901 Table 7.5-6, UMi: with line of sight, without
SPACING_PER_CORRELATION_M = 1 / 0.9  # a lattice of spacing h has correlation 1/e at a distance of 0.9·h

_LEVELS = 4096  # of the normal distribution that a lattice point draws from
_STEPS_PER_SIGMA = 256


class Air(NamedTuple):
    """A channel and its sites as compiled code takes them; `key` draws line of sight and shadowing."""

    site_x_m: Floats
    site_y_m: Floats
    normal: Floats  # standard normal quantiles, one for each level
    cumulative: Floats  # the standard normal distribution function from -8 to 8, finely
    key: int
    height_difference_m: float
    breakpoint_m: float
    los_db: float  # path loss at 1 m
    far_los_db: float  # the same for the law beyond the breakpoint
    nlos_db: float
    shadowing_los_db: float
    shadowing_nlos_db: float
    site_tx_dbm: float


def air_of(channel: Channel, site_x_m: Floats, site_y_m: Floats, *, key: int) -> Air:
    """Return the channel with its sites at the places given (sites,), its chance drawn by `key`."""
    frequency_db = 20 * log10(channel.carrier_hz / 1e9)
    difference_m = channel.site_height_m - channel.user_height_m
    effective_m2 = (channel.site_height_m - 1.0) * (channel.user_height_m - 1.0)  # Table 7.4.1-1, note 1
    breakpoint_m = 4 * effective_m2 * channel.carrier_hz / SPEED_OF_LIGHT_M_PER_S
    return Air(
        site_x_m=np.ascontiguousarray(site_x_m, dtype=np.float64),
        site_y_m=np.ascontiguousarray(site_y_m, dtype=np.float64),
        normal=_normal_levels(),
        cumulative=_normal_cumulative(),
        key=key,
        height_difference_m=difference_m,
        breakpoint_m=breakpoint_m,
        los_db=32.4 + frequency_db,
        far_los_db=32.4 + frequency_db - 9.5 * log10(breakpoint_m**2 + difference_m**2),
        nlos_db=22.4 + 21.3 / 20 * frequency_db - 0.3 * (channel.user_height_m - 1.5),
        shadowing_los_db=float(channel.shadowing_los_db),
        shadowing_nlos_db=float(channel.shadowing_nlos_db),
        site_tx_dbm=float(channel.site_tx_dbm),
    )


def path_loss_db(channel: Channel, distance_m: Floats, *, line_of_sight: bool) -> Floats:
    """Return the path loss in dB over horizontal distances (n,): TR 38.901 Table 7.4.1-1, UMi street canyon.

    It is meant for 10 m to 5 km; below 10 m it stays at that of 10 m. At 100 m and 3.5 GHz, with line of sight,
    d3D = √(100² + 8.5²) = 100.36 m: 32.4 + 21·log10(100.36) + 20·log10(3.5) = 85.31 dB.

    >>> path_loss_db(Channel(), np.array([100.0]), line_of_sight=True).round(2).tolist()
    [85.31]
    >>> path_loss_db(Channel(), np.array([100.0]), line_of_sight=False).round(2).tolist()
    [104.64]
    """
    air = air_of(channel, np.zeros(1), np.zeros(1), key=0)
    out = np.empty(len(distance_m))
    _path_losses_db(air, np.asarray(distance_m, dtype=np.float64), line_of_sight, out)
    return out


def los_probability(distance_m: float) -> float:
    """Return the probability of line of sight at a horizontal distance: TR 38.901 Table 7.4.2-1, UMi.

    >>> los_probability(18.0), round(los_probability(100.0), 4)
    (1.0, 0.231)
    """
    return _los_probability(distance_m)


def efficiency(sinr_db: Floats, *, share: float, cap_bps_per_hz: float, min_sinr_db: float) -> Floats:
    """Return what a link carries in bit/s/Hz: a share of Shannon's limit, capped, and 0 below the least SINR.

    Source: 3GPP TR 36.942, Annex A.2.

    >>> efficiency(np.array([-11.0, 0.0, 99.0]), share=0.6, cap_bps_per_hz=4.4, min_sinr_db=-10.0).tolist()
    [0.0, 0.6, 4.4]
    """
    carried = np.minimum(share * np.log2(1 + 10 ** (np.asarray(sinr_db) / 10)), cap_bps_per_hz)
    return np.where(np.asarray(sinr_db) >= min_sinr_db, carried, 0.0)


def losses_db(air: Air, x_m: Floats, y_m: Floats, site: NDArray[np.int64]) -> Floats:
    """Return the loss in dB, shadowing included, between each place (n,) and the site named beside it (n,)."""
    out = np.empty(len(x_m))
    _losses_db(air, x_m, y_m, site, out)
    return out


def heard_dbm(air: Air, x_m: Floats, y_m: Floats, sites: NDArray[np.int16]) -> Floats:
    """Return what is heard at each place (n,) of the sites listed for it (n, m), in dBm."""
    out = np.empty(sites.shape)
    _heard_dbm(air, x_m, y_m, sites, out)
    return out


@cache
def _normal_levels() -> Floats:
    normal = NormalDist()
    return np.array([normal.inv_cdf((level + 0.5) / _LEVELS) for level in range(_LEVELS)])


@cache
def _normal_cumulative() -> Floats:
    normal = NormalDist()
    return np.array([normal.cdf(step / _STEPS_PER_SIGMA - 8.0) for step in range(16 * _STEPS_PER_SIGMA + 1)])


@inlined
def _los_probability(distance_m: float) -> float:
    if distance_m <= 18.0:
        return 1.0
    return 18.0 / distance_m + exp(-distance_m / 36.0) * (1.0 - 18.0 / distance_m)


@inlined
def _path_loss_db(air: Air, distance_m: float, line_of_sight: bool) -> float:
    square_m2 = max(distance_m, 10.0) ** 2 + air.height_difference_m**2
    lg = 0.5 * log10(square_m2)
    los_db = air.los_db + 21.0 * lg if distance_m <= air.breakpoint_m else air.far_los_db + 40.0 * lg
    if line_of_sight:
        return los_db
    return max(los_db, air.nlos_db + 35.3 * lg)


@inlined
def _field(air: Air, x_m: float, y_m: float, spacing_m: float, layer: int) -> float:
    """Return a Gaussian field: independent values on a lattice, interpolated so that the variance is 1 everywhere."""
    x, y = x_m / spacing_m, y_m / spacing_m
    i, j = np.floor(x), np.floor(y)
    u, v = x - i, y - j
    total, squares = 0.0, 0.0
    for di in range(2):
        for dj in range(2):
            weight = (u if di else 1.0 - u) * (v if dj else 1.0 - v)
            # a sum that no two lattice points share (odd multipliers)
            z = np.uint64(air.key) + np.uint64(layer) * np.uint64(0xD1342543DE82EF95)
            z += np.uint64(np.int64(i) + di) * np.uint64(0x9E3779B97F4A7C15)
            z += np.uint64(np.int64(j) + dj) * np.uint64(0xC2B2AE3D27D4EB4F)
            total += weight * air.normal[np.int64(scrambled(z) >> np.uint64(52))]
            squares += weight * weight
    return total / sqrt(squares)


@inlined
def _loss_db(air: Air, x_m: float, y_m: float, site: int) -> float:
    """Return path loss and shadowing; whether there is line of sight is a field too, compared with its probability."""
    distance_m = sqrt((x_m - air.site_x_m[site]) ** 2 + (y_m - air.site_y_m[site]) ** 2)
    probability = _los_probability(distance_m)
    sight = True
    if probability < 1.0:
        seen = _field(air, x_m, y_m, LOS_STATE_CORRELATION_M * SPACING_PER_CORRELATION_M, 2 * site)
        sight = air.cumulative[np.int64((seen + 8.0) * _STEPS_PER_SIGMA)] < probability  # |seen| is below 2 · 3.7
    sigma_db = air.shadowing_los_db if sight else air.shadowing_nlos_db
    if sigma_db == 0.0:
        return _path_loss_db(air, distance_m, sight)
    correlation_m = SHADOWING_CORRELATION_M[0] if sight else SHADOWING_CORRELATION_M[1]
    shadow = _field(air, x_m, y_m, correlation_m * SPACING_PER_CORRELATION_M, 2 * site + 1)
    return _path_loss_db(air, distance_m, sight) + sigma_db * shadow


@compiled
def _path_losses_db(air: Air, distance_m: Floats, line_of_sight: bool, out: Floats) -> None:
    for i in range(len(out)):
        out[i] = _path_loss_db(air, distance_m[i], line_of_sight)


@compiled
def _losses_db(air: Air, x_m: Floats, y_m: Floats, site: NDArray[np.int64], out: Floats) -> None:
    for i in range(len(out)):
        out[i] = _loss_db(air, x_m[i], y_m[i], site[i])


@compiled
def _heard_dbm(air: Air, x_m: Floats, y_m: Floats, sites: NDArray[np.int16], out: Floats) -> None:
    n, m = sites.shape
    for i in range(n):
        for j in range(m):
            out[i, j] = air.site_tx_dbm - _loss_db(air, x_m[i], y_m[i], int(sites[i, j]))
