"""Laws of moving a profile to another device, and of how far off that is."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.device_transfer import DeviceError, device_errors, moved_profile
from calibration.devices import device_of, devices
from calibration.draws import drawn, is_uncertain
from calibration.profile import find_profile
from calibration.recordings import Source
from calibration.sources.llamabench import Speeds, read_speeds


def perfect(exponent=1.0) -> Speeds:
    """Speeds of devices that reach their rooflines, to a power."""
    rows = [
        (d.recorded_as, phase, n, (1e-9 * rate / n**0.1) ** exponent)
        for d in devices().values()
        for phase, rate in (("prefill", d.compute_flops), ("decode", d.bandwidth_bytes_per_s))
        for n in (512, 4096)
    ]
    device, phase, tokens, speed = (np.array(column) for column in zip(*rows, strict=True))
    same = np.full(len(rows), "m")
    source = Source(file="f", sha256="0")
    return Speeds(
        source=source, device=device, model=same, quantization=same, phase=phase, tokens=tokens, tokens_per_s=speed
    )


def test_devices_that_reach_their_rooflines_are_predicted_exactly():
    """Where speed goes with the rate every error is 0; where it goes with its root the error is the ratio's."""
    assert [e.error for e in device_errors(perfect())] == pytest.approx([0.0] * 2 * len(devices()), abs=1e-12)
    for found in device_errors(perfect(exponent=0.5)):
        rate = "compute_flops" if found.phase == "prefill" else "bandwidth_bytes_per_s"
        by = getattr(device_of(found.predicted_from), rate) / getattr(device_of(found.left_out), rate)
        assert found.error == pytest.approx(abs(by**0.5 - 1))


def test_a_moved_profile_says_what_it_is(tmp_path):
    """Prefill goes with tensor rates, decode with bandwidths, there and back is where it was; joules are null."""
    here, there = device_of("rtx-4090"), device_of("rtx-3090")
    profile = find_profile("rtx-4090/llama-3.1-8b-instruct/bf16", tmp_path)
    errors = [DeviceError(left_out="x", predicted_from="y", phase="decode", model="m", quantization="q", error=0.1)]
    moved = moved_profile(profile, here, there, errors=errors)
    assert moved.name == "rtx-3090/llama-3.1-8b-instruct/bf16"
    assert moved.seconds.base / profile.seconds.base == pytest.approx(1008 / 936.2, rel=1e-4)
    assert moved.seconds.prefill[1] / profile.seconds.prefill[1] == pytest.approx(165.2 / 71.2, rel=1e-4)
    assert (moved.provenance.latency, moved.joules, moved.idle_w) == ("scaled", None, None)
    back = moved_profile(moved, there, here, errors=errors)
    assert back.seconds.decode == pytest.approx(profile.seconds.decode, rel=1e-4)
    assert is_uncertain(moved)
    factors = [drawn(moved, seed=seed).seconds.base / moved.seconds.base for seed in range(300)]
    assert np.std(np.log(factors)) == pytest.approx(0.1, rel=0.2)
    wild = replace(errors[0], error=1.1)
    outliers = moved_profile(profile, here, there, errors=[*errors * 3, wild]).evidence
    assert [row["decode_s"] for row in outliers["transfer_outliers"]] == [1.1]
    assert len(outliers["transfer_errors"]) == 3
    with pytest.raises(ValueError, match=r"'rtx-409': .* did you mean 'rtx-4090'"):
        device_of("rtx-409")


def test_decode_moves_well_between_cards_of_one_kind_of_memory(data):
    """On the recorded cards with GDDR memory a decode is predicted within 15 %; a prefill is not: printed as found."""
    errors = device_errors(read_speeds(data / "measurements" / "llamabench_llama3_gpus.csv"))
    graphics = {name for name in devices() if name.startswith("rtx")}
    for phase in ("prefill", "decode"):
        found = [e.error for e in errors if e.phase == phase]
        print(f"{phase}: median error {np.median(found):.0%}, worst {max(found):.0%}, {len(found)} left out")
    decode = [
        e.error
        for e in errors
        if e.phase == "decode" and {e.left_out, e.predicted_from} <= graphics and e.quantization == "F16"
    ]
    assert len(decode) >= 4
    assert max(decode) < 0.15
