"""The finding behind windows: a log of one reading a second misses short prefills, and the check here refuses them."""

import numpy as np
import pytest

from calibration.meters.series import Series, energy_of
from calibration.sources.edgereasoning import read_prefills


def test_a_slow_log_puts_short_prefills_at_idle_power(data):
    """In the public Orin recording every prefill under 0.9 s reads idle power, and none above does."""
    prefills = read_prefills(data / "measurements" / "edgereasoning_agx_orin64_prefill.csv")
    rows = []
    for low_s, high_s in ((0.0, 0.7), (0.7, 0.9), (0.9, 2.0), (2.0, np.inf)):
        power_w = prefills.mean_power_w[(prefills.seconds >= low_s) & (prefills.seconds < high_s)]
        rows.append((len(power_w), power_w.min(), power_w.max()))
    assert [n for n, _, _ in rows] == [25, 3, 7, 28]
    assert rows[0][1:] == pytest.approx((5.5, 5.7), abs=0.05)
    assert rows[1][1:] == pytest.approx((5.7, 5.7), abs=0.05)
    assert rows[2][1] > 16
    assert rows[3][1] > 20
    assert set(prefills.model[prefills.seconds < 0.7]) > {"DeepSeek-R1-Distill-Qwen-1.5B"}


def test_one_reading_a_second_gives_no_energy_to_a_short_window():
    """A prefill of half a second at 30 W on a device idle at 5 W: a log of 1 Hz refuses it, one of 100 Hz gets 15 J."""
    for period_s, joules in ((1.0, None), (0.01, 15.0)):
        at_s = np.arange(0.0, 10.0, period_s)
        power_w = np.where((at_s >= 4.3) & (at_s < 4.8), 30.0, 5.0)
        series = Series(at_s=at_s, power_w=power_w, energy_j=np.full_like(at_s, np.nan))
        window = energy_of(series, 4.3, 4.8, period_s)
        if joules is None:
            assert window.joules is None
            assert window.reason.startswith("aliased: 0.5 s hold 0 updates of a meter that refreshes every 1 s")
        else:
            assert window.joules == pytest.approx(joules, rel=0.03)
