"""The radio channel: TR 38.901's figures by hand, and what shadowing, sight and rate have to obey."""

from math import exp, log10, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.radio.channel import Channel
from twin.radio.propagation import air_of, efficiency, heard_dbm, los_probability, losses_db, path_loss_db

ONE_SITE = np.zeros(1)
QUIET = {"shadowing_los_db": 0.0, "shadowing_nlos_db": 0.0}
carriers_hz = st.floats(0.5e9, 100e9)
distances_m = st.floats(10.0, 5000.0)
site_heights_m, user_heights_m = st.floats(5.0, 25.0), st.floats(1.5, 5.0)


def losses_by_hand_db(channel, distance_m):
    """Return TR 38.901 Table 7.4.1-1, UMi, written down a second time: (with line of sight, without)."""
    ghz, up_m, down_m = channel.carrier_hz / 1e9, channel.site_height_m, channel.user_height_m
    slant_m = sqrt(distance_m**2 + (up_m - down_m) ** 2)
    break_m = 4 * (up_m - 1) * (down_m - 1) * channel.carrier_hz / 299_792_458
    sight = 32.4 + 21 * log10(slant_m) + 20 * log10(ghz)
    if distance_m > break_m:
        sight = 32.4 + 40 * log10(slant_m) + 20 * log10(ghz) - 9.5 * log10(break_m**2 + (up_m - down_m) ** 2)
    return sight, max(sight, 35.3 * log10(slant_m) + 22.4 + 21.3 * log10(ghz) - 0.3 * (down_m - 1.5))


@settings(deadline=None)
@given(carrier_hz=carriers_hz, distance_m=distances_m, site_m=site_heights_m, user_m=user_heights_m)
def test_path_loss_is_the_tables(carrier_hz, distance_m, site_m, user_m):
    """Both path losses agree with the formulas of the table, on both sides of the breakpoint."""
    channel = Channel(carrier_hz=carrier_hz, site_height_m=site_m, user_height_m=user_m)
    found = [float(path_loss_db(channel, np.array([distance_m]), line_of_sight=sight)[0]) for sight in (True, False)]
    assert found == pytest.approx(losses_by_hand_db(channel, distance_m), rel=1e-12)


@settings(deadline=None)
@given(carrier_hz=carriers_hz, near_m=st.floats(0.0, 5000.0), further_m=st.floats(0.0, 3000.0), sight=st.booleans())
def test_path_loss_rises_with_distance(carrier_hz, near_m, further_m, sight):
    """Further away is never louder, and without line of sight never louder than with it."""
    channel = Channel(carrier_hz=carrier_hz)
    near_db, far_db = path_loss_db(channel, np.array([near_m, near_m + further_m]), line_of_sight=sight)
    assert far_db >= near_db
    assert path_loss_db(channel, np.array([near_m]), line_of_sight=False)[0] >= near_db - 1e-9 or not sight


@given(low_db=st.floats(-40, 60), more_db=st.floats(0, 60), share=st.floats(0.1, 1.0), cap=st.floats(0.5, 8.0))
def test_the_rate_rises_with_the_signal_up_to_its_cap(low_db, more_db, share, cap):
    """A better signal never carries less; nothing carries more than the cap or than Shannon's limit."""
    low, high = efficiency(np.array([low_db, low_db + more_db]), share=share, cap_bps_per_hz=cap, min_sinr_db=-10.0)
    assert 0 <= low <= high <= cap
    assert high <= np.log2(1 + 10 ** ((low_db + more_db) / 10)) + 1e-12
    assert (low == 0) == (low_db < -10)


def in_a_ring(n, distance_m, seed=0):
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return distance_m * np.cos(angle), distance_m * np.sin(angle)


