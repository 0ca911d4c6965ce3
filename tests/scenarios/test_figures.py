"""Laws of the figures and of the views of the tables they draw."""

import re
import struct
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from matplotlib.colors import to_rgb
from story_sample import accuracy_rows, profile_rows, sample_story

from scenarios.figures import Figure, draw_figures, style
from scenarios.figures.accuracy import reference_accuracy
from scenarios.figures.delays import draw_delay_by_category, scale_seconds
from scenarios.figures.devices import draw_energy_by_device, draw_in_system
from scenarios.figures.following import DARK
from scenarios.figures.style import hardware_colours, new_canvas
from scenarios.figures.views import delay_table, device_table, in_system, judged_requests, leg_parts, time_table
from scenarios.report.run_page import render
from scenarios.story.story import Story
from twin.records.metrics import after_warmup, by_category, energy_per_request_j


@pytest.fixture(scope="module")
def story() -> Story:
    return sample_story(n_requests=300, replications=2, longest_prompt=1600)


@pytest.fixture(scope="module")
def figures(story: Story, tmp_path_factory: pytest.TempPathFactory) -> list[Figure]:
    return draw_figures(story, tmp_path_factory.mktemp("figures"))


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_every_figure_is_a_png_of_twice_its_size_on_the_page_with_words_beside_it(figures):
    """Each figure is a PNG with two pixels per pixel of the page, an alternative text and a caption."""
    assert len({figure.key for figure in figures}) == len(figures) == 7
    for figure in figures:
        width, height = png_size(figure.path)
        assert abs(width - 2 * figure.width_px) <= 1
        assert abs(height - 2 * figure.height_px) <= 1
        assert figure.path.name == f"{figure.key}.png"
        assert figure.path.stat().st_size > 5000
        assert len(figure.alt) > 30
        assert len(figure.caption) > 30
        assert "nan" not in figure.alt.split()


def test_the_same_story_gives_the_same_bytes_and_leaves_no_trace(story, figures, tmp_path):
    """Drawing twice writes identical files, and changes neither matplotlib's settings nor its open windows."""
    from matplotlib import pyplot

    before = dict(mpl.rcParams)
    for once, again in zip(figures, draw_figures(story, tmp_path / "new"), strict=True):
        assert once.path.read_bytes() == again.path.read_bytes()
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []


def test_a_category_that_is_not_answered_comes_first(story, figures):
    """A percentile beyond the answered requests is infinite, not a number; it is told and stands on top."""
    law = delay_table(story).iloc[0]
    assert law["category"] == "law"
    assert np.isposinf(law["judged_s"])
    assert law["unanswered"] > 0.05
    assert "law: p95 not finite" in figures[0].alt


def test_a_plant_that_answers_nothing_is_drawn(tmp_path):
    """Every request rejected: all figures are drawn, without a warning, and no delay is finite."""
    story = sample_story(n_requests=60, replications=2)
    story = replace(
        story,
        requests=story.requests.assign(finished_s=np.nan, status="rejected"),
        legs=story.legs.assign(started_s=np.nan, first_token_s=np.nan, finished_s=np.nan, status="rejected"),
    )
    assert len(draw_figures(story, tmp_path)) == 7
    assert np.isposinf(delay_table(story)["judged_s"]).all()


NOTHING_YET = sample_story(n_requests=5, replications=1)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "delay_statistic": "mean",
            "delay_budgets_s": {},
            "accuracy": accuracy_rows().assign(low=np.nan, high=np.nan),
            "warmup_s": 0.0,
        },
        {
            "requests": NOTHING_YET.requests.iloc[:0],
            "profiles": profile_rows().iloc[:0],
            "accuracy": accuracy_rows().iloc[:0],
        },
    ],
    ids=["no budgets", "no requests"],
)
def test_a_thin_story_is_drawn(tmp_path, changes):
    """What is missing is left out of the figures, which are drawn all the same."""
    story = sample_story(n_requests=60, replications=1, **changes)
    assert len(draw_figures(story, tmp_path)) == 7 - story.accuracy.empty


