"""Users on the radio: attachment, handovers, sharing and coverage, beside slow and obvious versions of them."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_plant import expert, profile, requests_at

from twin.network import Network
from twin.radio.access import RadioNetwork
from twin.radio.channel import Channel, HandoverRule
from twin.radio.propagation import air_of, path_loss_db
from twin.radio.sharing import Band
from twin.radio.signal_map import SignalMap
from twin.radio.sites import Sites, grid_of_sites
from twin.records.tables import tabulate
from twin.users.load import Legs
from twin.users.mobility import Paths, RandomWaypoint, Recorded, Standing
from twin.world import ENGINES, simulate

QUIET = Channel(shadowing_los_db=0.0, shadowing_nlos_db=0.0)
GRID = grid_of_sites(columns=3, rows=3, spacing_m=200.0)
WALK = RandomWaypoint(n_users=40, width_m=600.0, height_m=600.0, speed_m_per_s=(1.0, 8.0), pause_s=(0.0, 5.0))


def radio(mobility=WALK, **rest):
    return RadioNetwork(mobility=mobility, sites=rest.pop("sites", GRID), **rest)


def at(*places, at_s=None):
    """Return users who stand at the places given, or one who walks over them at the instants given."""
    x_m, y_m = (np.array(column, dtype=float) for column in zip(*places, strict=True))
    if at_s is None:
        return Recorded(trace=Paths(offsets=np.arange(len(x_m) + 1), at_s=np.zeros(len(x_m)), x_m=x_m, y_m=y_m))
    return Recorded(trace=Paths(offsets=np.array([0, len(x_m)]), at_s=np.array(at_s, dtype=float), x_m=x_m, y_m=y_m))


def handovers(network, *, seed=3, until_s=300.0):
    return network.begin(seed=seed, stop_s=until_s).record(until_s).handovers


ONE = Sites(names=("only",), x_m=np.zeros(1), y_m=np.zeros(1))
TWO = Sites(names=("west", "east"), x_m=np.array([0.0, 400.0]), y_m=np.zeros(2))
BELOW = at((10.0, 0.0))  # with sight for sure


def test_a_prompt_goes_up_as_fast_as_its_bits_over_its_rate():
    """250 tokens of 4 bytes are 8000 bits; at 10 m the uplink is at its cap of 2 bit/s/Hz: 8000 / (1e6 · 2) = 4 ms."""
    channel = replace(QUIET, bandwidth_hz=1e6)
    link = Network(access_delay_s=0.5, radio=radio(BELOW, sites=ONE, channel=channel)).begin(seed=0, stop_s=99.0)
    assert link.at_gateway_s(1.0, 0, 250) == pytest.approx(1.0 + 0.004 + 0.5, abs=1e-12)
    assert link.at_user_s(2.0, 0, 250) == pytest.approx(2.0 + 0.5 + 8000 / (1e6 * 4.4), abs=1e-12)


def test_the_rate_is_shannons_share_at_the_sinr_by_hand():
    """Noise, loss and interference of a second site by hand give the downlink's rate."""
    channel = replace(QUIET, interference_load=0.5, downlink_efficiency_cap_bps_per_hz=50.0)
    sites = Sites(names=("own", "other"), x_m=np.array([0.0, 20.0]), y_m=np.zeros(2))
    link = Network(radio=radio(at((5.0, 0.0)), sites=sites, channel=channel)).begin(seed=0, stop_s=99.0)
    own_dbm, other_dbm = 33.0 - path_loss_db(channel, np.array([5.0, 13.75]), line_of_sight=True)
    noise_mw = 10 ** ((-174.0 + 10 * np.log10(20e6) + 9.0) / 10)
    sinr = 10 ** (own_dbm / 10) / (noise_mw + 0.5 * 10 ** (other_dbm / 10))
    assert link.at_user_s(0.0, 0, 1000) == pytest.approx(32000 / (20e6 * 0.6 * np.log2(1 + sinr)), rel=0.02)


@settings(deadline=None)
@given(near_m=st.floats(0, 18), more_m=st.floats(0, 18), tx_dbm=st.floats(-30, 0))
def test_the_rate_falls_with_distance(near_m, more_m, tx_dbm):
    """Where sight is certain and without shadowing, a user further away is never served faster, up or down."""
    users = at((near_m, 0.0), (min(near_m + more_m, 18.0), 0.0))
    channel = replace(QUIET, site_tx_dbm=tx_dbm, user_tx_dbm=tx_dbm)
    access = radio(users, sites=ONE, channel=channel).begin(seed=0, stop_s=99.0)
    for sent in (access.up_s, access.down_s):
        near_s, far_s = (sent(at_s, u, 500) - at_s for u, at_s in ((0, 0.0), (1, 50.0)))
        assert near_s > 0
        assert far_s >= near_s - 1e-9