@pytest.mark.parametrize("distance_m", [30.0, 60.0, 120.0])
def test_line_of_sight_is_as_frequent_as_the_table_says(distance_m):
    """Over many draws of the field, sight is had with TR 38.901's probability (Table 7.4.2-1), to 4 standard errors."""
    channel, n = Channel(**QUIET), 4000
    x_m, y_m = in_a_ring(n, distance_m)
    with_sight_db = path_loss_db(channel, np.array([distance_m]), line_of_sight=True)[0]
    airs = [air_of(channel, ONE_SITE, ONE_SITE, key=key) for key in range(n)]
    seen = np.array([losses_db(air, x_m[i : i + 1], y_m[i : i + 1], np.zeros(1, int)) for i, air in enumerate(airs)])
    share, expected = np.mean(np.abs(seen - with_sight_db) < 1e-6), los_probability(distance_m)
    assert expected == pytest.approx(18 / distance_m + exp(-distance_m / 36) * (1 - 18 / distance_m))
    assert share == pytest.approx(expected, abs=4 * sqrt(expected * (1 - expected) / n))


def shadows_db(x_m, y_m, *, key=7, sigma_db=5.0):
    """Return the shadowing alone: the loss less the path loss, all of it with sight because a user stands below."""
    channel = Channel(shadowing_los_db=sigma_db, shadowing_nlos_db=sigma_db, site_height_m=25.0)
    air = air_of(channel, np.array([0.0]), np.array([0.0]), key=key)
    assert np.all(np.hypot(x_m, y_m) <= 18.0)  # where sight is certain
    loss_db = losses_db(air, x_m, y_m, np.zeros(len(x_m), dtype=np.int64))
    return loss_db - path_loss_db(channel, np.hypot(x_m, y_m), line_of_sight=True)


def test_shadowing_is_normal_with_its_deviation_everywhere():
    """At one place, over many draws: mean 0, the stated deviation, the quantiles of a normal distribution."""
    for x_m in (0.0, 3.0, 5.5):  # on the lattice and between its points
        found = np.concatenate([shadows_db(np.array([x_m]), np.array([1.0]), key=key) for key in range(4000)])
        assert found.mean() == pytest.approx(0.0, abs=4 * 5.0 / sqrt(4000))
        assert found.std() == pytest.approx(5.0, rel=0.05)
        assert np.mean(found < 5.0 * NormalDist().inv_cdf(0.9)) == pytest.approx(0.9, abs=0.02)


def test_shadowing_fades_from_memory_within_its_correlation_distance():
    """Ten metres apart the correlation is 1/e (TR 38.901 Table 7.5-6, with sight); a metre apart it is nearly 1."""
    chance, n = np.random.default_rng(3), 4000
    angle, x_m, y_m = chance.uniform(0, 2 * np.pi, n), *chance.uniform(-5, 5, (2, n))
    pairs = {}
    for apart_m in (1.0, 10.0):
        there = x_m + apart_m * np.cos(angle), y_m + apart_m * np.sin(angle)
        both = [
            (shadows_db(x_m[i : i + 1], y_m[i : i + 1], key=i)[0], shadows_db(*(c[i : i + 1] for c in there), key=i)[0])
            for i in range(n)
        ]
        pairs[apart_m] = np.corrcoef(np.array(both).T)[0, 1]
    assert pairs[10.0] == pytest.approx(exp(-1), abs=0.06)
    assert pairs[1.0] > 0.95


@settings(max_examples=50, deadline=None)
@given(x_m=st.floats(-2000, 2000), y_m=st.floats(-2000, 2000), key=st.integers(0, 2**62 - 1))
def test_what_is_heard_is_the_power_less_the_loss(x_m, y_m, key):
    """A site is heard with its power less the loss to it, the same whoever asks and beside whichever other sites."""
    air = air_of(Channel(site_tx_dbm=30.0), np.array([0.0, 300.0]), np.array([0.0, 100.0]), key=key)
    x, y = np.array([x_m]), np.array([y_m])
    both = heard_dbm(air, x, y, np.array([[1, 0]], dtype=np.int16))[0]
    assert both[0] == 30.0 - losses_db(air, x, y, np.array([1]))[0]
    assert both[1] == 30.0 - losses_db(air, x, y, np.array([0]))[0]


@pytest.mark.parametrize(
    ("key", "found"),
    [("carrier_hz", 1e6), ("bandwidth_hz", 0.0), ("interference_load", 1.5), ("user_height_m", float("nan"))],
)
def test_a_channel_that_cannot_be_is_refused(key, found):
    """The message names the key, what was found and what is allowed."""
    with pytest.raises(ValueError, match=f"radio: {key} is .*must be"):
        Channel(**{key: found})
