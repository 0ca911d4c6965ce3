"""Arrival processes have the rates, the bursts and the bounds that they are named for; traces read in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_plant import expert, profile, prompt_pool, requests_at, run_all

from twin.records.metrics import delay_percentile_s
from twin.records.tables import tabulate
from twin.users.arrivals import diurnal_arrivals_s, gamma_arrivals_s, modulated_arrivals_s, poisson_arrivals_s
from twin.users.load import drawn_requests
from twin.users.traces import read_trace


def chance(seed=0):
    return np.random.default_rng(seed)


PROCESSES = {
    "poisson": lambda d: poisson_arrivals_s(chance(), requests_per_s=2.0, duration_s=d),
    "gamma": lambda d: gamma_arrivals_s(chance(), requests_per_s=2.0, cv=3.0, duration_s=d),
    "mmpp": lambda d: modulated_arrivals_s(
        chance(), chance(1), requests_per_s=[0.0, 6.0], mean_s=[20.0, 10.0], duration_s=d
    ),
    "diurnal": lambda d: diurnal_arrivals_s(
        chance(), requests_per_s=2.0, shape=[0.0, 1.0, 3.0, 0.0], period_s=100.0, duration_s=d
    ),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_instants_are_sorted_inside_the_run_and_of_the_stated_rate(name):
    """Sorted, in [0, duration), and over a long run the mean rate is the stated one, within 10 %."""
    arrived_s = PROCESSES[name](20_000.0)
    assert np.all(np.diff(arrived_s) >= 0)
    assert arrived_s[0] >= 0
    assert arrived_s[-1] < 20_000
    assert len(arrived_s) / 20_000 == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("name", ["poisson", "mmpp", "diurnal"])
def test_a_longer_run_keeps_the_earlier_arrivals(name):
    """The first 300 s are the same whether 300 s or 3000 s are drawn, for draws of one size at a time."""
    short, long = PROCESSES[name](300.0), PROCESSES[name](3000.0)
    np.testing.assert_allclose(long[long < 300], short, rtol=1e-9)


@given(cv=st.floats(0.3, 3.0))
def test_gamma_gaps_vary_as_asked(cv):
    """The coefficient of variation of the gaps is the one asked for, within sampling error."""
    gaps_s = np.diff(gamma_arrivals_s(chance(), requests_per_s=1.0, cv=cv, duration_s=40_000.0))
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.1)


def test_a_part_of_the_day_without_rate_sends_nothing():
    """All arrivals of the diurnal process fall in the parts with a rate, three times as many in the third."""
    part = (PROCESSES["diurnal"](20_000.0) % 100 // 25).astype(int)
    counts = np.bincount(part, minlength=4)
    assert counts[0] == counts[3] == 0
    assert counts[2] / counts[1] == pytest.approx(3.0, rel=0.1)


def test_a_quiet_state_sends_nothing_and_a_busy_one_its_rate():
    """The index of dispersion of a switched process is far above Poisson's 1."""
    counts = np.histogram(PROCESSES["mmpp"](20_000.0), bins=np.arange(0, 20_001, 10))[0]
    assert counts.var() / counts.mean() > 5


def test_bursts_lengthen_the_tail():
    """At equal mean load, gamma arrivals with CV 3 have a longer p95 than Poisson ones."""
    p95_s = {}
    for cv in (1.0, 3.0):
        arrived_s = gamma_arrivals_s(chance(4), requests_per_s=0.6, cv=cv, duration_s=20_000.0)
        n = len(arrived_s)
        run = run_all(requests_at(arrived_s, [10] * n, [9] * n), expert(profile(), max_batch=1))
        p95_s[cv] = delay_percentile_s(tabulate(run).requests, 95)
    print(f"p95 {p95_s[1.0]:.2f} s Poisson, {p95_s[3.0]:.2f} s gamma with CV 3")
    assert p95_s[3.0] > 1.5 * p95_s[1.0]


@pytest.mark.parametrize(
    ("form", "file", "n", "first"),
    [
        ("azure", "AzureLLMInferenceTrace_conv_2023.csv.gz", 19_366, (374, 44)),
        ("mooncake", "mooncake_fast25_conversation.csv.gz", 12_031, (6758, 500)),
    ],
)
def test_public_traces_read_in(data, form, file, n, first):
    """As many requests as published, from 0 s on, lengths as in the file; twice the rate is half the time."""
    trace = read_trace(data / "traces" / file, form)
    assert len(trace.arrived_s) == n
    assert trace.arrived_s[0] == 0
    assert np.all(np.diff(trace.arrived_s) >= 0)
    assert (trace.prompt_tokens[0], trace.output_tokens[0]) == first
    half = trace.sped_up(2.0, duration_s=1000.0)
    assert np.array_equal(half.arrived_s, trace.arrived_s[trace.arrived_s < 2000] / 2)
    requests = drawn_requests(half.arrived_s, n_users=3, pool=prompt_pool(), rows=np.arange(40), seed=1, trace=half)
    assert np.array_equal(requests.prompt_tokens, half.prompt_tokens)
    assert requests.prompt.min() >= 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n", "no column 'TIMESTAMP'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "the load is empty"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,1\n", "line 2, column 'TIMESTAMP': found 'noon'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.1,0,1\n", "column 'ContextTokens': found '0'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.1,5,1.5\n", "column 'GeneratedTokens'"),
    ],
)
def test_a_wrong_trace_is_refused_in_one_message(tmp_path, text, words):
    """The message names the file, the line and the column."""
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"trace\.csv") as error:
        read_trace(path, "azure")
    assert words in str(error.value)
