"""Loads: Poisson users and CSV files, and what is said about bad ones."""

from dataclasses import fields

import numpy as np
import pytest
from scipy import stats
from twin_plant import FixedRouter, expert, profile, prompt_pool

from twin.gateway.routing import routed_legs
from twin.network import Network
from twin.randomness import noise_factors, noise_of_legs, streams
from twin.users.load import Requests, poisson_requests
from twin.users.request_file import read_request_file
from twin.world import simulate


def poisson(**changes) -> Requests:
    what = {
        "requests_per_s": 2.0,
        "n_users": 10,
        "duration_s": 500.0,
        "pool": prompt_pool(),
        "rows": np.arange(10, 20),
        "seed": 4,
    }
    return poisson_requests(**{**what, **changes})


def test_poisson_gaps_are_exponential_and_users_and_prompts_uniform():
    """Kolmogorov-Smirnov and chi-squared tests at a fixed seed do not reject the distributions stated."""
    requests = poisson(duration_s=5000.0)
    gaps_s = np.diff(requests.arrived_s)
    assert stats.kstest(gaps_s, stats.expon(scale=0.5).cdf).pvalue > 0.01
    assert stats.chisquare(np.bincount(requests.user_id, minlength=10)).pvalue > 0.01
    assert stats.chisquare(np.bincount(requests.prompt, minlength=20)[10:]).pvalue > 0.01
    assert set(requests.user_id.tolist()) == set(range(10))
    assert set(requests.prompt.tolist()) == set(range(10, 20))
    assert requests.arrived_s.max() < 5000.0


def test_a_longer_run_keeps_the_requests_of_a_shorter_one():
    """Duration decides where the load is cut, not what it is."""
    short, long = poisson(), poisson(duration_s=900.0)
    for field in fields(Requests):
        np.testing.assert_array_equal(getattr(long, field.name)[: len(short)], getattr(short, field.name))
    assert len(long) > len(short)


def test_a_prefix_lengthens_every_prompt_and_changes_nothing_else():
    """prompt_prefix_tokens are added to the pool's prompt tokens."""
    plain, prefixed = poisson(), poisson(prompt_prefix_tokens=1000)
    np.testing.assert_array_equal(prefixed.prompt_tokens, plain.prompt_tokens + 1000)
    np.testing.assert_array_equal(prefixed.arrived_s, plain.arrived_s)


def test_one_more_expert_or_another_router_changes_no_arrival():
    """What-ifs differ only in what was changed: the requests are those of the seed alone."""
    runs = []
    for experts, router in (((0,), FixedRouter(0)), ((0, 1), FixedRouter(1, 0))):
        requests = poisson(pool=prompt_pool(n_experts=len(experts)), duration_s=50.0)
        runs.append(
            simulate(
                experts=[expert(profile(), name=f"expert {i}") for i in experts],
                requests=requests,
                legs=routed_legs(requests, router, prompt_pool(n_experts=len(experts))),
                network=Network(access_delay_s=0.02),
                duration_s=50.0,
                drain_cap_s=1e6,
                seed=4,
            )
        )
    for name in ("arrived_s", "prompt", "user_id"):
        np.testing.assert_array_equal(getattr(runs[0].requests, name), getattr(runs[1].requests, name))


def test_streams_are_independent_of_each_other():
    """Drawing from one stream does not move the others; seeds differ."""
    one, two = streams(3), streams(3)
    one["arrivals"].random(1000)
    assert one["prompts"].random() == two["prompts"].random()
    assert streams(4)["prompts"].random() != streams(3)["prompts"].random()


def test_noise_draws_every_residual_about_equally_often():
    """Keys of consecutive ids, and of text ids, spread evenly (chi-squared at a fixed seed)."""
    for ids in (np.arange(6000), np.array([f"id-{i}" for i in range(6000)], dtype=object)):
        factors = noise_factors([0.5, 1.0, 1.5], seed=1, phase="decode", request_id=ids, expert="a")
        _, counts = np.unique(factors, return_counts=True)
        assert stats.chisquare(counts).pvalue > 0.01
        other = noise_factors([0.5, 1.0, 1.5], seed=1, phase="prefill", request_id=ids, expert="a")
        assert abs(np.corrcoef(factors, other)[0, 1]) < 0.05


