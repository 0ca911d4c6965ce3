"""Laws of profiles and their files."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.costs import Costs
from calibration.draws import drawn
from calibration.profile import (
    Profile,
    Provenance,
    bundled_profiles,
    file_name,
    find_profile,
    read_profile,
    write_profile,
)

coefficients = st.floats(0.0, 1e6)
three = st.tuples(coefficients, coefficients, coefficients)
texts = st.text(min_size=1).filter(str.strip)
origins = st.sampled_from(["measured", "scaled", "composed", "assumed"])
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def profiles(draw):
    batch = draw(st.booleans())
    base_j, per_sequence_j, context_j = draw(three)
    prefill_j, idle_w = draw(st.none() | three), draw(st.none() | coefficients)
    decode_j = draw(st.none() | st.just((base_j, per_sequence_j if batch else None, context_j)))
    known = (prefill_j, decode_j, idle_w) != (None, None, None)
    mixed_s = draw(st.just(0.0) | coefficients)
    mixed_j = draw(coefficients if mixed_s else st.none() | coefficients) if decode_j else None
    return Profile(
        **{key: draw(texts) for key in ("name", "device", "model", "runtime", "power_mode")},
        quantization=draw(st.none() | texts),
        provenance=Provenance(latency=draw(origins), energy=draw(origins) if known else None),
        energy_scope=draw(st.sampled_from(["gpu", "module", "board", "wall"])) if known else None,
        context_tokens=draw(st.integers(1, 10**6)),
        seconds=Costs(
            prefill=draw(three),
            base=draw(coefficients),
            per_sequence=draw(coefficients) if batch else None,
            per_context_token=draw(coefficients),
            tile_tokens=draw(st.sampled_from([1, 64, 256])),
            mixed_per_context_token=mixed_s,
        ),
        knee_tokens=draw(st.integers(0, 4096)),
        prefill_j=prefill_j,
        decode_j=decode_j,
        mixed_j=mixed_j,
        idle_w=idle_w,
        residuals_prefill=tuple(draw(st.lists(st.floats(-0.99, 9.0), max_size=5))),
        residuals_decode=tuple(draw(st.lists(st.floats(-0.99, 9.0), max_size=5))),
        evidence=draw(st.dictionaries(st.text(), plain, max_size=3)),
    )


def an_orin() -> Profile:
    return Profile(
        name="orin/llama/fp16",
        device="orin",
        model="llama",
        quantization="fp16",
        runtime="vllm",
        power_mode="MAXN",
        provenance=Provenance(latency="measured", energy="measured"),
        energy_scope="gpu",
        context_tokens=4096,
        seconds=Costs(prefill=(0.1, 0.001, 1e-7), base=0.1, per_sequence=0.001, per_context_token=1e-6),
        knee_tokens=0,
        prefill_j=(3.0, 0.03, 1e-5),
        decode_j=(2.0, 0.1, 1e-4),
        idle_w=3.0,
        residuals_prefill=(0.1, -0.1),
        residuals_decode=(),
        evidence={},
    )


@given(profile=profiles())
def test_a_profile_comes_back_from_its_file_as_it_was(profile, tmp_path_factory):
    """Reading undoes writing, and writing again gives the same bytes."""
    folder = tmp_path_factory.mktemp("profiles")
    write_profile(profile, folder / "one.json")
    back = read_profile(folder / "one.json")
    assert back == profile
    write_profile(back, folder / "two.json")
    assert (folder / "one.json").read_bytes() == (folder / "two.json").read_bytes()


@given(profile=profiles(), watts=st.floats(0.0, 1e3), B=st.integers(1, 9), C=st.integers(1, 9999))
def test_added_power_adds_watts_times_seconds(profile, watts, B, C):
    """A constant load adds its watts to every second: idle, prefill and decode; the unknown stays unknown."""
    more = profile.with_added_power(watts, "board", "a wall meter")
    assert more.energy_scope == (None if profile.energy_scope is None else "board")
    assert more.evidence["added_power"][-1] == {"watts": watts, "scope": "board", "source": "a wall meter"}
    assert (more.idle_w is None) == (profile.idle_w is None)
    assert (more.joules is None) == (profile.joules is None)
    if more.joules and profile.joules:
        B = B if profile.seconds.per_sequence is not None else 1
        costs_of = (
            lambda costs: costs.prefill_of(C),
            lambda costs: costs.decode_of(B, C),
            lambda costs: C * costs.mixed_per_context_token,
        )
        for cost in costs_of:
            expected = cost(profile.joules) + watts * cost(profile.seconds)
            assert float(cost(more.joules)) == pytest.approx(float(expected), rel=1e-9)


@given(profile=profiles())
def test_residual_factors_average_one(profile):
    """Noise changes the spread of time and never its mean."""
    for factors in (profile.prefill_factors, profile.decode_factors):
        assert min(factors) > 0
        assert np.mean(factors) == pytest.approx(1.0)


def without(key):
    def change(found):
        del found[key]

    return change


def setting(*path_and_value):
    *path, key, value = path_and_value

    def change(found):
        for step in path:
            found = found[step]
        found[key] = value

    return change


BAD = [
    (setting("prefil_s", [1, 2, 3]), r"unknown key 'prefil_s' in the profile.*did you mean 'prefill_s'\?"),
    (without("decode_s"), r"the profile lacks decode_s"),
    (setting("schema", 2), r"schema: must be 1"),
    (setting("schema", True), r"schema: must be 1"),
    (setting("name", ""), r"name: found ''"),
    (setting("device", 3), r"device: found 3"),
    (setting("prefill_s", 1, float("nan")), r"prefill_s b: found nan, must be a finite number of at least 0"),
    (setting("prefill_s", 0, -1.0), r"prefill_s a: found -1\.0"),
    (setting("prefill_s", 2, True), r"prefill_s c: found True"),
    (setting("prefill_s", [1.0, 2.0]), r"prefill_s: found 2 coefficients"),
    (setting("prefill_s", None), r"prefill_s: found None"),
    (setting("prefill_j", 0, "3"), r"prefill_j a: found '3'"),
    (setting("decode_s", "base", float("inf")), r"decode_s\.base: found inf"),
    (setting("decode_s", "per_context_token", None), r"decode_s\.per_context_token: found None"),
    (setting("decode_s", "per_seq", 1), r"unknown key 'per_seq' in decode_s.*did you mean 'per_sequence'\?"),
    (setting("decode_s", {"base": 1.0}), r"decode_s lacks per_sequence, per_context_token"),
    (setting("decode_j", "per_sequence", None), r"decode_j\.per_sequence: found None beside 0\.001"),
    (setting("decode_s", "per_sequence", None), r"decode_j\.per_sequence: found 0\.1 beside None"),
    (setting("mixed_s", 1e-7), r"mixed_s: found 1e-07, must be an object with per_context_token"),
    (
        setting("mixed_s", {"per_context": 1e-7}),
        r"unknown key 'per_context' in mixed_s.*did you mean 'per_context_token'",
    ),
    (setting("mixed_s", {"per_context_token": -1}), r"mixed_s\.per_context_token: found -1"),
    (setting("mixed_s", {"per_context_token": 1e-7}), r"mixed_j: not there beside mixed_s and decode_j"),
    (setting("mixed_j", {"per_context_token": True}), r"mixed_j\.per_context_token: found True"),
    (setting("idle_w", -3), r"idle_w: found -3"),
    (setting("provenance", "latency", "measurd"), r"provenance\.latency: found 'measurd'.*'measured'"),
    (setting("provenance", {"latency": "measured"}), r"provenance lacks energy"),
    (setting("energy_scope", "rail"), r"energy_scope: found 'rail', must be one of gpu, module, board, wall"),
    (setting("context_tokens", 0), r"context_tokens: found 0, must be an integer of at least 1"),
    (setting("context_tokens", 4096.0), r"context_tokens: found 4096\.0"),
    (setting("knee_tokens", -1), r"knee_tokens: found -1"),
    (setting("knee_tokens", True), r"knee_tokens: found True"),
    (setting("tile_tokens", 0), r"tile_tokens: found 0, must be an integer of at least 1"),
    (setting("tile_tokens", 64.0), r"tile_tokens: found 64\.0"),
    (setting("tile_token", 64), r"unknown key 'tile_token' in the profile.*did you mean 'tile_tokens'\?"),
    (setting("residuals", "prefill", [0.0, -1.0]), r"residuals\.prefill\[1\]: found -1\.0"),
    (setting("residuals", "decode", ["x"]), r"residuals\.decode\[0\]: found 'x'"),
    (setting("residuals", []), r"residuals: found \[\], must be an object"),
    (setting("evidence", []), r"evidence: found \[\], must be an object"),
    (setting("evidence", {"error": float("nan")}), r"evidence\.error: found nan"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_flaw_is_named_with_its_file_and_key(change, message, tmp_path):
    """Every flaw gives one ValueError that begins with the file and names key, finding and what is allowed."""
    path = tmp_path / "orin.json"
    write_profile(an_orin(), path)
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"orin\.json: " + message):
        read_profile(path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1, "schema": 1}', "\ud800"])
def test_what_is_no_profile_is_refused_by_name(text, tmp_path):
    """Broken JSON, another shape, a repeated key and foreign bytes are all one ValueError with the file's name."""
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"broken\.json: "):
        read_profile(path)
    with pytest.raises(ValueError, match=r"absent\.json: cannot be read"):
        read_profile(tmp_path / "absent.json")


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    """A profile's file is whole or absent, and readable by others."""
    write_profile(an_orin(), tmp_path / "good.json")
    assert stat.S_IMODE((tmp_path / "good.json").stat().st_mode) == 0o644
    broken = an_orin()
    object.__setattr__(broken, "evidence", {"error": float("nan")})  # past the check, as a bug could
    with pytest.raises(ValueError, match="JSON"):
        write_profile(broken, tmp_path / "bad.json")
    assert [p.name for p in tmp_path.iterdir()] == ["good.json"]


