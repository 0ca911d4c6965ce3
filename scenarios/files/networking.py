"""The network of a scenario, made ready to run: its access points and its users' ways read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from scenarios.files.loading import Scenario
from scenarios.files.surroundings import AccessPoints, Radio, Users
from twin.network import Network
from twin.radio.sites import Sites, grid_of_sites, read_sites

if TYPE_CHECKING:
    from twin.radio.access import RadioNetwork
    from twin.users.mobility import Mobility

__all__ = ["build_network"]


def build_network(scenario: Scenario) -> Network:
    """Return the network; ValueError naming the scenario for access points or positions that are wrong."""
    network = scenario.file.network
    faults = scenario.file.faults
    fixed = Network(
        access_delay_s=network.access_delay_s,
        lan_delay_s=network.lan_delay_s,
        access_outages=tuple(outage.of_link() for outage in faults.outages if outage.link == "access"),
        lan_outages=tuple(o.of_link() for o in faults.outages if o.link == "lan" and o.device is None),
        device_outages=faults.outages_by_device(),
        random_outages=faults.random_outages([expert.device for expert in scenario.file.experts]),
    )
    if network.access_points is None or network.radio is None:
        return fixed
    return replace(fixed, radio=_radio(scenario, network.access_points, network.radio))


@contextmanager
def _blamed_on(scenario: Scenario, table: str) -> Iterator[None]:
    """Name the scenario and the table whose values a ValueError is of."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{scenario.source}: {table}: {error}") from None


def _radio(scenario: Scenario, given: AccessPoints, radio: Radio) -> RadioNetwork:
    from twin.radio.access import RadioNetwork  # noqa: PLC0415 - numba takes half a second to load

    with _blamed_on(scenario, "[network.access_points]"):
        sites = _sites(scenario, given)
    with _blamed_on(scenario, "[users]"):
        mobility = _mobility(scenario, given, sites)
    with _blamed_on(scenario, "[network.radio]"):
        return RadioNetwork(
            mobility=mobility,
            sites=sites,
            channel=radio.channel(),
            handover=radio.rule(),
            bytes_per_token=radio.bytes_per_token,
        )


def _sites(scenario: Scenario, given: AccessPoints) -> Sites:
    if given.path is not None:
        return read_sites(scenario.path(given.path))
    assert given.grid is not None, "the schema asks for one of the two"  # noqa: S101
    columns, rows = given.grid
    return grid_of_sites(columns=columns, rows=rows, spacing_m=given.spacing_m)


def _mobility(scenario: Scenario, given: AccessPoints, sites: Sites) -> Mobility:
    from twin.users.mobility import RandomWaypoint, Standing  # noqa: PLC0415 - as above
    from twin.users.position_trace import read_position_trace  # noqa: PLC0415

    users = scenario.file.users
    if users.positions is not None:
        return read_position_trace(scenario.path(users.positions), n_users=users.count, origin=sites.origin)
    width_m, height_m = _area_m(users, given, sites)
    if users.mobility == "static":
        return Standing(n_users=users.count, width_m=width_m, height_m=height_m)
    return RandomWaypoint(
        n_users=users.count,
        width_m=width_m,
        height_m=height_m,
        speed_m_per_s=(users.speed_m_per_s[0], users.speed_m_per_s[1]),
        pause_s=(users.pause_s[0], users.pause_s[1]),
    )


def _area_m(users: Users, given: AccessPoints, sites: Sites) -> tuple[float, float]:
    """Return the stated area, else that of the grid's squares or of the box around a file's sites."""
    if users.area_m is not None:
        return users.area_m[0], users.area_m[1]
    if given.grid is not None:
        return given.grid[0] * given.spacing_m, given.grid[1] * given.spacing_m
    return max(float(sites.x_m.max()), _LEAST_M), max(float(sites.y_m.max()), _LEAST_M)


_LEAST_M = 50.0  # of a box around a single site