def test_the_noise_of_legs_is_that_of_each_expert_alone():
    """A leg's factor depends on its request and its expert, not on what else is asked; 1 where an expert has none."""
    chance, ids = np.random.default_rng(2), np.array(["a", "b", "7"], dtype=object)
    factors, experts = [[0.9, 1.1], [], [0.5, 1.0, 1.5]], ["x", "y", "z"]
    request, expert = chance.integers(3, size=40), chance.integers(3, size=40)
    words = {"seed": 3, "phase": "decode"}
    found = noise_of_legs(factors, request_id=ids, experts=experts, request=request, expert=expert, **words)
    for i, name in enumerate(experts):
        alone = noise_factors(factors[i], request_id=ids, expert=name, **words) if factors[i] else np.ones(3)
        np.testing.assert_array_equal(found[expert == i], alone[request[expert == i]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requests_per_s": 1e-9}, "the load is empty"),
        ({"requests_per_s": -1.0}, "requests_per_s is -1.0"),
        ({"requests_per_s": float("nan")}, "requests_per_s is nan"),
        ({"n_users": 0}, "0 users"),
        ({"prompt_prefix_tokens": -1}, "prompt_prefix_tokens is -1"),
        ({"rows": np.arange(0)}, "no prompt to draw from"),
    ],
)
def test_a_poisson_load_that_makes_no_sense_is_refused(changes, message):
    """The message says which figure is wrong."""
    with pytest.raises(ValueError, match=message):
        poisson(**changes)


HEADER = "request_id,arrived_s,prompt_tokens,output_tokens,category,experts\n"


def read(tmp_path, text, **changes):
    path = tmp_path / "requests.csv"
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return read_request_file(path, **{"experts": ["gemma@orin-a", "yi@orin-b"], "duration_s": 10.0, **changes})


def test_a_csv_is_read_as_it_stands_in_the_order_of_arrival_and_id(tmp_path):
    """Integer ids sort as integers, instants keep every bit, weights are equal, experts in the file's order."""
    text = (
        HEADER
        + "10,0.1,7,3,law,yi@orin-b|gemma@orin-a\n9,0.1,8,4,law,gemma@orin-a\n\n2,0.30000000000000004,1,1,x,yi@orin-b\n"
    )
    file = read(tmp_path, "\ufeff" + text)
    requests, legs = file.requests, file.legs()
    assert requests.request_id.dtype == np.int64
    assert requests.request_id.tolist() == [9, 10, 2]
    assert requests.arrived_s.tolist() == [0.1, 0.1, 0.1 + 0.2]
    assert legs.request.tolist() == [0, 1, 1, 2]
    assert legs.expert.tolist() == [0, 1, 0, 1]
    assert legs.weight.tolist() == [1.0, 0.5, 0.5, 1.0]
    assert legs.output_tokens.tolist() == [4, 3, 3, 1]


def test_ids_that_are_not_all_integers_stay_text(tmp_path):
    """One id that is text makes the column text; a padded integer is text, for it would lose its zeros."""
    for other in ("a", "007"):
        file = read(tmp_path, HEADER + f"{other},0,1,1,x,yi@orin-b\n10,0,1,1,x,yi@orin-b\n9,0,1,1,x,yi@orin-b\n")
        assert file.requests.request_id.tolist() == ["9", "10", other]


def test_without_experts_prompts_are_drawn_within_the_category(tmp_path):
    """The row's category and tokens hold; the prompt comes from the rows allowed; the router decides the legs."""
    lines = "".join(f"{i},{i / 100},{i + 1},{i + 2},{'law' if i % 3 else 'maths'}\n" for i in range(300))
    pool, rows = prompt_pool(), np.arange(20, 30)
    file = read(tmp_path, HEADER.replace(",experts", "") + lines)
    assert not file.names_experts
    with pytest.raises(ValueError, match="no column 'experts'"):
        file.legs()
    requests = file.drawn(pool, rows, seed=0)
    np.testing.assert_array_equal(pool.category[requests.prompt], requests.category)
    assert set(requests.prompt.tolist()) == set(rows.tolist())
    legs = routed_legs(requests, FixedRouter(1, 0), pool)
    np.testing.assert_array_equal(legs.output_tokens, np.repeat(requests.output_tokens, 2))
    assert legs.expert.tolist()[:4] == [1, 0, 1, 0]


