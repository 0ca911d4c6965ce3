"""Whether a profile still holds: what changed in a new recording, seconds or joules, how sure, and by how much.

Recordings are clusters: a session's cells share the state of the machine, so that a session counts once, not as many
times as it has cells. Every hypothesis (everything, one phase, one coefficient takes more) is a direction in which
relative errors move together; each session has one estimate along it. New sessions are compared with those that the
profile was fitted on by a two-sample t statistic with pooled variance (Student, 1908), corrected for the number of
hypotheses (Bonferroni). The rows' own spread is the least that the variance between sessions can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan, nan, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtr

from calibration.fit import Floats
from calibration.observed import COEFFICIENTS, Observations, Unit
from calibration.profile import Profile
from calibration.relative import Rows, relative_covariance, rows_of

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
KEYS = {
    "a": "prefill_{}[0]",
    "b": "prefill_{}[1]",
    "c": "prefill_{}[2]",
    "d": "decode_{}.base",
    "e": "decode_{}.per_sequence",
    "f": "decode_{}.per_context_token",
}
"""Where the profile's file has each coefficient, of seconds (s) or joules (j)."""
SESSIONS: dict[Unit, str] = {"s": "sessions", "j": "sessions_j"}
"""Where a profile's evidence keeps what its sessions differed by."""
_LEAST_SHARE = 0.1
_MOST_STEPS = 3
_SETTLED = 1e-7  # relative change of an estimate below which it is not improved further


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One session's relative change along each hypothesis, and its standard error from the session's own rows."""

    change: dict[str, float]
    error: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
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
    unit: Unit = "s"

    @property
    def words(self) -> str:
        """What it says, in one sentence."""
        what = described(self.name, self.unit)
        sure = f"p = {self.p:.2g} (sessions differ by {self.spread:.1%})"
        return f"{what}: {self.change:+.1%} ± {self.error:.1%}, {sure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The outcome: changes found, the largest explanation first, and every hypothesis tested on the whole."""

    found: tuple[Trial, ...]
    tests: tuple[Trial, ...]
    level: float
    noise: str

    @property
    def decided(self) -> bool:
        """Whether anything could be tested."""
        return any(isfinite(test.p) for test in self.tests)


def drift_of(
    profile: Profile, observed: Observations, *, level: float = LEVEL, session_spread: float | None = None
) -> Drift:
    """Return what changed since the profile was fitted, in the unit of what was observed.

    `session_spread` states the relative standard deviation between undisturbed sessions where the profile's evidence
    and the new sessions do not tell it. Raises ValueError for a level or spread that is no share, and for joules that
    the profile does not know.
    """
    check_shares(level, session_spread)
    observed = observed.as_costed(profile)
    rows = rows_of(profile, observed)
    earlier = profile.evidence.get(SESSIONS[observed.unit], {})
    names = [name for name in tellable(rows, observed) if not earlier or name in earlier["changes"]]
    history = _History(profile=profile, unit=observed.unit, earlier=earlier, spread=session_spread)
    whole: tuple[Trial, ...] = ()
    found: list[Trial] = []
    for _ in range(_MOST_STEPS):
        tests = _tested(names, rows, history)
        whole = whole or tests
        sure = [test for test in tests if test.p < level]
        if not sure:
            break
        best = min(sure, key=lambda test: _cost(test, rows))
        found.append(best)
        rows = replace(rows, errors=rows.errors - best.change * _direction(best.name, rows.shares))
        names = [name for name in names if name != best.name]
    return Drift(found=tuple(found), tests=whole, level=level, noise=history.words(observed))


def described(name: str, unit: Unit = "s") -> str:
    """Return a hypothesis in words, its coefficients as the profile's keys.

    >>> described("b", "j"), described("everything")
    ('b (prefill_j[1])', 'everything, by one factor')
    """
    if name in KEYS:
        return f"{name} ({KEYS[name].format(unit)})"
    if name == "d+e":
        return f"d+e (decode_{unit}.base + per_sequence)"  # which lone sequences do not tell apart
    if name == "everything":
        return "everything, by one factor" if unit == "s" else "all joules, by one factor"
    return f"{name} as a whole, by one factor" if unit == "s" else f"joules of {name} as a whole, by one factor"


def session_evidence(profile: Profile, observed: Observations) -> dict[str, Any]:
    """Return what a profile keeps of its sessions: each one's changes to the common fit, and their standard errors.

    `names` are those of all that it ever was fitted to: held against it, they would agree with themselves.
    """
    observed = observed.as_costed(profile)
    earlier = profile.evidence.get(SESSIONS[observed.unit], {}).get("names", [])
    rows = rows_of(profile, observed)
    names = tellable(rows, observed)
    estimates = _estimates(names, rows)
    return {
        "n": len(estimates),
        "names": sorted({*earlier, *map(str, np.unique(observed.session))}),
        "changes": {name: [_rounded(e.change[name]) for e in estimates] for name in names},
        "standard_errors": {name: [_rounded(e.error[name]) for e in estimates] for name in names},
    }


def _rounded(value: float) -> float | None:
    return round(value, 5) if isfinite(value) else None


