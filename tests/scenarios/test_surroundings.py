"""Users and access points in a scenario: what is read, what is refused, and that the resolved one runs again."""

import pandas as pd
import pytest

from scenarios.files.loading import load
from scenarios.files.networking import build_network
from scenarios.running import perform, prepare
from scenarios.runs.replicating import assemble, draw_loads
from twin.network import Network
from twin.users.mobility import RandomWaypoint, Recorded, Standing

GRID = "network.access_points.grid=[3, 2]"
WALK = 'users.mobility="random_waypoint"'


def network_of(*changes):
    return build_network(load("testbed", list(changes)))


def test_without_access_points_the_network_is_its_two_delays():
    """The default is what it was: fixed delays, no radio."""
    assert network_of() == Network(access_delay_s=0.02, lan_delay_s=0.0005)


def test_users_are_as_the_scenario_says():
    """Static users and walkers stay in the stated area, or in that of the grid's squares."""
    still = network_of(GRID).radio.mobility
    assert isinstance(still, Standing)
    assert still.box_m == (0.0, 0.0, 600.0, 400.0)
    walk = network_of(GRID, WALK, "users.area_m=[500.0, 300.0]", "users.speed_m_per_s=[1.0, 2.0]").radio.mobility
    assert isinstance(walk, RandomWaypoint)
    assert (walk.n_users, walk.box_m, walk.speed_m_per_s) == (240, (0.0, 0.0, 500.0, 300.0), (1.0, 2.0))


def test_every_key_of_the_radio_reaches_it():
    """The channel and the handover rule have the scenario's values; what is left out has the stated defaults."""
    radio = network_of(
        GRID, "network.radio.carrier_hz=2.6e9", "network.radio.hysteresis_db=5.0", "network.radio.bytes_per_token=3.0"
    ).radio
    assert (radio.channel.carrier_hz, radio.handover.hysteresis_db, radio.bytes_per_token) == (2.6e9, 5.0, 3.0)
    assert (radio.channel.bandwidth_hz, radio.handover.interruption_s) == (20e6, 0.05)


