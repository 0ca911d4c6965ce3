"""Users who move: paths are continuous, no faster than allowed, inside the area, and the same for a longer run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.radio.sites import Origin, Sites, grid_of_sites, read_sites
from twin.users.mobility import Paths, RandomWaypoint, Standing
from twin.users.position_trace import read_position_trace


@st.composite
def walks(draw):
    low, pause = draw(st.floats(0.1, 5.0)), draw(st.sampled_from([0.0, 1.0, 30.0]))
    return RandomWaypoint(
        n_users=draw(st.integers(1, 20)),
        width_m=draw(st.floats(10.0, 2000.0)),
        height_m=draw(st.floats(10.0, 2000.0)),
        speed_m_per_s=(low, low + draw(st.floats(0.0, 20.0))),
        pause_s=(draw(st.floats(0.0, 1.0)) * pause, pause),
    )


def all_at(paths: Paths, at_s: float):
    n = paths.n_users
    return np.column_stack(paths.places_m(np.arange(n), np.full(n, at_s)))


@settings(max_examples=100, deadline=None)
@given(walk=walks(), seed=st.integers(0, 2**32), at_s=st.floats(0.0, 300.0), lasts_s=st.floats(0.0, 20.0))
def test_waypoints_stay_inside_and_keep_to_their_speed(walk, seed, at_s, lasts_s):
    """Everyone is inside the area at any time, and never moves further than the greatest speed times the time."""
    paths = walk.paths(seed=seed, until_s=330.0)
    before, after = all_at(paths, at_s), all_at(paths, at_s + lasts_s)
    assert np.all((after >= 0) & (after <= [walk.width_m, walk.height_m]))
    moved_m = np.hypot(*(after - before).T)
    assert np.all(moved_m <= walk.speed_m_per_s[1] * lasts_s + 1e-6)


@settings(max_examples=50, deadline=None)
@given(walk=walks(), seed=st.integers(0, 2**32), until_s=st.floats(1.0, 200.0), more_s=st.floats(0.0, 500.0))
def test_a_longer_run_begins_like_a_shorter_one(walk, seed, until_s, more_s):
    """Where someone is does not depend on how far ahead anyone looks."""
    short, long = (walk.paths(seed=seed, until_s=end) for end in (until_s, until_s + more_s))
    for share in (0.0, 0.3, 1.0):
        np.testing.assert_array_equal(all_at(short, share * until_s), all_at(long, share * until_s))


def test_speeds_of_legs_are_spread_over_their_range():
    """The speeds of the legs walked are those drawn: evenly between the bounds."""
    paths = RandomWaypoint(n_users=2000, width_m=500, height_m=500, speed_m_per_s=(1.0, 3.0)).paths(seed=1, until_s=1.0)
    first = paths.offsets[:-1]
    legs_m = np.hypot(paths.x_m[first + 1] - paths.x_m[first], paths.y_m[first + 1] - paths.y_m[first])
    speeds = legs_m / paths.at_s[first + 1]
    assert np.histogram(speeds, bins=4, range=(1.0, 3.0))[0] == pytest.approx([500] * 4, abs=100)


@given(seed=st.integers(0, 2**32), at_s=st.floats(0, 1e6))
def test_who_stands_stays(seed, at_s):
    """Static users are where they were, inside the area."""
    users = Standing(n_users=7, width_m=30.0, height_m=50.0)
    paths = users.paths(seed=seed, until_s=at_s)
    np.testing.assert_array_equal(all_at(paths, 0.0), all_at(paths, at_s))
    assert np.all((all_at(paths, 0.0) >= 0) & (all_at(paths, 0.0) <= [30.0, 50.0]))


TRACE = """user_id,at_s,x_m,y_m
b,0,0,0
a,5,100,100
b,10,20,10
a,0,50,0
"""


def test_a_trace_is_a_straight_line_between_its_rows(tmp_path):
    """Users count in the order of their first rows; between two rows they are on the line, after the last at rest."""
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    paths = read_position_trace(tmp_path / "trace.csv", n_users=2, origin=None).trace
    assert all_at(paths, 2.5).tolist() == [[5.0, 2.5], [75.0, 50.0]]
    assert all_at(paths, 99.0).tolist() == [[20.0, 10.0], [100.0, 100.0]]
    assert read_position_trace(tmp_path / "trace.csv", n_users=1, origin=None).n_users == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,at_s,x_m,y_m\na,0,1,x\n", "line 2, column y_m: found 'x'"),
        ("user_id,at_s,x_m,y_m\na,0,1,1\na,0,2,2\nb,0,1,1\n", "line 3: user 'a' is at a second place at 0 s"),
        ("user_id,x_m,y_m\na,1,1\n", "needs both"),
        ("user_id,at_s,lat\na,0,1\n", "needs the columns either x_m and y_m or latitude and longitude"),
        ("user_id,at_s,x_m,y_m\na,-1,1,1\n", "column at_s: found '-1'"),
        ("user_id,at_s,latitude,longitude\na,0,1,1\n", "in degrees, but those of the access points are in metres"),
        ("latitude,longitude\n", "no row follows the header"),
        ("x_m,y_m\n1,1\n", "has 1 users, the scenario 2"),
    ],
)
def test_a_wrong_trace_is_refused(tmp_path, text, message):
    """One message names the file, the line and the column."""
    (tmp_path / "trace.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as found:
        read_position_trace(tmp_path / "trace.csv", n_users=2, origin=None)
    assert "trace.csv" in str(found.value)


@given(
    latitude=st.floats(-60, 60),
    longitude=st.floats(-170, 170),
    north=st.floats(-0.02, 0.02),
    east=st.floats(-0.02, 0.02),
)
def test_degrees_become_metres(latitude, longitude, north, east):
    """Over a few kilometres the distance agrees with the great circle's (haversine) to 1 in 1000."""
    origin = Origin(latitude_deg=latitude, longitude_deg=longitude)
    x_m, y_m = origin.metres(np.array([latitude + north]), np.array([longitude + east]))
    here, there = np.radians([latitude, longitude]), np.radians([latitude + north, longitude + east])
    half = np.sin((there - here) / 2) ** 2
    great_m = 2 * 6_371_008.8 * np.arcsin(np.sqrt(half[0] + np.cos(here[0]) * np.cos(there[0]) * half[1]))
    assert np.hypot(x_m, y_m)[0] == pytest.approx(great_m, rel=1e-3, abs=1e-6)