def test_delays_are_the_metrics(story):
    """What is drawn of a category is what twin.records.metrics says of its judged requests."""
    metrics = by_category(after_warmup(story.requests, story.warmup_s)).set_index("category")
    drawn = delay_table(story).set_index("category").loc[metrics.index]
    names = {f"p{q}": f"delay_p{q}_s" for q in (50, 95, 99)}
    names |= {"n": "n_requests", "mean": "delay_mean_s", "judged_s": "delay_p95_s"}
    for ours, theirs in names.items():
        np.testing.assert_array_equal(drawn[ours].to_numpy(float), metrics[theirs].to_numpy(float))
    np.testing.assert_allclose(drawn["unanswered"], 1 - metrics["served_share"])


def test_an_overloaded_plant_is_drawn_with_its_budgets_apart(story, tmp_path):
    """Delays a hundred times the budget are drawn on a logarithmic axis, ordinary ones from zero."""
    fast, slow = _axis(1.0, 30.0), _axis(1.0, 3000.0)
    assert (fast.get_xscale(), fast.get_xlim()) == ("linear", (0.0, 30.0))
    assert slow.get_xscale() == "log"
    assert slow.get_xlim()[0] < 1.0
    late = story.requests.assign(finished_s=story.requests["finished_s"] + 3000.0 * (story.requests["request_id"] % 2))
    assert draw_delay_by_category(replace(story, requests=late), tmp_path).path.exists()


def _axis(left_s: float, right_s: float):
    _, axes = new_canvas(2.0)
    scale_seconds(axes, left_s, right_s)
    return axes


def test_the_parts_of_the_slowest_leg_add_up_to_the_delay(story):
    """Network + wait + prefill + decode of the leg a request waits for is that request's delay."""
    parts = leg_parts(story)
    slow = parts[parts["slowest"]].set_index(["replication", "request_id"])
    requests = judged_requests(story).set_index(["replication", "request_id"])
    answered = requests[np.isfinite(requests["delay_s"])]
    assert slow.index.is_unique
    assert len(slow) == len(answered)
    total = slow[["network", "wait", "prefill", "decode"]].sum(axis=1)
    np.testing.assert_allclose(total, answered.loc[slow.index, "delay_s"], rtol=1e-12)
    np.testing.assert_allclose(slow["network"], 0.041, atol=1e-9)  # the sample's two ways, 20.5 ms each


def test_every_request_waits_for_one_expert(story):
    """The shares of requests that waited for an expert add up to one."""
    table = time_table(story)
    assert table["slowest"].iloc[1:].sum() == pytest.approx(1.0)
    assert np.isnan(table["slowest"].iloc[0])


def test_devices_add_up_to_the_energy_per_request():
    """The joules per request of the devices sum to the budgeted metric, averaged over runs."""
    story = sample_story(n_requests=200, replications=2, longest_prompt=1500)
    known = story.devices.fillna({"busy_energy_j": 10.0, "idle_energy_j": 5.0, "energy_j": 15.0})
    story = replace(story, devices=known)
    runs = [energy_per_request_j(r, known[known["replication"] == n]) for n, r in story.requests.groupby("replication")]
    table = device_table(story)
    assert table["all_j"].sum() == pytest.approx(np.mean(runs))
    np.testing.assert_allclose(table["busy_j"] + table["idle_j"] + table["overhead_j"], table["all_j"])


def test_unknown_energy_stays_unknown(story):
    """One run without a device's energy leaves the device's mean unknown, not the mean of the others."""
    energies = story.devices["energy_j"].where(story.devices.index != 0)
    table = device_table(replace(story, devices=story.devices.assign(energy_j=energies))).set_index("device")
    assert np.isnan(table.loc[story.devices["device"].iloc[0], "all_j"])


@given(
    st.lists(
        st.tuples(st.floats(0, 99), st.floats(0, 50), st.sampled_from(["served", "unfinished", "rejected"])), min_size=1
    )
)
def test_the_time_in_the_system_is_conserved(visits):
    """The number in the system, summed over time, is the seconds that requests spend in it."""
    arrived = np.array([at_s for at_s, _, _ in visits])
    status = np.array([word for _, _, word in visits])
    finished = arrived + np.array([lasted_s for _, lasted_s, _ in visits])
    requests = pd.DataFrame(
        {
            "replication": 0,
            "request_id": np.arange(len(visits)),
            "category": "law",
            "arrived_s": arrived,
            "finished_s": np.where(status == "served", finished, np.nan),
            "status": status,
        }
    )
    story = replace(NOTHING_YET, requests=requests, duration_s=100.0)
    table = in_system(story)
    end_s = max(100.0, *finished[status == "served"], 0.0)
    stayed_s = np.select([status == "served", status == "unfinished"], [finished - arrived, end_s - arrived], 0.0)
    assert table["n"].mean() * end_s == pytest.approx(stayed_s.sum(), abs=1e-6)