def tellable(rows: Rows, observed: Observations) -> list[str]:
    """Return the hypotheses that these rows can tell: of coefficients with a share worth the name, no two the same."""
    names: list[str] = []
    directions: list[Floats] = []
    singles = [name for name in HYPOTHESES if len(HYPOTHESES[name]) == 1]
    for name in (*singles, "d+e", "prefill", "decode", "everything"):
        if name in {"d", "e"} and not observed.batched:
            continue  # only their sum is seen
        direction = _direction(name, rows.shares)
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
    unit: Unit
    earlier: Mapping[str, Any]
    spread: float | None

    def changes(self, name: str) -> Floats:
        """Return the profile's sessions along a hypothesis; one of no change where it keeps none."""
        if not self.earlier:
            return np.zeros(1)
        return np.array([change for change in self.earlier["changes"][name] if change is not None])

    def squares(self, name: str) -> tuple[float, float]:
        """Return the sum of squares and the freedom of sessions before the profile's own."""
        found = self.earlier.get("before", {}).get(name, {"squares": 0.0, "freedom": 0})
        return float(found["squares"]), float(found["freedom"])

    def variance(self, name: str, new: Floats, estimates: Sequence[Estimate]) -> tuple[float, float]:
        """Return the variance between sessions, at the least that of their rows, and its freedom; NaN if unknown."""
        within = float(np.mean([e.error[name] ** 2 for e in estimates if isfinite(e.error[name])]))
        if self.spread is not None:
            return self.spread**2 + within, inf
        old = self.changes(name)
        squares, freedom = self.squares(name)
        squares += float(np.sum((new - new.mean()) ** 2) + np.sum((old - old.mean()) ** 2))
        freedom += len(new) + len(old) - 2
        return (max(squares / freedom, within), freedom) if freedom else (nan, 0)

    def words(self, observed: Observations) -> str:
        """Return what the noise between sessions is taken from."""
        new = len(np.unique(observed.session))
        if self.spread is not None:
            return f"stated: sessions differ by {self.spread:.1%}"
        own = int(self.earlier.get("n", 1))
        return f"measured: {own} session{'s' * (own != 1)} of the profile and {new} new one{'s' * (new != 1)}"


def _tested(names: Sequence[str], rows: Rows, history: _History) -> tuple[Trial, ...]:
    estimates = _estimates(names, rows)
    return tuple(_test(name, estimates, history, rows, n_tests=len(names)) for name in names)


def _test(name: str, estimates: Sequence[Estimate], history: _History, rows: Rows, *, n_tests: int) -> Trial:
    new = np.array([e.change[name] for e in estimates if isfinite(e.change[name])])
    old = history.changes(name)
    variance, freedom = history.variance(name, new, estimates)
    of_profile = 0.0 if history.earlier else _of_covariance(name, history, rows)
    change = float(new.mean() - old.mean())
    if isnan(variance):
        return Trial(name=name, change=change, error=nan, spread=nan, freedom=freedom, p=nan, unit=history.unit)
    error = sqrt(variance * (1 / len(new) + 1 / len(old)) + of_profile)
    t = abs(change) / error if error else (inf if change else 0.0)
    p = 2 * float(ndtr(-t) if freedom == inf else stdtr(freedom, -t))
    p, spread = min(1.0, p * n_tests), sqrt(variance)
    return Trial(name=name, change=change, error=error, spread=spread, freedom=freedom, p=p, unit=history.unit)


def _estimates(names: Sequence[str], rows: Rows) -> list[Estimate]:
    """Return the changes of each session, in the order of their names."""
    found = []
    for session in np.unique(rows.session):
        own = rows.of(session)
        along = {name: _along(own, _direction(name, own.shares)) for name in names}
        found.append(
            Estimate(
                change={name: change for name, (change, _) in along.items()},
                error={name: error for name, (_, error) in along.items()},
            )
        )
    return found


def _along(rows: Rows, direction: Floats) -> tuple[float, float]:
    """Return the change along a direction that fits best, by soft-L1 loss, and its standard error; NaN unseen."""
    seen = direction > 0
    if not np.any(direction > _LEAST_SHARE):
        return nan, nan
    r, x = rows.errors[seen] / rows.scales[seen], direction[seen] / rows.scales[seen]
    weights: Floats = np.ones(len(r))
    change = 0.0
    for _ in range(30):
        before, change = change, float(np.sum(weights * x * r) / np.sum(weights * x**2))
        weights = 1.0 / np.sqrt(1.0 + (r - change * x) ** 2)
        if abs(change - before) < _SETTLED:
            break
    return change, float(1.0 / np.sqrt(np.sum(weights * x**2)))


def _direction(name: str, shares: Floats) -> Floats:
    return np.asarray(shares[:, list(HYPOTHESES[name])].sum(axis=1))


def _cost(test: Trial, rows: Rows) -> float:
    """Return the soft-L1 loss that is left when the change is taken out."""
    z = (rows.errors - test.change * _direction(test.name, rows.shares)) / rows.scales
    return float(np.sum(np.sqrt(1.0 + z**2) - 1.0))


def _of_covariance(name: str, history: _History, rows: Rows) -> float:
    """Return the variance that the coefficients' covariance gives to a change along a hypothesis."""
    direction = _direction(name, rows.shares)
    x = direction / rows.scales**2
    reach = x @ rows.shares / np.sum(x * direction)  # (6,): how it moves with each coefficient's relative error
    return float(reach @ relative_covariance(history.profile, history.unit) @ reach)


def check_shares(level: float, session_spread: float | None) -> None:
    """Raise ValueError unless the level and the stated spread are shares."""
    if not 0 < level < 1:
        raise ValueError(f"level {level}: must be between 0 and 1 (0.05: 5 % of undisturbed recordings)")
    if session_spread is not None and not 0 <= session_spread < 1:
        raise ValueError(f"session spread {session_spread}: must be at least 0 and below 1 (0.03: 3 %)")