def test_the_eua_sites_and_users_are_read(data):
    """125 sites and 816 users of Melbourne's centre, within a box of a few kilometres, users among the sites."""
    sites = read_sites(data / "topology" / "eua_site-optus-melbCBD.csv")
    users = read_position_trace(data / "topology" / "eua_users-melbcbd-generated.csv", n_users=816, origin=sites.origin)
    assert len(sites) == 125
    assert 500 < sites.x_m.max() < 5000
    assert 500 < sites.y_m.max() < 5000
    assert sites.x_m.min() == sites.y_m.min() == 0
    west_m, south_m, east_m, north_m = users.box_m
    assert -500 < west_m < east_m < sites.x_m.max() + 500
    assert -500 < south_m < north_m < sites.y_m.max() + 500


def test_sites_are_named_once():
    """A grid has a site in every square; two sites of one name, or none, are refused."""
    grid = grid_of_sites(columns=3, rows=2, spacing_m=10.0)
    assert sorted(zip(grid.x_m.tolist(), grid.y_m.tolist(), strict=True)) == [
        (x, y) for x in (5.0, 15.0, 25.0) for y in (5.0, 15.0)
    ]
    with pytest.raises(ValueError, match="'a' is there twice"):
        Sites(names=("a", "a"), x_m=np.zeros(2), y_m=np.zeros(2))
    with pytest.raises(ValueError, match="there is none"):
        Sites(names=(), x_m=np.zeros(0), y_m=np.zeros(0))
