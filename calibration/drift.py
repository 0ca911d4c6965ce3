"""Whether a profile still holds: what changed in a new recording, how sure, and by how much.

Recordings are clusters: a session's cells share the state of the machine, so that a session counts once, not as many
times as it has cells. Every hypothesis (everything, one phase, one coefficient is slower) is a direction in which
relative errors move together; each session has one estimate along it. New sessions are compared with those that the
profile was fitted on by a two-sample t statistic with pooled variance (Student, 1908), corrected for the number of
hypotheses (Bonferroni). The rows' own spread is the least that the variance between sessions can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from calibration.fit import Floats
from calibration.observed import COEFFICIENTS, DECODE, PREFILL, Observations, coefficients_of, stated_scale
from calibration.profile import Profile

LEVEL = 0.05
"""Chance that an undisturbed recording is called drifted, over all hypotheses together."""
HYPOTHESES: dict[str, tuple[int, ...]] = {
    "everything": (0, 1, 2, 3, 4, 5),
    "prefill": (0, 1, 2),
    "decode": (3, 4, 5),
    "d+e": (3, 4),
    **{name: (i,) for i, name in enumerate(COEFFICIENTS)},
}
"""What may change together, by places among a to f."""
KEYS = (
    dict(
        zip(COEFFICIENTS, ("prefill_s[0]", "prefill_s[1]", "prefill_s[2]", *(f"decode_s.{x}" for x in _D)), strict=True)
    )
    if (_D := ("base", "per_sequence", "per_context_token"))
    else {}
)
_LEAST_SHARE = 0.1
_LEAST_SCALE = 1e-4
_MOST_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One session's relative change along each hypothesis, and its standard error from the session's own rows."""

    change: dict[str, float]
    error: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One hypothesis tested: the relative change, its standard error, and the chance of as much without a change.

    `p` is corrected for the number of hypotheses, NaN when nothing is known of how sessions differ; `spread` is the
    standard deviation between sessions, `freedom` its degrees of freedom (inf: it was stated).
    """

    name: str
    change: float
    error: float
    spread: float
    freedom: float
    p: float

    @property
    def words(self) -> str:
        """What it says, in one sentence."""
        return (
            f"{described(self.name)}: {self.change:+.1%} ± {self.error:.1%}, p = {self.p:.2g} (sessions differ by "
            f"{self.spread:.1%})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The outcome: changes found, the largest explanation first, and every hypothesis tested on the whole."""

    found: tuple[Test, ...]
    tests: tuple[Test, ...]
    level: float
    noise: str

    @property
    def decided(self) -> bool:
        """Whether anything could be tested."""
        return any(isfinite(test.p) for test in self.tests)


def drift_of(
    profile: Profile, observed: Observations, *, level: float = LEVEL, session_spread: float | None = None
) -> Drift:
    """Return what changed since the profile was fitted.

    `session_spread` states the relative standard deviation between undisturbed sessions where the profile's evidence
    and the new sessions do not tell it. Raises ValueError for a level or spread that is no share.
    """
    _check_shares(level, session_spread)
    scales = scales_of(profile, observed)
    residuals, shares = relative_errors(coefficients_of(profile.seconds), observed)
    earlier = profile.evidence.get("sessions", {})
    names = [name for name in tellable(shares, observed) if not earlier or name in earlier["changes"]]
    history = _History(profile=profile, earlier=earlier, spread=session_spread)
    whole: tuple[Test, ...] = ()
    found: list[Test] = []
    for step in range(_MOST_STEPS):
        tests = _tested(names, residuals, shares, observed, scales, history)
        whole = whole or tests
        sure = [test for test in tests if test.p < level]
        if not sure:
            break
        best = min(sure, key=lambda test: _cost(test, residuals, shares, scales))
        found.append(best)
        residuals = residuals - best.change * _direction(best.name, shares)
        names = (
            [name for name in names if not set(HYPOTHESES[name]) & set(HYPOTHESES[best.name])]
            if step
            else [name for name in names if name != best.name]
        )
    return Drift(found=tuple(found), tests=whole, level=level, noise=history.words(observed))


def described(name: str) -> str:
    """Return a hypothesis in words, its coefficients as the profile's keys.

    >>> described("b"), described("everything")
    ('b (prefill_s[1])', 'everything, by one factor')
    """
    if name in KEYS:
        return f"{name} ({KEYS[name]})"
    if name == "d+e":
        return "d+e (decode_s.base and per_sequence, which lone sequences do not tell apart)"
    return f"{name}, by one factor" if name == "everything" else f"{name} as a whole, by one factor"


