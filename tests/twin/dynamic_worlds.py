"""Random worlds: devices crash, slow down, switch modes, are shared and cut off; for the tests of both engines."""

import numpy as np
from hypothesis import strategies as st
from twin_plant import expert, legs_to_all, profile, requests_at

from tests.strategies import EXACT, MIXED, ROUGH, coefficients, loads
from twin.network import Network
from twin.servers.faults import Crash, PowerSwitch, SlowDown
from twin.servers.outages import Outage, RandomOutages
from twin.world import simulate

COLUMNS = ("arrived_s", "started_s", "first_token_s", "finished_s", "energy_j")
RESIDUALS = ((0.25, -0.1, -0.15), (0.5, -0.125, -0.2))
MODES = ("low", "high")


@st.composite
def profiles(draw, knee_tokens=0):
    seconds, joules = draw(coefficients()), draw(coefficients())
    return profile(
        seconds[0], seconds[1], prefill_j=joules[0], decode_j=joules[1], residuals=RESIDUALS, knee_tokens=knee_tokens,
        idle_w=draw(st.integers(0, 8)) / 4, mixed_s=draw(MIXED), mixed_j=draw(MIXED),
    )  # fmt: skip


@st.composite
def experts(draw, name, device):
    """Return an expert with two more power modes; memory is often tight, the token budget often below the batch."""
    return expert(
        draw(profiles(draw(st.integers(0, 12)))),
        name=name,
        max_batch=draw(st.integers(1, 6)),
        kv_capacity_tokens=draw(st.integers(8, 60)),
        scheduler=draw(st.sampled_from(["prefill_first", "chunked"])),
        token_budget=draw(st.integers(1, 20)),
        kv=draw(st.sampled_from(["reserve", "paged"])),
        block_tokens=draw(st.integers(1, 6)),
        noise=draw(st.booleans()),
        power_modes={mode: draw(profiles(draw(st.integers(0, 12)))) for mode in MODES},
        load_s=draw(st.sampled_from([0.0, 0.5, 3.0])),
        load_j=draw(st.sampled_from([0.0, 7.0])),
        loads_at_start=draw(st.booleans()),
        device=device,
    )


@st.composite
def instants(draw):
    """Return when something begins, as a strategy, and how long it lasts; often at arrivals and boundaries."""
    begins = draw(st.sampled_from([EXACT, ROUGH])).map(lambda x: 30 * x)
    return begins, draw(st.sampled_from([EXACT, ROUGH])).map(lambda x: 10 * x + 1 / 64)


@st.composite
def faults(draw):
    """Return what befalls a device."""
    number, lasts = draw(instants())
    found = [
        *(Crash(at_s=(at := draw(number)), repaired_s=at + draw(lasts)) for _ in range(draw(st.integers(0, 2)))),
        *(
            SlowDown(at_s=(at := draw(number)), ends_s=at + draw(lasts), factor=draw(st.sampled_from([0.5, 1.5, 3.0])))
            for _ in range(draw(st.integers(0, 2)))
        ),
        *(
            PowerSwitch(
                at_s=draw(number), mode=draw(st.sampled_from(MODES)), lasts_s=draw(st.sampled_from([0.0, 0.25, 2.0])),
                energy_j=draw(st.sampled_from([0.0, 3.0])),
            )
            for _ in range(draw(st.integers(0, 2)))
        ),
    ]  # fmt: skip
    return draw(st.permutations(found))


@st.composite
def networks(draw, devices):
    """Return a network whose LAN, and each device's own link to it, is down for times, stated and drawn."""
    begins, lasts = draw(instants())
    outage = st.builds(lambda at_s, lasts_s: Outage(at_s=at_s, ends_s=at_s + lasts_s), begins, lasts)
    some = st.lists(outage, max_size=2)
    at_random = st.sampled_from([{}, {devices[0]: RandomOutages(mtbf_s=20.0, mean_s=3.0)}])
    return Network(
        lan_delay_s=draw(st.sampled_from([0.0, 0.25])),
        lan_outages=tuple(draw(some)),
        device_outages={device: draw(some) for device in devices},
        random_outages=draw(at_random),
    )


@st.composite
def worlds(draw):
    """Return experts, rows of a load that goes to all of them, faults by device, and the network between."""
    devices = draw(st.sampled_from([("x",), ("x", "x"), ("x", "x", "x"), ("x", "y"), ("y", "x", "y")]))
    plant = [draw(experts(f"expert {i}", device)) for i, device in enumerate(devices)]
    names = sorted(set(devices))
    return plant, draw(loads()), {name: draw(faults()) for name in names}, draw(networks(names))


def played(engine, plant, rows, befall, *, seed=0, duration_s=1e3, drain_cap_s=1e4, rules=None, network=None):
    ids, arrived_s, prompts, outputs = zip(*(row[:4] for row in rows), strict=True)
    requests = requests_at(arrived_s, prompts, outputs, ids=np.array(ids))
    return simulate(
        experts=plant,
        requests=requests,
        legs=legs_to_all(requests, len(plant)),
        network=network or Network(),
        duration_s=duration_s,
        drain_cap_s=drain_cap_s,
        seed=seed,
        engine=engine,
        faults=befall,
        rules=rules,
    )
