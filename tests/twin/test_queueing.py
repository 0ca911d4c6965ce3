"""The twin obeys queueing theory where it is a queue that theory solves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from twin_plant import FixedRouter, expert, legs_to_all, profile, prompt_pool, requests_at, run_all

from twin.gateway.routing import routed_legs
from twin.network import Network
from twin.users.arrivals import gamma_arrivals_s
from twin.users.load import poisson_requests
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


def played(arrived_s, prompts, outputs, server, **kwargs):
    return run_all(requests_at(arrived_s, prompts, outputs), server, **kwargs)


def test_exponential_service_waits_as_an_mm1_queue():
    """M/M/1: with prefill 0 and a geometric number of equal iterations, the mean time in system is 1/(mu - lambda).

    Service of O tokens is O - 1 iterations of step_s each: geometric with small steps, so nearly exponential; the exact
    mean wait of such service follows from Pollaczek and Khinchine and is what is compared.
    """
    step_s, mean_n, load, n = 0.01, 100, 0.6, 4000
    waits_s, expected_s = [], []
    for seed in range(12):
        chance = np.random.default_rng(seed)
        services = chance.geometric(1 / mean_n, n)
        arrived_s = np.cumsum(chance.exponential(mean_n * step_s / load, n))
        server = expert(profile((0.0, 0.0, 0.0), (step_s, 0.0, 0.0)))
        out = played(arrived_s, [1] * n, services + 1, server).outcomes
        waits_s.append(float((out.started_s - out.arrived_s)[n // 10 :].mean()))
        second = step_s**2 * (2 - 1 / mean_n) * mean_n**2  # E[S²] of a geometric number of steps
        expected_s.append(load / (mean_n * step_s) * second / (2 * (1 - load)))
    half = stats.t.ppf(0.9995, 11) * stats.sem(waits_s)
    assert abs(np.mean(waits_s) - expected_s[0]) < half
    assert expected_s[0] == pytest.approx(load / (1 - load) * mean_n * step_s, rel=0.01)  # M/M/1's own formula
    assert half < 0.3 * expected_s[0]


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_littles_law_and_utilisation(scheduler):
    """The mean number in the system is arrival rate times mean time there; a lone slot is busy lambda E[S]."""
    chance = np.random.default_rng(8)
    n = 2000
    arrived_s = np.sort(chance.uniform(0, 4000, n))
    prompts, outputs = chance.integers(1, 50, n), chance.integers(1, 40, n)
    costs = profile((0.02, 1e-3, 0.0), (0.03, 2e-3, 1e-5))
    out = played(arrived_s, prompts, outputs, expert(costs, max_batch=8, scheduler=scheduler)).outcomes
    events = np.concatenate([out.arrived_s, out.finished_s])
    steps = np.concatenate([np.ones(n), -np.ones(n)])[np.argsort(events, kind="stable")]
    times = np.sort(events)
    area = float((np.cumsum(steps)[:-1] * np.diff(times)).sum())
    assert area == pytest.approx(float((out.finished_s - out.arrived_s).sum()), rel=1e-9)
    alone = played(arrived_s, prompts, outputs, expert(costs, max_batch=1))
    assert alone.busy_s[0] == pytest.approx(float(costs.seconds.leg_of(prompts, outputs).sum()), rel=1e-9)


def test_a_large_batch_is_insensitive_to_the_service_distribution():
    """Without cost per sequence a batch is M/G/∞: the mean time in system is E[S], whatever the distribution.

    A leg waits for the boundary under way, so it is longer by at most an iteration.
    """
    step_s, n = 0.01, 3000
    for outputs in (np.full(n, 101), np.random.default_rng(1).geometric(1 / 100, n) + 1):
        arrived_s = np.cumsum(np.random.default_rng(2).exponential(0.05, n))
        server = expert(profile((0.0, 0.0, 0.0), (step_s, 0.0, 0.0)), max_batch=n)
        out = played(arrived_s, [1] * n, outputs, server).outcomes
        extra_s = (out.finished_s - out.arrived_s) - (outputs - 1) * step_s
        assert extra_s.min() > -1e-6
        assert extra_s.max() < step_s + 1e-6


@pytest.mark.parametrize("spread", ["constant", "geometric", "two lengths"])
def test_a_batch_whose_iterations_grow_with_it_shares_the_processor(spread):
    """M/G/1-PS: when an iteration takes as long as its sequences, E[T] = E[S] / (1 - load) for every distribution.

    Insensitivity (Kelly 1979): inside the 99.9 % interval of independent replications, plus an iteration of waiting.
    """
    step_s, mean_n, load, n = 0.01, 60, 0.6, 3000
    found_s = []
    for seed in range(10):
        chance = np.random.default_rng(seed)
        lengths = {
            "constant": np.full(n, mean_n),
            "geometric": chance.geometric(1 / mean_n, n),
            "two lengths": np.where(chance.random(n) < 0.9, 20, 420),
        }[spread]
        arrived_s = np.cumsum(chance.exponential(mean_n * step_s / load, n))
        server = expert(profile((0.0, 0.0, 0.0), (0.0, step_s, 0.0)), max_batch=n)
        out = played(arrived_s, [1] * n, lengths + 1, server).outcomes
        found_s.append(float((out.finished_s - out.arrived_s)[n // 10 :].mean()))
    expected_s = mean_n * step_s / (1 - load)
    half = stats.t.ppf(0.9995, 9) * stats.sem(found_s)
    assert half < 0.35 * expected_s, "the interval is too wide to say anything"
    assert abs(np.mean(found_s) - expected_s) < half + step_s / (1 - load)


def test_littles_law_for_every_server_and_for_the_whole_system():
    """Seen at instants of their own, the mean numbers at a server and in the system are rate times mean time there."""
    pool, router, duration_s = prompt_pool(n_experts=3), FixedRouter(2, 0), 2000.0
    costs = profile((0.02, 1e-3, 0.0), (0.02, 2e-3, 1e-5))
    requests = poisson_requests(
        requests_per_s=4.0, n_users=9, duration_s=duration_s, pool=pool, rows=np.arange(40), seed=5
    )
    experts = [expert(costs, name=name, max_batch=8, kv_capacity_tokens=10**6) for name in "abc"]
    run = simulate(
        experts=experts, requests=requests, legs=routed_legs(requests, router, pool),
        network=Network(access_delay_s=0.3, lan_delay_s=0.01), duration_s=duration_s, drain_cap_s=1e9, seed=5,
    )  # fmt: skip
    looks_s = np.random.default_rng(6).uniform(0, run.finished_s.max(), 200_000)
    places = [(run.requests.arrived_s, run.finished_s)]
    for i in (0, 2):
        mine = run.legs.expert == i
        places.append((run.outcomes.arrived_s[mine], run.outcomes.finished_s[mine]))
    for came_s, left_s in places:
        seen = np.searchsorted(np.sort(came_s), looks_s, "right") - np.searchsorted(np.sort(left_s), looks_s, "right")
        rate = len(came_s) / run.finished_s.max()
        assert seen.mean() == pytest.approx(rate * (left_s - came_s).mean(), rel=4 * stats.sem(seen) / seen.mean())
        assert stats.sem(seen) < 0.01 * seen.mean()


def test_bursts_lengthen_the_tail():
    """At equal mean load, gamma gaps with a coefficient of variation of 3 give a p95 above Poisson's in every run."""
    server = expert(profile((0.5, 0.0, 0.0)))
    for seed in range(5):
        p95_s = []
        for cv in (1.0, 3.0):
            arrived_s = gamma_arrivals_s(np.random.default_rng(seed), requests_per_s=1.2, cv=cv, duration_s=4000.0)
            out = played(arrived_s, [1] * len(arrived_s), [1] * len(arrived_s), server).outcomes
            p95_s.append(float(np.quantile(out.finished_s - out.arrived_s, 0.95)))
        assert p95_s[1] > 2 * p95_s[0]


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    """A run with noise, written by two processes of their own, gives byte-identical tables."""
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = ['tests/twin', '.']; import numpy as np;"
        "from twin_plant import *; from twin.records.tables import tabulate, write_tables;"
        "e = expert(profile((0.1, 0.01, 0.0), (0.1, 0.01, 1e-4), residuals=((0.2, -0.1), (0.3, -0.2))), max_batch=4, "
        "noise=True); r = requests_at(list(np.arange(200) / 7), [5] * 200, [9] * 200);"
        "write_tables(tabulate(run_all(r, e, seed=3)), Path(sys.argv[1]))"
    )
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=Path(__file__).parents[2])
    for name in ("requests", "legs", "devices"):
        one, two = ((folder / f"{name}.parquet").read_bytes() for folder in folders)
        assert one == two
