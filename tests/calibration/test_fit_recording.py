"""Laws of fitting whole recordings to profiles."""

import json

import numpy as np
import pytest
from recorded import (
    DECODE_J,
    DECODE_S,
    DEVICE,
    PREFILL_J,
    PREFILL_S,
    PROMPTS,
    fit_recording,
    write_decodes,
    write_prefills,
)

from calibration.fitting import device_slug, fit_summary
from calibration.iterations import Limits
from calibration.profile import file_name, find_profile, read_profile


def test_known_coefficients_come_back_from_noisy_files(tmp_path):
    """Time and energy are recovered within the noise, the energy free of the prefill that its window also holds."""
    prefill = write_prefills(tmp_path / "p.csv", noise=0.01, idle=6)
    decode = write_decodes(tmp_path / "d.csv", noise=0.01)
    (profile,) = fit_recording([prefill, decode], tmp_path / "out")
    P, C = np.array([300, 1000, 4000]), np.array([200, 1000, 3000])
    truth = {
        "prefill_s": np.polyval(PREFILL_S[::-1], P),
        "prefill_j": np.polyval(PREFILL_J[::-1], P),
        "decode_s": np.polyval(DECODE_S[::-1], C),
        "decode_j": np.polyval(DECODE_J[::-1], C),
    }
    joules = profile.joules
    assert joules is not None
    assert profile.seconds.prefill_of(P) == pytest.approx(truth["prefill_s"], rel=0.02)
    assert profile.seconds.decode_of(1, C) == pytest.approx(truth["decode_s"], rel=0.01)
    assert joules.prefill_of(P[1:]) == pytest.approx(truth["prefill_j"][1:], rel=0.03)
    assert joules.decode_of(1, C) == pytest.approx(truth["decode_j"], rel=0.02)
    assert profile.idle_w == 5.5
    assert profile.seconds.per_sequence is None


def test_refused_rows_are_counted_with_their_reason(tmp_path):
    """Idle-level prefills and one-token decodes are left out, said so, and used for nothing but idle power."""
    paths = [write_prefills(tmp_path / "p.csv", idle=6), write_decodes(tmp_path / "d.csv")]
    (profile,) = fit_recording(paths, tmp_path)
    table = {row["quantity"]: row for row in fit_summary([profile])}
    assert (table["prefill_s"]["n"], table["prefill_s"]["refused"]) == (len(PROMPTS), 0)
    assert (table["prefill_j"]["n"], table["prefill_j"]["refused"]) == (len(PROMPTS) - 6, 6)
    assert (table["decode_s"]["n"], table["decode_s"]["refused"]) == (48, 8)
    assert "idle level, below 0.4 of the 28 W" in table["prefill_j"]["reasons"][0]
    assert "0 s" in table["decode_s"]["reasons"][0]
    assert table["decode_s"]["error"] == pytest.approx(0.0, abs=1e-6)
    assert table["prefill_j"]["coefficients"] == pytest.approx(PREFILL_J, rel=1e-4)


def test_prefills_all_at_idle_level_have_no_energy(tmp_path):
    """When the power log missed every prefill their energy is unknown, and with it the expert's."""
    paths = [write_prefills(tmp_path / "p.csv", idle=len(PROMPTS)), write_decodes(tmp_path / "d.csv")]
    (profile,) = fit_recording(paths, tmp_path)
    assert profile.prefill_j is None
    assert profile.decode_j is not None
    assert profile.joules is None
    assert profile.evidence["prefill_j"]["refused"][0]["n"] == len(PROMPTS)


def test_one_wild_prefill_is_listed_and_changes_little(tmp_path):
    """A 22.5 s row among 3 s ones moves predictions by under 1 % and is no part of the noise."""
    decode = write_decodes(tmp_path / "d.csv", noise=0.01)
    prefill = write_prefills(tmp_path / "p.csv", noise=0.01)
    (clean,) = fit_recording([prefill, decode], tmp_path / "clean")
    lines = prefill.read_text().splitlines()
    cells = lines[25].split(",")
    cells[4] = "22500.0"
    prefill.write_text("\n".join([*lines[:25], ",".join(cells), *lines[26:]]) + "\n")
    (wild,) = fit_recording([prefill, decode], tmp_path / "wild")
    P = np.array([256, 1024, 4096])
    assert wild.seconds.prefill_of(P) == pytest.approx(clean.seconds.prefill_of(P), rel=0.01)
    (outlier,) = wild.evidence["prefill_s"]["outliers"]
    assert outlier["prompt_tokens"] == int(cells[3])
    assert len(wild.residuals_prefill) == len(PROMPTS) - 1
    assert max(wild.residuals_prefill) < 0.1


