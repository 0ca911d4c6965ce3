"""Laws of a session's joules: gross and net, batches, drift, and a stated correction of the meter."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from law_runtime import DECODE_S, PREFILL_S, LawRuntime

from calibration.costs import Costs
from calibration.fit import decode_terms
from calibration.meters.corrections import CORRECTIONS, correction_named
from calibration.meters.protocol import NoMeter
from calibration.recordings import Source
from calibration.session.calibrating import calibrate
from calibration.session.plan import Plan
from calibration.session.store import Store, mark_row
from calibration.session_energy import session_joules
from calibration.session_profile import session_profile
from calibration.sessions import JOULES, Sessions, no_batches, read_sessions

PREFILL_J, DECODE_J = (0.5, 0.02, 1e-6), (2.0, 0.3, 1e-4)
SECONDS = Costs(prefill=PREFILL_S, base=DECODE_S[0], per_sequence=DECODE_S[1], per_context_token=DECODE_S[2])
ALONE = replace(SECONDS, per_sequence=None)
BIAS = correction_named("nvml-rtx-4090")


def sessions(batches=(1,), *, idle_w=10.0, correction=None) -> Sessions:
    """Return sessions whose joules follow PREFILL_J and DECODE_J."""
    prompts = [32, 128, 512, 2048]
    prefills = [("s", P, 1, 1, float(np.polyval(PREFILL_J[::-1], P))) for P in prompts]
    d, e, f = DECODE_J
    decodes = []
    for B in batches:
        for P in prompts:
            for out in (33, 129):
                n, context = decode_terms([P], [out])[0]
                decodes.append(("s", P, out, B, n * (d + e * B) + B * context * f))
    return Sessions(
        source=Source(file="r", sha256="0"),
        manifest={},
        requests=pd.DataFrame(),
        batches=no_batches(),
        prefill_j=pd.DataFrame(prefills, columns=JOULES),
        decode_j=pd.DataFrame(decodes, columns=JOULES),
        idle_w=idle_w,
        refused=(),
        correction=correction,
    )


def test_batches_give_the_joules_of_a_sequence():
    """Windows of lone and of side-by-side sequences identify d, e and f; without batches only their sum is known."""
    found = session_joules(sessions((1, 2, 8)), SECONDS)
    assert found.prefill_j == pytest.approx(PREFILL_J, rel=1e-4)
    assert found.decode_j == pytest.approx(DECODE_J, rel=1e-4)
    assert np.shape(found.evidence["decode_j"]["covariance"]) == (3, 3)
    alone = session_joules(sessions(), ALONE)
    d, e, f = DECODE_J
    assert alone.decode_j is not None
    assert alone.decode_j[1] is None
    assert (alone.decode_j[0], alone.decode_j[2]) == pytest.approx((d + e, f), rel=1e-4)
    unmetered = session_joules(sessions(), SECONDS)  # batches were timed, not metered
    assert unmetered.decode_j is None
    assert "not identified" in unmetered.evidence["decode_j"]["unknown"]


def test_net_is_gross_less_the_idle_device():
    """Each net coefficient is the gross one less idle watts times the seconds of the same term."""
    found = session_joules(sessions((1, 4)), SECONDS)
    for gross, seconds, key in ((PREFILL_J, PREFILL_S, "prefill_j"), (DECODE_J, DECODE_S, "decode_j")):
        net = [j - 10.0 * s for j, s in zip(gross, seconds, strict=True)]
        assert found.evidence[key]["net"] == pytest.approx(net, rel=1e-3)


def test_a_correction_scales_joules_and_widens_their_error():
    """Loaded joules, idle watts and the common part of the covariance are as stated; off, nothing is touched."""
    plain, corrected = (session_joules(sessions((1, 4), correction=c), SECONDS) for c in (None, BIAS))
    assert np.divide(corrected.prefill_j, plain.prefill_j) == pytest.approx(BIAS.loaded, rel=1e-4)
    assert np.divide(corrected.decode_j, plain.decode_j) == pytest.approx(BIAS.loaded, rel=1e-4)
    assert corrected.idle_w == pytest.approx(BIAS.idle * plain.idle_w)
    errors = np.sqrt(np.diag(np.array(corrected.evidence["decode_j"]["covariance"], dtype=float)))
    assert errors / corrected.decode_j == pytest.approx(BIAS.uncertainty, rel=0.05)  # the data here have no noise
    assert corrected.evidence["meter_correction"]["source"] == BIAS.source
    assert "meter_correction" not in plain.evidence


def test_a_correction_is_of_one_meter_and_stands_in_the_recording(tmp_path):
    """It is refused for another meter before anything is measured; each one states where its figures are from."""
    with pytest.raises(ValueError, match=r"'nvml-rtx-4090' is of nvml on .*4090, this session's meter is 'none'"):
        calibrate(LawRuntime(), NoMeter(), tmp_path, Plan(), correction=BIAS)
    assert not list(tmp_path.iterdir())
    for correction in CORRECTIONS:
        assert len(correction.source) > 40
        assert 0 < correction.uncertainty < 0.1


def name_meter(store, scope):
    """Let the manifest of a recording without a meter say that there was one of that scope."""
    path = store.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["meter"]["scope"] = scope
    path.write_text(json.dumps(manifest))


def recorded(tmp_path, idle):
    """Record a law session without a meter, then add idle readings (watts by when) to it, as a meter would have."""
    plan = Plan(least_prompt=32, most_prompt=2048, output_tokens=(8, 64), blocks=2, repeats=2, most_repeats=2)
    store = calibrate(
        LawRuntime(noise=0.01), NoMeter(), tmp_path, plan, self_test_s=0.1, settle=lambda: {"reason": "settled"}
    )
    session = store.read()["session"].iloc[0]
    name_meter(store, "board")
    window = {"kind": "idle", "sent_s": 0.0, "finished_s": 5.0}
    rows = [mark_row(f"idle-{when}", session, energy_j=5.0 * watts, **window) for when, watts in idle.items()]
    Store(folder=tmp_path).add(f"idle-{session}", rows)
    return read_sessions([tmp_path])


def test_idle_power_is_of_the_loaded_device_before_and_after(tmp_path):
    """A model that is loaded may draw more than an empty device: only loaded and after are one quantity."""
    found = recorded(tmp_path, {"before": 8.0, "loaded": 20.0, "after": 20.4})
    assert found.idle_w == pytest.approx(20.2)
    assert found.record["idle"] == [{"before_w": 8.0, "loaded_w": 20.0, "after_w": 20.4, "drift": pytest.approx(0.02)}]
    profile = session_profile(found, name="a/law/fp16", quantization="fp16")
    assert profile.evidence["idle"] == found.record["idle"]
    assert profile.evidence["missing_cells"] == []
    law_s = np.polyval(PREFILL_S[::-1], [32, 512, 2048])
    assert profile.seconds.prefill_of([32, 512, 2048]) == pytest.approx(law_s, rel=0.03)


@pytest.mark.parametrize("after", [19.3, 20.7])
def test_a_session_whose_idle_power_drifted_is_refused(tmp_path, after):
    """More than 3 % between the loaded device before and after, in either direction, invalidates the session."""
    with pytest.raises(ValueError, match=r"idle power drifted by [+-]3\.5% .* allowed is 3%"):
        recorded(tmp_path, {"loaded": 20.0, "after": after})