def ends_slowly(site, sent_s, begins_s, alone_s):
    """Return when transfers end, from the rule as it is written: count those on the air, over and over."""
    ends_s = np.empty(len(site))
    for i in np.argsort(sent_s, kind="stable"):
        others = [j for j in np.flatnonzero(sent_s <= sent_s[i]) if j != i and site[j] == site[i]]
        on_air = sum(begins_s[j] < sent_s[i] - 1e-9 and ends_s[j] > sent_s[i] for j in others)
        ends_s[i] = begins_s[i] + (on_air + 1) * alone_s[i]
    return ends_s


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 40), st.sampled_from([0.0, 0.5]), st.floats(0.1, 9.0)),
        min_size=1, max_size=120,
    ),
    cut=st.integers(0, 120),
)  # fmt: skip
def test_transfers_share_the_band_as_the_rule_says(rows, cut):
    """All at once, in two parts and one by one, each ends when counting those on the air says; ties included."""
    rows = sorted(rows, key=lambda row: row[1])
    site, sent_s, wait_s, alone_s = (np.array(column) for column in zip(*rows, strict=True))
    sent_s = sent_s * 1.0
    expected = ends_slowly(site, sent_s, sent_s + wait_s, alone_s)
    for cuts in ([], [cut], range(1, len(rows))):
        band, parts = Band(3), np.split(np.arange(len(rows)), [c for c in cuts if c < len(rows)])
        found = [band.ends_s(site[p], sent_s[p], (sent_s + wait_s)[p], alone_s[p]) for p in parts if len(p)]
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("load", [0.1, 0.5])
def test_the_mean_of_a_shared_band_is_that_of_processor_sharing(load, spread):
    """Mean size over (1 - load) whatever the sizes are: constant, exponential, or rare and long (M/G/1-PS)."""
    chance, n = np.random.default_rng(2), 200_000
    sizes_s = {0.0: np.ones(n), 1.0: chance.exponential(1.0, n), 3.0: chance.gamma(1 / 9, 9.0, n)}[spread]
    sent_s = np.cumsum(chance.exponential(1 / load, n))
    ends_s = Band(1).ends_s(np.zeros(n, dtype=np.int64), sent_s, sent_s, sizes_s)
    assert np.mean(ends_s - sent_s) == pytest.approx(sizes_s.mean() / (1 - load), rel=0.03)


def a3_slowly(paths, ground, rule, until_s):
    """Return the handovers (user, at_s, to) of the rule in the module's words, user by user, step by step."""
    found = []
    for user in range(paths.n_users):
        serving, better_since = None, {}
        for step in range(int(until_s / rule.measurement_s) + 1):
            at_s = step * rule.measurement_s
            square = ground.measure(*paths.places_m(np.array([user]), np.array([at_s])))[0]
            heard = dict(zip(ground.site[square].tolist(), ground.dbm[square].tolist(), strict=True))
            if serving is None:
                serving = max(heard, key=heard.get)
            limit = heard.get(serving, -inf) + rule.hysteresis_db
            better = {site: dbm for site, dbm in heard.items() if site != serving and dbm > limit}
            better_since = {site: since for site, since in better_since.items() if site in better}
            if not better_since and better:
                better_since = {max(better, key=better.get): at_s}
            for site, since in better_since.items():
                if at_s - since >= rule.time_to_trigger_s - 1e-9:
                    found.append((user, at_s, site))
                    serving, better_since = site, {}
                    break
    return sorted(found, key=lambda row: (row[1], row[0]))


@pytest.mark.parametrize("rule", [
    HandoverRule(),
    HandoverRule(hysteresis_db=0.0, time_to_trigger_s=0.0, measurement_s=0.5),
    HandoverRule(hysteresis_db=6.0, time_to_trigger_s=2.2),
])  # fmt: skip
def test_handovers_are_those_of_event_a3(rule):
    """The compiled state machine agrees with one that follows each user step by step."""
    access = radio(handover=rule).begin(seed=11, stop_s=120.0)
    found = access.record(120.0).handovers
    paths = WALK.paths(seed=11, until_s=200.0)
    expected = a3_slowly(paths, access._ground, rule, 119.99)
    assert list(zip(found.user.tolist(), found.at_s.tolist(), found.to_site.tolist(), strict=True)) == expected
    assert len(expected) > 10


def test_handovers_are_fewer_with_more_hysteresis():
    """Over 40 users and five minutes each 3 dB more, or a second more to trigger, leave fewer handovers."""
    by_db = [len(handovers(radio(handover=HandoverRule(hysteresis_db=db)))) for db in (0.0, 3.0, 6.0, 9.0, 40.0)]
    assert by_db == sorted(by_db, reverse=True)
    assert by_db[0] > by_db[2] > by_db[4]
    by_s = [len(handovers(radio(handover=HandoverRule(time_to_trigger_s=s)))) for s in (0.0, 1.0, 3.0, 8.0)]
    assert by_s == sorted(by_s, reverse=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), hysteresis_db=st.floats(0, 10))
