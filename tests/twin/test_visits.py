"""Users who wait for their answers: closed loops and sessions, in both engines."""

import numpy as np
import pytest
from dynamic_worlds import COLUMNS
from scipy import stats
from twin_plant import FixedRouter, expert, profile, prompt_pool

from twin.gateway.rules import Rules
from twin.network import Network
from twin.records.tables import tabulate
from twin.servers.faults import Crash, SlowDown
from twin.users.prompts import PromptPool
from twin.users.visits import closed_loop, sessions
from twin.world import ENGINES, simulate_visits

COSTS = {"prefill_s": (0.1, 0.003, 1e-6), "decode_s": (0.02, 0.004, 1e-5)}
NOISE = ((0.25, -0.1, -0.15), (0.5, -0.125, -0.2))


def visited(visits, *, engine="compiled", plant=None, duration_s=300.0, pool=None, experts=(0, 1), **rest):
    pool = pool or prompt_pool()
    plant = plant or [
        expert(profile(**COSTS, residuals=NOISE), name=f"e{i}", device=f"d{i}", max_batch=4, noise=True)
        for i in range(2)
    ]
    return simulate_visits(
        experts=plant,
        visits=visits,
        pool=pool,
        rows=np.arange(len(pool)),
        router=FixedRouter(*experts),
        network=rest.pop("network", Network(access_delay_s=0.0123, lan_delay_s=0.00371)),
        duration_s=duration_s,
        drain_cap_s=1e9,
        seed=5,
        engine=engine,
        **rest,
    )


LOOP = closed_loop(n_users=20, think_s=7.0, seed=5)
TALKS = sessions(sessions_per_s=0.5, n_turns=4, think_s=3.0, think="constant", n_users=9, duration_s=300.0, seed=5)
RULES = Rules(k=1, load_aware=True, timeout_s=0.6, max_attempts=2, admission_limit=9)
FAULTS = {"d0": [Crash(at_s=50.0, repaired_s=70.0)], "d1": [SlowDown(at_s=100.0, factor=2.5)]}


@pytest.mark.parametrize("visits", [LOOP, TALKS], ids=["loop", "sessions"])
@pytest.mark.parametrize("rules", [None, RULES], ids=["plain", "rules"])
def test_the_engines_agree_on_users_who_wait(visits, rules):
    """Requests, attempts, times and joules agree to 1e-9, with noise, a crash, a slow device and a busy gateway."""
    fast, slow = (visited(visits, engine=engine, rules=rules, faults=FAULTS) for engine in ("compiled", "simpy"))
    assert fast.requests.request_id.tolist() == slow.requests.request_id.tolist()
    assert fast.status_code.tolist() == slow.status_code.tolist()
    assert fast.outcomes.reason.tolist() == slow.outcomes.reason.tolist()
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(fast.outcomes, column), getattr(slow.outcomes, column), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)
    assert len(fast.requests) > 300


@pytest.mark.parametrize("engine", ENGINES)
def test_a_user_has_one_request_at_a_time_and_thinks_between(engine):
    """Each request of a user of a closed loop comes the think time after the answer to the one before."""
    visits = closed_loop(n_users=8, think_s=5.0, think="constant", seed=5)
    requests = tabulate(visited(visits, engine=engine)).requests
    for _, mine in requests.groupby("user_id"):
        gaps_s = mine.arrived_s.to_numpy()[1:] - mine.finished_s.to_numpy()[:-1]
        np.testing.assert_allclose(gaps_s, 5.0, rtol=1e-9)
        assert mine.arrived_s.iloc[0] < 5.0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_context_of_a_session_grows_by_what_was_said(engine):
    """A turn's prompt is its own text after all texts and answers before it; a session ends after its turns."""
    run = visited(TALKS, engine=engine)
    pool, n = prompt_pool(), len(TALKS.starts_s)
    said = dict.fromkeys(range(n), 0)
    for row in np.argsort(run.requests.request_id):
        visit = int(run.requests.request_id[row]) % n
        prompt = run.requests.prompt[row]
        assert run.requests.prompt_tokens[row] == said[visit] + pool.prompt_tokens[prompt]
        said[visit] = run.requests.prompt_tokens[row] + pool.output_tokens[prompt].max()
    turns = np.bincount(run.requests.request_id.astype(int) % n)
    assert turns.max() == 4
    late = TALKS.starts_s > 250.0
    assert (turns[: len(late)][~late] == 4).all()


def test_no_policy_changes_what_users_ask():
    """With other rules and faults a user's i-th request is the same prompt, whenever it comes."""
    plain, other = visited(LOOP), visited(LOOP, rules=RULES, faults=FAULTS)
    asked = [dict(zip(run.requests.request_id, run.requests.prompt, strict=True)) for run in (plain, other)]
    both = set(asked[0]) & set(asked[1])
    assert len(both) > 300
    assert all(asked[0][i] == asked[1][i] for i in both)
    assert plain.requests.arrived_s[0] == other.requests.arrived_s[0]


def test_a_user_without_an_answer_goes_on_and_a_session_does_not():
    """While the only device is down each turn fails: users of a loop think and ask again, sessions end."""
    down = {"d": [Crash(at_s=0.0)]}
    plant = [expert(profile(**COSTS), device="d")]
    loop = visited(LOOP, plant=plant, faults=down, experts=(0,), pool=prompt_pool(n_experts=1))
    talks = visited(TALKS, plant=plant, faults=down, experts=(0,), pool=prompt_pool(n_experts=1))
    assert set(tabulate(loop).requests.status) == set(tabulate(talks).requests.status) == {"failed"}
    assert len(loop.requests) > 20 * 20
    assert len(talks.requests) == len(TALKS.starts_s)


def test_the_machine_repairmans_throughput():
    """N users who think Z on average before a one-slot expert with exponential service: the throughput is Palm's.

    X = (1 - p0) / S with p0 = 1 / sum over j of N! / (N - j)! (S / Z)^j; inside the 99.9 % interval of replications.
    Source: Palm 1947; Kleinrock, Queueing Systems I, 3.8. Service is exponential to within a thousandth.
    """
    n_users, think_s, service_s, duration_s = 6, 4.0, 1.0, 4000.0
    rates = []
    for seed in range(8):
        chance = np.random.default_rng(seed)
        pool = PromptPool(
            question_id=np.arange(20000),
            category=np.full(20000, "any"),
            prompt_tokens=np.ceil(chance.exponential(1000.0, 20000)).astype(np.int64),
            output_tokens=np.ones((20000, 1), dtype=np.int64),
        )
        run = simulate_visits(
            experts=[expert(profile((0.0, service_s / 1000, 0.0)))],
            visits=closed_loop(n_users=n_users, think_s=think_s, seed=seed),
            pool=pool,
            rows=np.arange(20000),
            router=FixedRouter(0),
            network=Network(),
            duration_s=duration_s,
            drain_cap_s=1e9,
            seed=seed,
        )
        rates.append((run.requests.arrived_s > duration_s / 10).sum() / (0.9 * duration_s))
    ratios = np.cumprod([1.0, *((n_users - j) * service_s / think_s for j in range(n_users))])
    expected = (1 - 1 / ratios.sum()) / service_s
    half = stats.t.ppf(0.9995, len(rates) - 1) * stats.sem(rates)
    assert abs(np.mean(rates) - expected) < half
    assert half < 0.05 * expected, "the interval is too wide to say anything"