def session_evidence(profile: Profile, observed: Observations) -> dict[str, Any]:
    """Return what a profile keeps of its sessions: each one's changes to the common fit, and their standard errors."""
    scales = scales_of(profile, observed)
    residuals, shares = relative_errors(coefficients_of(profile.seconds), observed)
    names = tellable(shares, observed)
    estimates = _estimates(names, residuals, shares, observed, scales)
    return {
        "n": len(estimates),
        "changes": {name: [round(e.change[name], 5) for e in estimates] for name in names},
        "standard_errors": {name: [round(e.error[name], 5) for e in estimates] for name in names},
    }


def relative_errors(coefficients: Floats, observed: Observations) -> tuple[Floats, Floats]:
    """Return measured / fitted - 1 (n,) and each coefficient's share of what is fitted (n, 6)."""
    parts = observed.terms * coefficients
    fitted = parts.sum(axis=1)
    if not np.all(fitted > 0):
        raise ValueError("the profile predicts 0 s for some of what was recorded; fit a new one from scratch")
    return observed.seconds / fitted - 1.0, parts / fitted[:, None]


def scales_of(profile: Profile, observed: Observations) -> Floats:
    """Return the relative spread of the rows about their session (n,), of each phase: stated or seen, the larger."""
    residuals, _ = relative_errors(coefficients_of(profile.seconds), observed)
    found = np.empty(len(residuals))
    for phase, mine in (("prefill", observed.is_prefill), ("decode", ~observed.is_prefill)):
        if not mine.any():
            continue
        own = residuals[mine].copy()
        for session in np.unique(observed.session[mine]):
            of_session = observed.session[mine] == session
            own[of_session] -= np.median(own[of_session])
        seen = 1.4826 * float(np.median(np.abs(own)))
        found[mine] = max(stated_scale(profile.evidence, phase) or 0.0, seen, _LEAST_SCALE)
    return found


def tellable(shares: Floats, observed: Observations) -> list[str]:
    """Return the hypotheses that these rows can tell: of coefficients with a share worth the name, no two the same."""
    names: list[str] = []
    directions: list[Floats] = []
    singles = [name for name in HYPOTHESES if len(HYPOTHESES[name]) == 1]
    for name in (*singles, "d+e", "prefill", "decode", "everything"):
        if name in {"d", "e"} and not observed.batched:
            continue  # only their sum is seen
        direction = _direction(name, shares)
        both = name != "everything" or (observed.is_prefill.any() and (~observed.is_prefill).any())
        if direction.max() < _LEAST_SHARE or not both:
            continue
        if any(np.allclose(direction, other, atol=1e-3) for other in directions):
            continue  # the more particular name is there already
        names.append(name)
        directions.append(direction)
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """What is known of undisturbed sessions: the profile's own, or a stated spread."""

    profile: Profile
    earlier: Mapping[str, Any]
    spread: float | None

    def changes(self, name: str) -> Floats:
        """Return the profile's sessions along a hypothesis; one of no change where it keeps none."""
        return np.array(self.earlier["changes"][name]) if self.earlier else np.zeros(1)

    def squares(self, name: str) -> tuple[float, float]:
        """Return the sum of squares and the freedom of sessions before the profile's own."""
        found = self.earlier.get("before", {}).get(name, {"squares": 0.0, "freedom": 0})
        return float(found["squares"]), float(found["freedom"])

    def words(self, observed: Observations) -> str:
        """Return what the noise between sessions is taken from."""
        new = len(np.unique(observed.session))
        if self.spread is not None:
            return f"stated: sessions differ by {self.spread:.1%}"
        own = int(self.earlier.get("n", 1))
        return f"measured: {own} sessions of the profile and {new} new ones"


def _tested(
    names: Sequence[str],
    residuals: Floats,
    shares: Floats,
    observed: Observations,
    scales: Floats,
    history: _History,
) -> tuple[Test, ...]:
    estimates = _estimates(names, residuals, shares, observed, scales)
    return tuple(_test(name, estimates, history, shares, scales, len(names)) for name in names)