GOOD = "1,0.5,10,20,law,gemma@orin-a\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"empty.*request_id, arrived_s"),
        (HEADER, "the load is empty"),
        (
            HEADER.replace("arrived_s", "arived_s") + GOOD,
            r"line 1: unknown column 'arived_s'.*did you mean 'arrived_s'",
        ),
        (HEADER.replace("category,", "") + GOOD, "line 1: no column 'category'"),
        (HEADER.replace("category", "experts") + GOOD, "line 1: column 'experts' appears 2 times"),
        (HEADER + GOOD + "2,0.5,10,20,law\n", "line 3: found 5 cells, the header has 6"),
        (HEADER + GOOD + GOOD, r"line 3, column 'request_id': found '1' again, first on line 2"),
        (HEADER + GOOD.replace("1,", ",", 1), "line 2, column 'request_id': found '': must not be empty"),
        (HEADER + GOOD.replace("0.5", "nan"), "line 2, column 'arrived_s': found 'nan'"),
        (HEADER + GOOD.replace("0.5", "inf"), "line 2, column 'arrived_s': found 'inf'"),
        (HEADER + GOOD.replace("0.5", "-1"), "line 2, column 'arrived_s': found '-1'"),
        (HEADER + GOOD.replace("0.5", "soon"), "line 2, column 'arrived_s': found 'soon'"),
        (HEADER + GOOD.replace("0.5", "1_0"), "line 2, column 'arrived_s': found '1_0'"),
        (HEADER + GOOD.replace("0.5", "10"), "column 'arrived_s': found '10': must be .* before duration_s = 10.0"),
        (HEADER + GOOD.replace("0.5", "1700000000"), r"before duration_s = 10\.0; raise duration_s"),
        (HEADER + GOOD.replace("10", "10.5"), "column 'prompt_tokens': found '10.5'.*integer of at least 1"),
        (HEADER + GOOD.replace("10", "0"), "column 'prompt_tokens': found '0'"),
        (HEADER + GOOD.replace("10", "9" * 5000), "column 'prompt_tokens': found '999"),
        (HEADER + GOOD.replace("20", "-3"), "column 'output_tokens': found '-3'"),
        (HEADER + GOOD.replace("20", ""), "column 'output_tokens': found ''"),
        (HEADER + GOOD.replace("gemma", "gema"), r"no expert 'gema@orin-a'.*allowed are .*did you mean 'gemma@orin-a'"),
        (HEADER + GOOD.replace("gemma@orin-a", ""), "column 'experts': found ''"),
        (HEADER + GOOD.replace("gemma@orin-a", "yi@orin-b|yi@orin-b"), "names an expert twice"),
        (HEADER + '1,"0.5,10', r"line 2: is not a CSV row"),
        (HEADER.encode() + b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_bad_csv_is_refused_with_file_line_column_and_what_is_allowed(tmp_path, text, message):
    """One message names the place, what was found and what would do."""
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "requests.csv"))


def test_a_category_without_prompts_and_a_file_that_is_not_there_are_refused(tmp_path):
    """The message lists the categories that can be drawn from, with a near match; or says what the system said."""
    with pytest.raises(ValueError, match=r"found 'mathes'.*allowed are law, maths; did you mean 'maths'"):
        read(tmp_path, HEADER.replace(",experts", "") + "1,0,1,1,mathes\n").drawn(prompt_pool(), np.arange(9), seed=0)
    with pytest.raises(ValueError, match=r"nowhere\.csv: cannot be read"):
        read_request_file(tmp_path / "nowhere.csv", experts=["a"], duration_s=1.0)


def test_a_router_must_give_every_request_an_expert():
    """A route of -1 only is refused, as is an index that no expert has."""
    with pytest.raises(ValueError, match="has no expert"):
        routed_legs(poisson(), FixedRouter(-1), prompt_pool())
    with pytest.raises(ValueError, match="allowed are 0 to 1"):
        routed_legs(poisson(), FixedRouter(2), prompt_pool())