def test_who_stands_is_never_handed_over(seed, hysteresis_db):
    """A user at rest is at its strongest site from the start."""
    users = Standing(n_users=50, width_m=600.0, height_m=600.0)
    network = radio(users, handover=HandoverRule(hysteresis_db=hysteresis_db))
    assert len(handovers(network, seed=seed)) == 0
    access = network.begin(seed=seed, stop_s=100.0)
    square = access._ground.measure(*users.paths(seed=seed, until_s=0).places_m(np.arange(50), np.zeros(50)))
    strongest = access._ground.site[square, np.argmax(access._ground.dbm[square], axis=1)]
    assert access._attachment.site(np.arange(50), np.full(50, 77.0)).tolist() == strongest.tolist()


def crossing(**rest):
    """Return one user who walks from the western site to the eastern one in 40 s."""
    walk = at((0.0, 0.0), (400.0, 0.0), at_s=(0.0, 40.0))
    return radio(walk, sites=TWO, channel=replace(QUIET, **rest.pop("channel", {})), **rest)


def test_nothing_is_sent_during_a_handovers_interruption():
    """What is sent within it begins at its end, what spans it is as much longer, what is over before is not."""
    rule = HandoverRule(interruption_s=2.0)
    network = crossing(handover=rule, channel={"bandwidth_hz": 1e5})
    access = network.begin(seed=5, stop_s=200.0)
    at_s = float(access.record(200.0).handovers.at_s[0])
    smooth = crossing(handover=replace(rule, interruption_s=0.0), channel={"bandwidth_hz": 1e5}).begin(
        seed=5, stop_s=200.0
    )
    for sent_s, gained_s in ((at_s + 0.5, 1.5), (at_s - 0.0001, 2.0), (at_s - 8.0, 0.0)):
        found, plain = (a.down_s(sent_s, 0, 10) for a in (access, smooth))
        if gained_s == 1.5:
            later = crossing(handover=rule, channel={"bandwidth_hz": 1e5}).begin(seed=5, stop_s=200.0)
            assert found == later.down_s(at_s + 2.0, 0, 10)
        else:
            assert found - plain == pytest.approx(gained_s, abs=1e-9)
        access, smooth = (crossing(handover=r, channel={"bandwidth_hz": 1e5}).begin(seed=5, stop_s=200.0)
                          for r in (rule, replace(rule, interruption_s=0.0)))  # fmt: skip


def test_out_of_coverage_a_request_waits_until_its_user_is_back():
    """A user who is 3 km away until it walks in waits; one who stays there is never heard."""
    walk = at((3000.0, 0.0), (3000.0, 0.0), (10.0, 0.0), at_s=(0.0, 10.0, 310.0))
    access = radio(walk, sites=ONE, channel=QUIET).begin(seed=1, stop_s=1000.0)
    there_s = access.up_s(5.0, 0, 100)
    x_m = access._attachment.paths.places_m(np.array([0]), np.array([there_s]))[0][0]
    assert 10.0 < there_s < 310.0
    assert x_m < 2000.0
    record = access.record(999.0)
    assert record.up.waited.tolist() == [True]
    assert record.up.begun_s[0] == np.floor(record.up.begun_s[0])  # a measurement
    stays = radio(at((3000.0, 0.0)), sites=ONE, channel=QUIET).begin(seed=1, stop_s=1000.0)
    assert stays.up_s(5.0, 0, 100) == inf


users_and_times = st.lists(
    st.tuples(st.integers(0, 39), st.floats(0.0, 200.0), st.integers(1, 4000)), min_size=1, max_size=40
)


@settings(max_examples=20, deadline=None)
@given(rows=users_and_times, seed=st.integers(0, 99))
def test_one_by_one_is_the_same_as_all_at_once(rows, seed):
    """Asked for in the order of time or together, up and down, every transfer ends at the same instant."""
    rows = sorted(rows, key=lambda row: row[1])
    user, sent_s, tokens = (np.array(column) for column in zip(*rows, strict=True))
    network = radio(channel=Channel(bandwidth_hz=2e5))
    many, few = (network.begin(seed=seed, stop_s=400.0) for _ in range(2))
    up_s = many.up_s(sent_s, user, tokens)
    down_s = many.down_s(sent_s + 0.25, user, tokens)
    for i, (u, at_s, n) in enumerate(rows):
        assert few.up_s(at_s, u, n) == pytest.approx(up_s[i], rel=1e-12)
        assert few.down_s(at_s + 0.25, u, n) == pytest.approx(down_s[i], rel=1e-12)
    a, b = (x.record(200.0) for x in (many, few))
    np.testing.assert_array_equal(a.handovers.at_s, b.handovers.at_s)
    assert sorted(a.up.ended_s) == pytest.approx(sorted(b.up.ended_s))