def _test(
    name: str, estimates: Sequence[Estimate], history: _History, shares: Floats, scales: Floats, n_tests: int
) -> Test:
    new, old = np.array([e.change[name] for e in estimates]), history.changes(name)
    squares, freedom = history.squares(name)
    squares += float(np.sum((new - new.mean()) ** 2) + np.sum((old - old.mean()) ** 2))
    freedom += len(new) + len(old) - 2
    within = float(np.mean([e.error[name] ** 2 for e in estimates]))
    if history.spread is not None:
        variance, freedom = history.spread**2 + within, inf
    else:
        variance = max(squares / freedom, within) if freedom else nan
    of_profile = 0.0 if history.earlier else _of_covariance(name, history.profile, shares, scales)
    change = float(new.mean() - old.mean())
    error = sqrt(variance * (1 / len(new) + 1 / len(old)) + of_profile) if isfinite(variance) else nan
    t = abs(change) / error if error else (inf if change else 0.0)
    p = 2 * float(ndtr(-t) if freedom == inf else stdtr(freedom, -t)) if isfinite(variance) else nan
    return Test(
        name=name,
        change=change,
        error=error,
        spread=sqrt(variance) if isfinite(variance) else nan,
        freedom=freedom,
        p=min(1.0, p * n_tests) if isfinite(p) else nan,
    )


def _estimates(
    names: Sequence[str], residuals: Floats, shares: Floats, observed: Observations, scales: Floats
) -> list[Estimate]:
    """Return the changes of each session, in the order of their names."""
    found = []
    for session in np.unique(observed.session):
        mine = observed.session == session
        along = {name: _along(residuals[mine], _direction(name, shares[mine]), scales[mine]) for name in names}
        found.append(
            Estimate(
                change={name: change for name, (change, _) in along.items()},
                error={name: error for name, (_, error) in along.items()},
            )
        )
    return found


def _along(residuals: Floats, direction: Floats, scales: Floats) -> tuple[float, float]:
    """Return the change along a direction that fits best, by soft-L1 loss, and its standard error; NaN unseen."""
    seen = direction > 0
    if not np.any(direction > _LEAST_SHARE):
        return nan, nan
    r, x = residuals[seen] / scales[seen], direction[seen] / scales[seen]
    weights, change = np.ones(len(r)), 0.0
    for _ in range(30):
        change = float(np.sum(weights * x * r) / np.sum(weights * x**2))
        weights = 1.0 / np.sqrt(1.0 + (r - change * x) ** 2)
    return change, float(1.0 / np.sqrt(np.sum(weights * x**2)))


def _direction(name: str, shares: Floats) -> Floats:
    return np.asarray(shares[:, list(HYPOTHESES[name])].sum(axis=1))


def _cost(test: Test, residuals: Floats, shares: Floats, scales: Floats) -> float:
    """Return the soft-L1 loss that is left when the change is taken out."""
    z = (residuals - test.change * _direction(test.name, shares)) / scales
    return float(np.sum(np.sqrt(1.0 + z**2) - 1.0))


def _of_covariance(name: str, profile: Profile, shares: Floats, scales: Floats) -> float:
    """Return the variance that the coefficients' covariance gives to a change along a hypothesis."""
    x = _direction(name, shares) / scales**2
    weights = x / np.sum(x * _direction(name, shares))
    reach = weights @ shares  # (6,): how the change moves with each coefficient's relative error
    return float(reach @ relative_covariance(profile) @ reach)


def relative_covariance(profile: Profile) -> NDArray[np.float64]:
    """Return the covariance of the coefficients' relative errors (6, 6); 0 where the evidence states none."""
    found = np.zeros((6, 6))
    six = coefficients_of(profile.seconds)
    for phase, places in (("prefill", PREFILL), ("decode", DECODE)):
        stated = profile.evidence.get(f"{phase}_s", {}).get("covariance")
        if stated is None:
            continue
        covariance = np.array([[0.0 if c is None else c for c in row] for row in stated], dtype=np.float64)
        kept = [0, 2] if phase == "decode" and len(covariance) == 2 else [0, 1, 2]  # of lone sequences: d (or d+e), f
        own = six[places][kept].copy()
        if kept == [0, 2]:
            own[0] += six[4]
        n = len(kept)
        covariance = covariance[:n, :n]
        known = own > 0
        rel = np.where(
            np.outer(known, known), covariance / np.outer(np.where(known, own, 1), np.where(known, own, 1)), 0
        )
        start = places.start
        index = [start + k for k in kept]
        found[np.ix_(index, index)] = rel
        if kept == [0, 2]:  # d and e move as their sum does
            found[4, :], found[:, 4] = found[3, :], found[:, 3]
            found[4, 4] = found[3, 3]
    return found


def _check_shares(level: float, session_spread: float | None) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level}: must be between 0 and 1 (0.05: 5 % of undisturbed recordings)")
    if session_spread is not None and not 0 <= session_spread < 1:
        raise ValueError(f"session spread {session_spread}: must be at least 0 and below 1 (0.03: 3 %)")