def test_a_profile_is_found_by_path_and_missed_with_a_near_match(tmp_path):
    """A path is relative to the folder given; a miss says what is near."""
    (tmp_path / "profiles").mkdir()
    write_profile(an_orin(), tmp_path / "profiles" / "orin.json")
    assert find_profile("profiles/orin.json", tmp_path) == an_orin()
    assert find_profile(str(tmp_path / "profiles" / "orin.json"), tmp_path / "elsewhere") == an_orin()
    with pytest.raises(ValueError, match=r"orim\.json: there is no such profile; did you mean 'orin\.json'\?"):
        find_profile("profiles/orim.json", tmp_path)
    with pytest.raises(ValueError, match=r"'orin': neither a bundled profile nor a path"):
        find_profile("orin", tmp_path)


def test_bundled_profiles_are_valid_and_carry_the_name_they_are_found_by(tmp_path):
    """Every bundled file reads, and its name is its file's."""
    for name, file in bundled_profiles().items():
        profile = find_profile(name, tmp_path)
        assert profile.name == name
        assert file.name == file_name(name)


def test_joules_that_are_not_there_have_no_origin_and_no_scope(tmp_path):
    """An origin or a scope needs joules or idle watts, and these need both; a file of an earlier version is mended."""
    nothing = {"prefill_j": None, "decode_j": None, "idle_w": None}
    with pytest.raises(ValueError, match=r"provenance\.energy: found 'measured', must be null as prefill_j, decode_j"):
        replace(an_orin(), **nothing)
    with pytest.raises(ValueError, match=r"energy_scope: found 'gpu', must be null"):
        replace(an_orin(), **nothing, provenance=Provenance(latency="measured", energy=None))
    with pytest.raises(ValueError, match=r"energy_scope: found null beside known joules or idle watts"):
        replace(an_orin(), energy_scope=None)
    assert replace(an_orin(), prefill_j=None, decode_j=None).energy_scope == "gpu"  # of the idle watts
    path = tmp_path / "orin.json"
    write_profile(an_orin(), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **nothing}))
    mended = read_profile(path)
    assert (mended.energy_scope, mended.provenance) == (None, Provenance(latency="measured", energy=None))
    with pytest.raises(ValueError, match=r"orin\.json: provenance\.energy: found 'measured', must be null"):
        read_profile(path, strict=True)


