"""The twin obeys queueing theory where it is a queue that theory solves."""

import numpy as np
from scipy import stats
from twin_plant import expert, legs_to_all, profile, prompt_pool, requests_at

from twin.load import poisson_requests
from twin.network import Network
from twin.world import simulate


def mean_waits_s(load: float, service_s: float, replications: int, n: int) -> list[float]:
    """Return the mean wait of each replication of a server that takes `service_s` for each prompt, warmed up."""
    waits_s, duration_s = [], n * service_s / load
    server = expert(profile((service_s, 0.0, 0.0)))
    for seed in range(replications):
        drawn = poisson_requests(
            requests_per_s=load / service_s,
            n_users=5,
            duration_s=duration_s,
            pool=prompt_pool(),
            rows=np.arange(40),
            seed=seed,
        )
        requests = requests_at(drawn.arrived_s, [1] * len(drawn), [1] * len(drawn))
        out = simulate(
            experts=[server],
            requests=requests,
            legs=legs_to_all(requests),
            network=Network(),
            duration_s=duration_s,
            drain_cap_s=1e9,
            seed=seed,
        ).outcomes
        warm = out.arrived_s >= duration_s / 10
        waits_s.append(float((out.started_s - out.arrived_s)[warm].mean()))
    return waits_s


def test_one_slot_and_constant_service_wait_as_pollaczek_and_khinchine_say():
    """M/D/1: the mean wait is rho·S / (2·(1 - rho)), inside the 99.9 % interval of independent replications."""
    load, service_s = 0.7, 0.4
    waits_s = mean_waits_s(load, service_s, replications=20, n=2500)
    expected_s = load * service_s / (2 * (1 - load))
    mean, error = np.mean(waits_s), stats.sem(waits_s)
    half = stats.t.ppf(0.9995, len(waits_s) - 1) * error
    assert half < 0.15 * expected_s, "the interval is too wide to say anything"
    assert abs(mean - expected_s) < half


def test_users_who_hardly_load_a_server_do_not_wait():
    """As the load goes to 0 so does the wait."""
    assert max(mean_waits_s(0.001, 0.4, replications=3, n=300)) < 0.002
