"""How small a change a test for drift would still have found: what "no drift found" is worth."""

from math import inf, nan

from scipy.special import ndtri, stdtrit

from calibration.drift import Drift, Trial

__all__ = ["broadest", "detectable"]


def detectable(trial: Trial, drift: Drift) -> float:
    """Return the relative change at which a trial of a drift becomes significant; NaN where nothing is known.

    It is the standard error times the quantile of Student's t at the level, corrected as p is (Bonferroni): a true
    change of that size is found in every other case. It falls with the number of new sessions.
    """
    share = drift.level / (2 * len(drift.tests))
    if not trial.error >= 0:
        return nan
    return -trial.error * float(ndtri(share) if trial.freedom == inf else stdtrit(trial.freedom, share))


def broadest(drift: Drift) -> Trial:
    """Return the trial of the broadest hypothesis that was tested: everything by one factor, where that was."""
    return next((test for test in drift.tests if test.name == "everything"), drift.tests[-1])