def axes_of(draw, story, tmp_path):
    """Return the axes that a figure is drawn on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scenarios.figures.devices.save", lambda canvas, *_, **__: canvas.axes[0])
        return draw(story, tmp_path)


def test_joules_that_nobody_measured_have_no_scale(story, tmp_path):
    """Where no device's energy is known there is no number on the axis; where one is known, there are."""
    unknown = story.devices.assign(**{c: np.nan for c in story.devices.columns if c.endswith("energy_j")})
    assert axes_of(draw_energy_by_device, replace(story, devices=unknown), tmp_path).get_xticks().size == 0
    assert axes_of(draw_energy_by_device, story, tmp_path).get_xticks().size > 2


def test_what_the_legend_of_the_system_names_is_in_the_picture(story, tmp_path):
    """The end of arrivals is inside the axis, and a warm-up is named only where there is one."""
    for warmup_s, named in ((story.warmup_s, True), (0.0, False)):
        axes = axes_of(draw_in_system, replace(story, warmup_s=warmup_s), tmp_path)
        words = axes.get_legend_handles_labels()[1]
        assert ("warm-up, not judged" in words) == named
        (end,) = [line for line in axes.lines if line.get_label() == "arrivals stop"]
        assert end.get_xdata()[0] < axes.get_xlim()[1]


def test_hardware_keeps_its_colour_in_every_report():
    """The testbed's hardware has fixed colours, whatever else is in the plant; all colours differ."""
    alone = hardware_colours(["Jetson AGX Orin 64GB"])
    among = hardware_colours(["NVIDIA A100", "GeForce RTX 4090", "NVIDIA L4", "Jetson AGX Orin 64GB"])
    assert alone["Jetson AGX Orin 64GB"] == among["Jetson AGX Orin 64GB"]
    assert len(set(among.values())) == 4


def test_the_reference_is_the_single_expert_without_a_difference():
    """The best single expert is the one whose difference to itself is not given or zero."""
    assert reference_accuracy(accuracy_rows()) == 0.449
    assert reference_accuracy(accuracy_rows().fillna(0.0)) == 0.449
    assert reference_accuracy(accuracy_rows().iloc[:0]) is None


HEX = re.compile(r"#[0-9a-f]{6}\b")


def test_every_colour_on_a_page_has_one_for_the_dark(figures):
    """A picture names every colour it is drawn in as one of the page's, and says the light one where the page is mute.

    The PNG beside it stays light.
    """
    for figure in figures:
        bare = re.sub(r"var\((--c[0-9a-f]{6}), (#[0-9a-f]{6})\)", "", figure.svg)
        assert HEX.findall(bare) == []
        assert {light for _, light in re.findall(r"var\((--c\w+), (#\w+)\)", figure.svg)} <= set(DARK)
        assert all(name == light for name, light in re.findall(r"var\(--c(\w+), #(\w+)\)", figure.svg))
        assert "<?xml" not in figure.svg
        assert "http" not in figure.svg
        assert (image.imread(figure.path)[:4, :4, :3] == 1.0).all()


def test_the_dark_is_only_on_screens():
    """A page sets the dark colours where a screen is dark and nowhere else: paper stays light."""
    page = render(sample_story(n_requests=40, replications=1), [])
    style = page[page.index("<style>") : page.index("</style>")]
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", style, flags=re.DOTALL)
    for light, colour in DARK.items():
        assert f"--c{light[1:]}: {colour};" in dark.group(1)
        assert style.count(f"--c{light[1:]}:") == 1


def luminance(colour):
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_marks_stand_out_in_the_dark():
    """Text has a contrast of 4.5 to 1 on the dark page (WCAG 2.2, 1.4.3), what is drawn in a full colour 3 (1.4.11)."""
    ground = luminance(DARK["#ffffff"])
    for light in (style.INK, style.MUTED, *(getattr(style, name) for name in HUES)):
        contrast = (luminance(DARK[light]) + 0.05) / (ground + 0.05)
        assert contrast >= (4.5 if light in {style.INK, style.MUTED} else 3.0), light


HUES = ("BLUE", "ORANGE", "GREEN", "VERMILION", "SKY", "PURPLE", "GREY")
