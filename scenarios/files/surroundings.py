"""Users and network of a scenario: where users are, how they move, and what carries their requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scenarios.files.loads import Count, Section
from twin.radio.channel import Channel, HandoverRule

__all__ = ["AccessPoints", "Network", "Radio", "Users"]

MOST_ON_THE_RADIO = 10_000_000

Number = Annotated[float, Field(allow_inf_nan=False)]
Metres = Annotated[float, Field(ge=50, le=1e6, allow_inf_nan=False)]
Speed = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Squares = Annotated[int, Field(ge=1, le=1000)]
CHANNEL, RULE = Channel(), HandoverRule()


class Users(Section):
    """The mobile users. Where they are matters where the network has access points."""

    count: Count = Field(1, description="How many there are.")
    mobility: Literal["static", "random_waypoint", "trace"] = Field(
        "static", description="Places drawn once; straight walks between drawn places; or places from a file."
    )
    area_m: Annotated[list[Metres], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Width and height that users stay in; as large as the access points' own where left out."
    )
    speed_m_per_s: Annotated[list[Speed], Field(min_length=2, max_length=2)] = Field(
        [0.5, 1.5], description="Least and greatest speed of a walk."
    )
    pause_s: Annotated[list[Pause], Field(min_length=2, max_length=2)] = Field(
        [0.0, 60.0], description="Least and greatest rest between two walks."
    )
    positions: str | None = Field(
        None, description='CSV with user_id, at_s and x_m, y_m or latitude, longitude, with mobility = "trace".'
    )

    @model_validator(mode="after")
    def _consistent(self) -> Users:
        if (self.mobility == "trace") != (self.positions is not None):
            raise ValueError(
                f'mobility is "{self.mobility}" and positions is {self.positions!r}; a file of positions goes with '
                'mobility = "trace", and nothing else does'
            )
        for key, (low, high) in (("speed_m_per_s", self.speed_m_per_s), ("pause_s", self.pause_s)):
            if low > high:
                raise ValueError(f"{key} is {[low, high]}; give the least first")
        return self


class AccessPoints(Section):
    """Where the access points stand: in the squares of a grid, or as a file says."""

    grid: Annotated[list[Squares], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Columns and rows of squares with a site in the middle of each."
    )
    spacing_m: float = Field(200.0, ge=1, le=5000, description="Side of a grid's squares.")
    path: str | None = Field(None, description="CSV with site_id and x_m, y_m or latitude, longitude.")

    @model_validator(mode="after")
    def _one_source(self) -> AccessPoints:
        if (self.grid is None) == (self.path is None):
            raise ValueError("access_points: give exactly one of grid and path")
        return self


class Radio(Section):
    """The channel between users and access points: 3GPP TR 38.901, urban micro; and their handovers."""

    carrier_hz: Number = CHANNEL.carrier_hz
    bandwidth_hz: Number = Field(CHANNEL.bandwidth_hz, description="Band of a cell in each direction.")
    site_tx_dbm: Number = CHANNEL.site_tx_dbm
    user_tx_dbm: Number = CHANNEL.user_tx_dbm
    site_noise_figure_db: Number = CHANNEL.site_noise_figure_db
    user_noise_figure_db: Number = CHANNEL.user_noise_figure_db
    site_height_m: Number = CHANNEL.site_height_m
    user_height_m: Number = CHANNEL.user_height_m
    shadowing_los_db: Number = Field(CHANNEL.shadowing_los_db, description="Standard deviation with line of sight.")
    shadowing_nlos_db: Number = Field(CHANNEL.shadowing_nlos_db, description="And without.")
    interference_load: Number = Field(
        CHANNEL.interference_load, description="Share of time in which the other sites send; 0: noise alone."
    )
    uplink_noise_rise_db: Number = Field(
        CHANNEL.uplink_noise_rise_db, description="What users of other cells add to a site's noise."
    )
    min_sinr_db: Number = Field(CHANNEL.min_sinr_db, description="Below it there is no coverage.")
    hysteresis_db: Number = Field(RULE.hysteresis_db, description="By how much a neighbour has to be stronger.")
    time_to_trigger_s: Number = Field(RULE.time_to_trigger_s, description="And for how long.")
    interruption_s: Number = Field(RULE.interruption_s, description="Nothing is sent or received in a handover.")
    measurement_s: Number = Field(RULE.measurement_s, description="Between two measurements of a user.")
    bytes_per_token: float = Field(4.0, gt=0, le=1e6, allow_inf_nan=False, description="Of prompts and answers.")

    @model_validator(mode="after")
    def _possible(self) -> Radio:
        self.channel()
        self.rule()
        return self

    def channel(self) -> Channel:
        """Return the channel; ValueError for a value out of its range."""
        return Channel(**{key: getattr(self, key) for key in Channel.__dataclass_fields__ if hasattr(self, key)})

    def rule(self) -> HandoverRule:
        """Return when a user is handed over; ValueError for a value out of its range."""
        return HandoverRule(**{key: getattr(self, key) for key in HandoverRule.__dataclass_fields__})


class Network(Section):
    """Delays on the way to an expert, the same ones on the way back; with access points a radio comes before them."""

    lan_delay_s: float = Field(0.0005, ge=0, le=10, description="Gateway to device, one way.")
    access_delay_s: float = Field(
        0.02, ge=0, le=60, description="User to gateway, one way; with access points, from them to the gateway."
    )
    access_points: AccessPoints | None = None
    radio: Radio | None = Field(None, description="The channel to the access points.")

    @model_validator(mode="before")
    @classmethod
    def _radio_of_access_points(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("access_points") is not None and data.get("radio") is None:
            return {**data, "radio": {}}
        return data

    @model_validator(mode="after")
    def _some_sites(self) -> Network:
        if self.radio is not None and self.access_points is None:
            raise ValueError(
                "radio: there are no access points; add [network.access_points] with grid = [5, 5] or path"
            )
        return self


def check_users_on_radio(users: Users, network: Network) -> None:
    """Refuse users whose moves nothing depends on, and more of them than can be followed."""
    if network.access_points is None and (users.mobility != "static" or users.area_m is not None):
        raise ValueError(
            "users: where they are matters to nothing, as the network has no access points; add "
            "[network.access_points], or leave out mobility and area_m"
        )
    if network.access_points is not None and users.count > MOST_ON_THE_RADIO:
        raise ValueError(
            f"users: count = {users.count}: should be at most {MOST_ON_THE_RADIO} where the network has access points"
        )
