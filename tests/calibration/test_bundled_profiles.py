"""Laws of the profiles that come with the package."""

import subprocess
import sys
from pathlib import Path

import pytest

from calibration.architectures import architecture_of
from calibration.profile import bundled_profiles, find_profile, read_profile

POOL = {
    "llama-3.1-8b-instruct",
    "phi-3-mini-4k-instruct",
    "mathstral-7b",
    "gemma-7b",
    "qwen1.5-7b-chat",
    "mistral-7b-instruct-v0.2",
    "yi-6b-chat",
    "llama-2-13b",
}


def test_every_model_of_the_pool_has_a_profile_where_it_fits():
    """All eight run on the Orin, all but the 26 GB one on a 24 GB card; three more were measured, one was composed."""
    names = set(bundled_profiles())
    assert {f"agx-orin-64gb/{model}/fp16" for model in POOL} <= names
    assert {f"rtx-4090/{model}/bf16" for model in POOL - {"llama-2-13b"}} <= names
    assert len(names) == 8 + 7 + 3 + 1 + 4  # an engine on the RTX PRO 6000, four experts on the Orin 32GB


@pytest.mark.parametrize("name", bundled_profiles())
def test_a_profile_says_where_it_comes_from(name, tmp_path):
    """Provenance follows from how it was made, and the evidence has what that needs."""
    profile = find_profile(name, tmp_path)
    latency, energy = profile.provenance.latency, profile.provenance.energy
    assert profile.context_tokens == architecture_of(profile.model).context_tokens
    if name.startswith("agx-orin-32gb"):
        assert (latency, energy) == ("measured", "measured")
        assert profile.evidence["prefill_s"]["left_out"]["median_abs_error"] < 0.05
        assert profile.evidence["decode_s"]["left_out"]["median_abs_error"] < 0.02
        assert profile.evidence["joules_as_recorded"]["module_over_recorded"][0] < 1  # a rail may be in it twice
        assert profile.decode_j is not None
    elif "deepseek" in name:
        assert (latency, energy) == ("measured", "measured")
        assert profile.evidence["decode_s"]["left_out"]["median_abs_error"] < 0.02
    elif name == "rtx-4090/llama-3.1-8b-instruct/bf16":
        assert (latency, energy) == ("composed", "assumed")
        assert profile.knee_tokens > 0
    elif name.startswith("rtx-pro-6000"):
        assert (latency, energy, profile.energy_scope, profile.joules) == ("composed", None, None, None)
        assert profile.knee_tokens > 0
        assert profile.evidence["iterations"]["mean_abs_misfit"] < 0.2
    else:
        assert (latency, energy) == ("scaled", "assumed" if name.startswith("rtx") else "scaled")
        assert len(profile.evidence["transfer_errors"]) == 3
    assert (profile.seconds.per_sequence is None) == name.startswith("agx-orin")
    unmetered = "1.5b" in name or name.startswith(("rtx-pro-6000", "agx-orin-32gb"))  # prefills too short to meter
    assert (profile.joules is None) == unmetered


def test_every_bundled_file_is_valid_to_the_letter():
    """No file states an origin or a scope of joules that it does not have: strict reading, which drops nothing."""
    for name, file in bundled_profiles().items():
        assert read_profile(file, strict=True).name == name


def test_larger_models_are_slower_on_the_same_device(tmp_path):
    """A lone decode iteration takes longer the more weights it reads, and the Orin is slower than the 4090."""
    for device in ("agx-orin-64gb", "rtx-4090"):
        profiles = [find_profile(n, tmp_path) for n in bundled_profiles() if n.startswith(device)]
        profiles = [p for p in profiles if p.provenance.latency != "measured"]  # scaled from more than one measured
        by_bytes = sorted(profiles, key=lambda p: architecture_of(p.model).read_bytes(p.quantization))
        times = [p.seconds.base for p in by_bytes]
        assert times == sorted(times)
    orin, rtx = (find_profile(n, tmp_path) for n in ("agx-orin-64gb/gemma-7b/fp16", "rtx-4090/gemma-7b/bf16"))
    assert float(orin.seconds.decode_of(1, 999)) > 4 * float(rtx.seconds.decode_of(1, 999))


def test_bundled_profiles_are_what_the_script_derives(data, tmp_path):
    """Deriving them again from the public measurements gives the same files, byte for byte."""
    root = Path(__file__).parent.parent.parent
    subprocess.run(
        [sys.executable, str(root / "tools" / "derive_profiles.py"), "--out", str(tmp_path)],
        check=True,
        env={"MOE2_DATA": str(data), "PATH": ""},
        cwd=root,
        capture_output=True,
    )
    bundled = root / "calibration" / "profiles"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in bundled.iterdir())
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (bundled / path.name).read_bytes(), path.name