def test_energy_is_known_only_whole():
    """Half an energy is no energy: without prefill or decode joules the costs are None."""
    assert an_orin().joules is not None
    assert replace(an_orin(), prefill_j=None).joules is None
    assert replace(an_orin(), decode_j=None).joules is None


@pytest.mark.parametrize("latency", ["scaled", "composed"])
def test_what_mixed_iterations_cost_is_drawn_with_the_rest(latency):
    """Scaled, it goes with the decode; fitted, its draws spread as its variance says; joules go with assumed watts."""
    name = "rtx-pro-6000/llama-3.1-8b-instruct/bf16"
    profile = read_profile(bundled_profiles()[name])
    g = profile.seconds.mixed_per_context_token
    errors = [{"decode_s": 0.1}]
    profile = replace(
        profile,
        provenance=Provenance(latency=latency, energy="assumed"),
        energy_scope="gpu",
        prefill_j=tuple(300.0 * s for s in profile.seconds.prefill),
        decode_j=tuple(300.0 * s for s in profile.seconds.decode),
        mixed_j=300.0 * g,
        evidence={**profile.evidence, "transfer_errors": errors},
    )
    seen = [drawn(profile, seed=seed) for seed in range(400)]
    stretched = np.array([p.seconds.mixed_per_context_token / g for p in seen])
    if latency == "scaled":
        assert stretched == pytest.approx([p.seconds.base / profile.seconds.base for p in seen])
        assert [p.mixed_j / profile.mixed_j for p in seen] == pytest.approx(stretched)
    else:
        ((variance,),) = profile.evidence["mixed_s"]["covariance"]
        assert stretched.mean() == pytest.approx(1.0, abs=0.01)
        assert g * stretched.std() == pytest.approx(variance**0.5, rel=0.15)