def test_files_of_sites_and_positions_are_found_beside_the_scenario_and_from_one_that_extends_it(tmp_path):
    """Paths hold relative to the file that has them; degrees are counted from the sites' corner."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "sites.csv").write_text("SITE_ID,LATITUDE,LONGITUDE\na,-37.0,144.0\nb,-37.0,144.01\n")
    (tmp_path / "base" / "who.csv").write_text("user_id,at_s,latitude,longitude\nu,0,-37.0,144.0\nu,9,-37.0,144.005\n")
    (tmp_path / "base" / "base.toml").write_text(
        'extends = "testbed"\n[users]\ncount = 1\nmobility = "trace"\npositions = "who.csv"\n'
        '[network.access_points]\npath = "sites.csv"\n'
    )
    (tmp_path / "other.toml").write_text('extends = "base/base.toml"\nname = "other"\n')
    for name in ("base/base.toml", "other.toml"):
        radio = build_network(load(tmp_path / name)).radio
        assert isinstance(radio.mobility, Recorded)
        assert radio.sites.names == ("a", "b")
        assert radio.mobility.box_m[2] == pytest.approx(radio.sites.x_m[1] / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([WALK], "users: where they are matters to nothing"),
        (["network.radio.carrier_hz=2e9"], "there are no access points; add"),
        ([GRID, "network.access_points.path=sites.csv"], "give exactly one of grid and path"),
        ([GRID, 'users.mobility="trace"'], "positions is None; a file of positions goes with mobility"),
        ([GRID, "users.speed_m_per_s=[2.0, 1.0]"], "give the least first"),
        ([GRID, "network.radio.carrier_hz=1e6"], "carrier_hz is 1e.06, must be from 5e.08 to 1e.11"),
        ([GRID, "network.radio.hysteresis_db=-1.0"], "hysteresis_db is -1.0, must be"),
        ([GRID, "users.count=999999999"], "should be at most 10000000"),
        ([GRID, "network.radio.carier_hz=2e9"], "did you mean 'carrier_hz'"),
        ([GRID, 'users.mobility="walking"'], "should be 'static', 'random_waypoint' or 'trace'"),
        ([GRID, "users.area_m=[90000.0, 100.0]"], "km from the nearest access point"),
        (["network.access_points.path=nowhere.csv"], r"\[network.access_points\]: .*nowhere.csv: cannot be read"),
        ([GRID, 'users.mobility="trace"', "users.positions=who.csv"], r"\[users\]: .*who.csv: cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(changes, message):
    """The message names the scenario or what was set, the key and the way out."""
    with pytest.raises(ValueError, match=message) as found:
        assemble(load("testbed", changes))
    assert "testbed.toml" in str(found.value) or str(found.value).startswith("--set ")


SMALL = [
    GRID, WALK, "users.count=30", "duration_s=120.0", "warmup_s=0.0", "replications=2", "verdicts.max_replications=2",
    'verdicts.inputs="nominal"', "load.requests_per_s=0.5", "users.speed_m_per_s=[5.0, 9.0]", "router.k=2",
    'router.subset=["llama-3.1-8b-instruct@rtx4090-a", "mathstral-7b@rtx4090-c"]',
]  # fmt: skip


def run_to(folder, scenario, console, engine="compiled"):
    perform(prepare(scenario, folder, engine=engine), report=False, console=console)
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture
def console():
    from rich.console import Console

    return Console(quiet=True)


def test_the_resolved_scenario_runs_again_to_the_same_bytes(tmp_path, console):
    """scenario.toml of a run with moving users gives the same tables, byte for byte."""
    first = run_to(tmp_path / "first", load("testbed", SMALL), console)
    again = run_to(tmp_path / "again", load(tmp_path / "first" / "scenario.toml"), console)
    assert first == again


def test_moving_users_change_no_arrival():
    """Another mobility, another radio: who asks what and when stays as it was."""
    still = [change for change in SMALL if not change.startswith("users.speed")]
    all_changes = (SMALL, [*still, 'users.mobility="static"'])
    found = [draw_loads(assemble(load("testbed", changes))) for changes in all_changes]
    for a, b in zip(*found, strict=True):
        for column in ("arrived_s", "user_id", "prompt"):
            assert getattr(a.requests, column).tolist() == getattr(b.requests, column).tolist()


def test_a_request_file_without_users_is_sent_by_some(tmp_path, console):
    """Requests of a file that names no user are those of users drawn as for any load."""
    rows = "request_id,arrived_s,prompt_tokens,output_tokens,category\n0,1.0,20,5,law\n1,2.0,30,6,math\n"
    (tmp_path / "requests.csv").write_text(rows)
    scenario = load("testbed", [*SMALL, f'load={{process="requests", path="{tmp_path / "requests.csv"}"}}'])
    run_to(tmp_path / "out", scenario, console)
    users = pd.read_parquet(tmp_path / "out" / "requests.parquet")["user_id"]
    assert users.between(0, 29).all()


def test_a_closed_loop_on_the_radio_is_the_same_on_both_engines(tmp_path, console):
    """Users who wait for answers before they ask again, moving: both engines agree to 1e-9, row by row."""
    changes = [*SMALL, 'load={process="closed_loop", think_s=20.0}', "replications=1", "verdicts.max_replications=1"]
    for engine in ("compiled", "simpy"):
        run_to(tmp_path / engine, load("testbed", changes), console, engine=engine)
    for table in ("requests", "legs", "handovers", "cells"):
        fast, slow = (pd.read_parquet(tmp_path / engine / f"{table}.parquet") for engine in ("compiled", "simpy"))
        assert len(fast) > 0
        pd.testing.assert_frame_equal(fast, slow, rtol=1e-9, atol=1e-9)


def test_the_eua_city_runs(tmp_path, console, data):
    """Melbourne's real sites and users: every request ends, and nearly all users are in coverage."""
    where = [
        f'network.access_points={{path="{data / "topology" / "eua_site-optus-melbCBD.csv"}"}}',
        f'users={{count=816, mobility="trace", positions="{data / "topology" / "eua_users-melbcbd-generated.csv"}"}}',
    ]
    small = [change for change in SMALL if change not in {GRID, WALK} and not change.startswith("users.")]
    run_to(tmp_path / "out", load("testbed", [*small, *where]), console)
    requests, handovers = (pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("requests", "handovers"))
    assert (requests["status"] == "served").mean() > 0.9
    assert handovers.empty  # they stand
