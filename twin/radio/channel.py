"""What the radio is made of, and when a user changes its access point."""

from dataclasses import dataclass, fields
from math import isfinite, log10

THERMAL_NOISE_DBM_PER_HZ = -174.0  # k·T at 290 K


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What the radio is made of. Power is spread evenly over the band, which up and down have each for themselves.

    A link carries `efficiency_share` of Shannon's limit, at most `efficiency_cap_bps_per_hz`, and nothing when it
    hears less than `min_sinr_db`: 3GPP TR 36.942, Annex A.2, with its figures for down and up. `interference_load` is
    the share of time in which the other sites send; `uplink_noise_rise_db` is what other cells' users add to a site's
    noise.
    """

    carrier_hz: float = 3.5e9
    bandwidth_hz: float = 20e6
    site_tx_dbm: float = 33.0
    user_tx_dbm: float = 23.0
    site_noise_figure_db: float = 5.0
    user_noise_figure_db: float = 9.0
    site_height_m: float = 10.0
    user_height_m: float = 1.5
    shadowing_los_db: float = 4.0
    shadowing_nlos_db: float = 7.82
    interference_load: float = 0.0
    uplink_noise_rise_db: float = 0.0
    min_sinr_db: float = -10.0
    downlink_efficiency_share: float = 0.6
    downlink_efficiency_cap_bps_per_hz: float = 4.4
    uplink_efficiency_share: float = 0.4
    uplink_efficiency_cap_bps_per_hz: float = 2.0

    def __post_init__(self) -> None:
        for key in (f.name for f in fields(self)):
            if not isfinite(found := getattr(self, key)):
                raise ValueError(f"radio: {key} is {found}, must be a finite number")
        for key, low, high in _RANGES:
            if not low <= (found := getattr(self, key)) <= high:
                raise ValueError(f"radio: {key} is {found:g}, must be from {low:g} to {high:g}")

    @property
    def downlink_noise_dbm(self) -> float:
        """Noise at a user over the whole band.

        >>> round(Channel(bandwidth_hz=20e6, user_noise_figure_db=9.0).downlink_noise_dbm, 2)
        -91.99
        """
        return THERMAL_NOISE_DBM_PER_HZ + 10 * log10(self.bandwidth_hz) + self.user_noise_figure_db

    @property
    def uplink_noise_dbm(self) -> float:
        """Noise at a site over the whole band, with what the users of other cells add."""
        thermal_dbm = THERMAL_NOISE_DBM_PER_HZ + 10 * log10(self.bandwidth_hz)
        return thermal_dbm + self.site_noise_figure_db + self.uplink_noise_rise_db


_RANGES = (
    ("carrier_hz", 0.5e9, 100e9),  # the range of TR 38.901
    ("bandwidth_hz", 1e3, 1e10),
    ("site_tx_dbm", -50.0, 90.0),
    ("user_tx_dbm", -50.0, 90.0),
    ("site_noise_figure_db", 0.0, 50.0),
    ("user_noise_figure_db", 0.0, 50.0),
    ("site_height_m", 1.1, 100.0),  # the breakpoint needs heights above the effective environment's 1 m
    ("user_height_m", 1.1, 22.5),
    ("shadowing_los_db", 0.0, 30.0),
    ("shadowing_nlos_db", 0.0, 30.0),
    ("interference_load", 0.0, 1.0),
    ("uplink_noise_rise_db", 0.0, 50.0),
    ("min_sinr_db", -30.0, 30.0),
    ("downlink_efficiency_share", 0.01, 1.0),
    ("downlink_efficiency_cap_bps_per_hz", 0.01, 100.0),
    ("uplink_efficiency_share", 0.01, 1.0),
    ("uplink_efficiency_cap_bps_per_hz", 0.01, 100.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverRule:
    """When a user changes its access point, and what it costs."""

    hysteresis_db: float = 3.0
    time_to_trigger_s: float = 1.0
    interruption_s: float = 0.05
    measurement_s: float = 1.0

    def __post_init__(self) -> None:
        for key in (f.name for f in fields(self)):
            found = getattr(self, key)
            least = 0.01 if key == "measurement_s" else 0.0
            if not (isfinite(found) and found >= least):
                raise ValueError(f"radio: {key} is {found}, must be a finite number of at least {least:g}")