def load_of(n, seed, n_users=40):
    chance = np.random.default_rng(seed)
    requests = requests_at(np.sort(chance.uniform(0, 100, n)), chance.integers(1, 900, n), chance.integers(1, 60, n))
    requests = replace(requests, user_id=chance.integers(n_users, size=n))
    first = chance.integers(2, size=n)
    return requests, Legs(
        request=np.repeat(np.arange(n), 2),
        expert=np.stack([first, 1 - first], axis=1).ravel(),
        weight=np.full(2 * n, 0.5),
        prompt_tokens=np.repeat(requests.prompt_tokens, 2),
        output_tokens=np.repeat(requests.output_tokens, 2) + np.tile([0, 3], n),
    )


def played(engine, network, seed, n=60):
    requests, legs = load_of(n, seed)
    costs = profile((0.02, 1e-4, 0.0), (0.01, 1e-3, 0.0))
    return simulate(
        experts=[expert(costs, name=name, max_batch=4) for name in "ab"], requests=requests, legs=legs,
        network=Network(access_delay_s=0.02, lan_delay_s=0.0005, radio=network), duration_s=101.0, drain_cap_s=500.0,
        seed=seed, engine=engine,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), bandwidth_hz=st.sampled_from([1e5, 1e6, 20e6]), reach_dbm=st.sampled_from([5.0, 23.0])
)
def test_the_engines_agree_with_users_on_the_radio(seed, bandwidth_hz, reach_dbm):
    """Legs' and requests' times agree to 1e-9, with crowded cells, handovers and users out of coverage."""
    network = radio(channel=Channel(bandwidth_hz=bandwidth_hz, user_tx_dbm=reach_dbm))
    fast, slow = (played(engine, network, seed) for engine in ("compiled", "simpy"))
    assert fast.outcomes.status.tolist() == slow.outcomes.status.tolist()
    for column in ("arrived_s", "started_s", "first_token_s", "finished_s", "energy_j"):
        np.testing.assert_allclose(
            getattr(fast.outcomes, column), getattr(slow.outcomes, column), rtol=1e-9, err_msg=column
        )
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_is_never_heard_is_unfinished_and_costs_nothing(engine):
    """A request without coverage has no instants, takes no energy and is unfinished; nothing disappears."""
    run = played(engine, radio(at(*[(4000.0, 0.0)] * 40), sites=ONE, channel=QUIET), seed=1)
    tables = tabulate(run)
    assert set(tables.requests["status"]) == set(tables.legs["status"]) == {"unfinished"}
    assert tables.legs[["arrived_s", "started_s", "first_token_s", "finished_s"]].isna().all(axis=None)
    assert tables.requests["finished_s"].isna().all()
    assert tables.legs["energy_j"].sum() == 0


def test_the_radio_changes_no_arrival_and_no_noise():
    """Mobility and shadowing draw from streams of their own: another radio leaves requests, users and prompts alike."""
    from twin.randomness import streams

    names = ("arrivals", "users", "prompts", "modulation")
    before = {name: streams(4)[name].random() for name in names}
    expected = dict(zip(names, (g.random() for g in np.random.default_rng(4).spawn(4)), strict=True))
    assert before == expected


def test_the_map_is_what_is_heard_in_the_middle_of_its_squares():
    """Each square lists its nearest sites, the nearest first, with the signal in its middle to a float's precision."""
    air = air_of(Channel(), GRID.x_m, GRID.y_m, key=9)
    ground = SignalMap(air, (0.0, 0.0, 600.0, 400.0))
    square = ground.measure(np.array([101.0]), np.array([203.0]))[0]
    x_m, y_m = 101.25, 203.75  # the middle of the square of 2.5 m that it lies in
    distance_m = np.hypot(GRID.x_m - x_m, GRID.y_m - y_m)
    sites = ground.site[square]
    assert distance_m[sites].tolist() == sorted(distance_m)[:8]
    from twin.radio.propagation import heard_dbm

    expected = heard_dbm(air, np.array([x_m]), np.array([y_m]), sites[None, :])[0]
    np.testing.assert_allclose(ground.dbm[square], expected, rtol=1e-6)


def test_users_far_from_every_site_are_refused():
    """Path loss is known to 5 km: a trace or an area further away is a mistake, and the message says where."""
    with pytest.raises(ValueError, match=r"users can be at \(90000 m, 0 m\), 90.0 km from the nearest access point"):
        radio(at((90_000.0, 0.0)), sites=ONE).begin(seed=0, stop_s=1.0)
