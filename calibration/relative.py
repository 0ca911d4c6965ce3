"""What was recorded beside what a profile says of it: relative errors, shares of coefficients, spreads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.fit import Floats
from calibration.observed import DECODE, PREFILL, Observations, Unit, coefficients_of, costs_of, stated_scale
from calibration.profile import Profile

_LEAST_SCALE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Observations in the profile's terms: relative errors (n,), shares of the coefficients (n, 6), spreads (n,)."""

    errors: Floats
    shares: Floats
    scales: Floats
    session: NDArray[np.str_]

    def of(self, session: str) -> "Rows":
        """Return the rows of one session."""
        mine = self.session == session
        return Rows(
            errors=self.errors[mine], shares=self.shares[mine], scales=self.scales[mine], session=self.session[mine]
        )


def rows_of(profile: Profile, observed: Observations) -> Rows:
    """Return the observations in the profile's terms; ValueError where it predicts 0 for some."""
    errors, shares = relative_errors(coefficients_of(costs_of(profile, observed.unit)), observed)
    return Rows(errors=errors, shares=shares, scales=scales_of(profile, observed), session=observed.session)


def relative_errors(coefficients: Floats, observed: Observations) -> tuple[Floats, Floats]:
    """Return measured / fitted - 1 (n,) and each coefficient's share of what is fitted (n, 6)."""
    parts = observed.terms * coefficients
    fitted = parts.sum(axis=1)
    if not np.all(fitted > 0):
        zero = "0 s" if observed.unit == "s" else "0 J"
        raise ValueError(f"the profile predicts {zero} for some of what was recorded; fit a new one from scratch")
    return observed.values / fitted - 1.0, parts / fitted[:, None]


def scales_of(profile: Profile, observed: Observations) -> Floats:
    """Return the relative spread of the rows about their session (n,), of each phase: stated or seen, the larger."""
    residuals, _ = relative_errors(coefficients_of(costs_of(profile, observed.unit)), observed)
    found = np.empty(len(residuals))
    for phase, mine in (("prefill", observed.is_prefill), ("decode", ~observed.is_prefill)):
        if not mine.any():
            continue
        own = residuals[mine].copy()
        for session in np.unique(observed.session[mine]):
            of_session = observed.session[mine] == session
            own[of_session] -= np.median(own[of_session])
        seen = 1.4826 * float(np.median(np.abs(own)))
        found[mine] = max(stated_scale(profile.evidence, phase, observed.unit) or 0.0, seen, _LEAST_SCALE)
    return found


def relative_covariance(profile: Profile, unit: Unit = "s") -> NDArray[np.float64]:
    """Return the covariance of the coefficients' relative errors (6, 6); 0 where the evidence states none."""
    found = np.zeros((6, 6))
    costs = costs_of(profile, unit)
    six = coefficients_of(costs)
    for phase, places in (("prefill", PREFILL), ("decode", DECODE)):
        stated = profile.evidence.get(f"{phase}_{unit}", {}).get("covariance")
        if stated is None:
            continue
        covariance = np.array([[0.0 if c is None else c for c in row] for row in stated], dtype=np.float64)
        lone = phase == "decode" and (costs.per_sequence is None or len(covariance) == 2)
        kept = [0, 2] if lone else [0, 1, 2]  # of lone sequences: d (or d+e), f
        own = six[places][kept].copy()
        if lone:
            own[0] += six[4]
        n = len(kept)
        covariance = covariance[:n, :n]
        known = own > 0
        rel: Floats = np.where(
            np.outer(known, known), covariance / np.outer(np.where(known, own, 1), np.where(known, own, 1)), 0
        )
        start = places.start
        index = [start + k for k in kept]
        found[np.ix_(index, index)] = rel
        if lone:  # d and e move as their sum does
            found[4, :], found[:, 4] = found[3, :], found[:, 3]
            found[4, 4] = found[3, 3]
    return found