def test_profiles_are_written_one_per_model_and_read_back(tmp_path):
    """Every model of the pair becomes a file named after its profile, with the sources' hashes in it."""
    models = ("Model-A", "Model-B")
    paths = [write_decodes(tmp_path / "d.csv", models=models), write_prefills(tmp_path / "p.csv", models=models)]
    profiles = fit_recording(paths, tmp_path / "out")
    assert [p.name for p in profiles] == ["agx-orin-64gb/model-a/fp16", "agx-orin-64gb/model-b/fp16"]
    for profile in profiles:
        path = tmp_path / "out" / (profile.name.replace("/", "--") + ".json")
        assert read_profile(path) == profile
        assert profile.device == DEVICE
        assert all(len(source["sha256"]) == 64 for source in json.loads(path.read_text())["evidence"]["sources"])
        assert np.mean(profile.residuals_decode) == pytest.approx(0.0, abs=1e-4)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    """Unknown headers, lone halves, repeats and models without a partner give one error and no file."""
    prefill = write_prefills(tmp_path / "p.csv")
    again = write_prefills(tmp_path / "again.csv")
    decode = write_decodes(tmp_path / "d.csv")
    other = write_decodes(tmp_path / "other.csv", models=("Model-A", "Model-C"))
    odd = tmp_path / "odd.csv"
    odd.write_text("a,b\n1,2\n")
    dense = tmp_path / "dense.csv"
    dense.write_text("layer,tokens,time_us\nx,1,1\n")
    few = tmp_path / "few.csv"
    few.write_text("\n".join(prefill.read_text().splitlines()[:3]) + "\n")
    for paths, message in (
        ([], r"found no files; needs the pair"),
        ([odd], r"odd\.csv: its columns a, b are of no known recording"),
        ([prefill], r"p\.csv \(EdgeReasoning prefill\); needs the pair"),
        ([prefill, again], r"again\.csv and .*p\.csv are both EdgeReasoning prefill"),
        ([prefill, decode, dense], r"dense\.csv \(vLLM dense kernels\); needs the pair"),
        ([prefill, other], r"p\.csv and .*other\.csv: only one of them has rows of Model-C"),
        ([few, decode], r"few\.csv: prefill seconds of Model-A: 2 rows do not tell 3 terms apart"),
        ([tmp_path / "absent.csv"], r"absent\.csv: cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_recording(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_kernel_tables_need_their_device_and_model_named(data, tmp_path):
    """Tables that do not say whose they are are fitted only when told; their energies stay unknown."""
    parts = ("per_sequence", "dense", "attention")
    paths = [data / "measurements" / f"vllm_rtx4090_llama31_8b_{part}.csv.gz" for part in parts]
    with pytest.raises(ValueError, match=r"dense\.csv\.gz: kernel tables name neither"):
        fit_recording(paths, tmp_path)
    with pytest.raises(ValueError, match=r"did you mean 'llama-3\.1-8b-instruct'\?"):
        fit_recording(paths, tmp_path, device="NVIDIA GeForce RTX 4090", model="llama-3.1-8b-instruc")
    told = {"device": "NVIDIA GeForce RTX 4090", "model": "llama-3.1-8b-instruct"}
    (profile,) = fit_recording(paths, tmp_path, **told)
    assert (profile.name, profile.quantization) == ("rtx-4090/llama-3.1-8b-instruct/unknown", None)
    (stated,) = fit_recording(paths, tmp_path, **told, quantization="bf16")
    assert (stated.name, stated.quantization) == ("rtx-4090/llama-3.1-8b-instruct/bf16", "bf16")
    assert stated.seconds == profile.seconds
    assert (profile.provenance.energy, profile.energy_scope) == (None, None)
    assert profile.joules is None
    assert float(profile.seconds.decode_of(1, 512)) == pytest.approx(0.017, rel=0.05)


@pytest.mark.parametrize("card", ["rtx4090", "rtxpro6000"])
def test_the_tables_of_every_card_are_fitted_by_one_path(card, data, tmp_path):
    """Tables whose chunks were timed at contexts of their own are fitted too, for either scheduler, as bundled."""
    parts = ("per_sequence", "dense", "attention")
    paths = [data / "measurements" / f"vllm_{card}_llama31_8b_{part}.csv.gz" for part in parts]
    told = {"device": card, "model": "llama-3.1-8b-instruct", "quantization": "bf16"}
    (alone,) = fit_recording(paths, tmp_path / "alone", **told, limits=Limits(max_batch=64, kv_capacity_tokens=65_536))
    kv_tokens = 36_578 * 16
    limits = Limits(max_batch=128, token_budget=2048, kv_capacity_tokens=kv_tokens)
    (chunked,) = fit_recording(paths, tmp_path / "chunked", **told, limits=limits)
    lone_s = [float(p.seconds.decode_of(1, 1000)) for p in (alone, chunked)]
    assert lone_s[1] == pytest.approx(lone_s[0], rel=0.15)  # of one card, fitted for two schedulers
    name = {"rtx4090": "rtx-4090", "rtxpro6000": "rtx-pro-6000"}[card] + "/llama-3.1-8b-instruct/bf16"
    bundled = find_profile(name, tmp_path)
    assert bundled.seconds == {"rtx4090": alone, "rtxpro6000": chunked}[card].seconds


@pytest.mark.parametrize(
    ("device", "slug"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("AMD EPYC(TM) 7B12 (2 cores)", "amd-epyc-7b12-2-cores"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon-cpu-2.20ghz"),
        ("NVIDIA", "nvidia"),
        ("a/b", "a-b"),
    ],
)
def test_a_device_is_named_without_what_is_awkward_in_a_file(device, slug):
    """Parentheses, slashes and trademarks of processors' names are in no name of a profile or of its file."""
    assert device_slug(device) == slug
    assert not set("()/ @") & set(file_name(f"{slug}/m (x)/q"))
