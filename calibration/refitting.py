"""A profile brought up to date by a new recording: with the old evidence as prior, or from scratch, as a new version.

With a prior, the coefficients' relative errors have the normal distribution that the profile's evidence states (its
covariance, and what sessions differ by), widened along whatever was found to have drifted: of that the old evidence
says nothing any more. New rows weigh in with the spread of cells and that of sessions (generalised least squares,
coefficients of at least 0).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from calibration.costs import Costs, Decode, Prefill
from calibration.drift import HYPOTHESES, SESSIONS, Drift, described, session_evidence
from calibration.evidence import COEFFICIENT_DIGITS, RESIDUAL_DECIMALS, rounded
from calibration.fit import OUTLIER_SCALES, Floats
from calibration.observed import DECODE, PHASES, PREFILL, Observations, Unit, coefficients_of, costs_of
from calibration.profile import Profile
from calibration.relative import relative_covariance, relative_errors, scales_of
from calibration.sessions import MOST_DRIFT
from calibration.versions import profile_sha256, version_of

How = Literal["prior", "scratch"]
_HELD_OUT = 3
"""One of so many rows of each phase is held out to show the error before and after."""
_SETTLED = 1e-6
_FLAT = 100.0
"""Relative standard deviation of a prior that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors on the held-out rows of one phase: median of |measured / predicted - 1| and its median with the sign."""

    phase: str
    n: int
    before: float
    after: float
    signed_before: float
    signed_after: float
    unit: Unit = "s"


def refitted(
    profile: Profile,
    observed: Observations,
    drift: Drift,
    *,
    how: How,
    joules: tuple[Observations, Drift] | None = None,
    idle_w: float | None = None,
) -> tuple[Profile, tuple[Errors, ...]]:
    """Return the profile with costs refitted to the new rows, and the errors on rows held out of a first refit.

    Joules are left as they were unless there are new rows of them. Idle power, as newly recorded, replaces the old
    where they differ by more than a session's may. The name, version and evidence say what is superseded. Raises
    ValueError when the profile states no covariance that could be a prior.
    """
    parts = [(observed, drift), *([] if joules is None else [joules])]
    new = profile
    errors: tuple[Errors, ...] = ()
    for given, found in parts:
        seen = given.as_costed(profile)
        if how == "prior" and not relative_covariance(profile, seen.unit).any():
            raise ValueError(
                f"profile {profile.name}: its evidence states no covariance to be a prior; refit from scratch"
            )
        errors += _held_out_errors(profile, seen, found, how)
        new = _with_costs(new, seen, *_fit(profile, seen, found, how))
    version = _version(profile, parts, how)
    if idle_w is not None and not (profile.idle_w and abs(idle_w / profile.idle_w - 1) <= MOST_DRIFT):
        version["idle_w"] = {"before": profile.idle_w, "recorded": rounded(idle_w)}
        new = replace(new, idle_w=rounded(idle_w))
    return replace(new, name=next_name(profile.name), evidence={**new.evidence, "version": version}), errors


def next_name(name: str) -> str:
    """Return the name of the next version.

    >>> next_name("orin/llama/fp16"), next_name("orin/llama/fp16@2")
    ('orin/llama/fp16@2', 'orin/llama/fp16@3')
    """
    found = re.fullmatch(r"(.*)@([0-9]+)", name)
    return f"{name}@2" if found is None else f"{found[1]}@{int(found[2]) + 1}"


def _held_out(observed: Observations) -> NDArray[np.bool_]:
    """Return which rows are held out (n,): every third of each phase in the order of its terms, the ends kept in."""
    out = np.zeros(len(observed.values), dtype=np.bool_)
    for mine in (observed.is_prefill, ~observed.is_prefill):
        rows = np.flatnonzero(mine)
        order = rows[np.lexsort((observed.terms[rows, 3], observed.terms[rows, 5], observed.terms[rows, 1]))]
        out[order[1:-1:_HELD_OUT]] = True
    return out


def _held_out_errors(profile: Profile, observed: Observations, drift: Drift, how: How) -> tuple[Errors, ...]:
    """Return the errors of the old and of newly fitted coefficients on rows that the fit did not see."""
    out = _held_out(observed)
    if not out.any():
        return ()  # too few rows to spare any
    first, _ = _fit(profile, observed.rows(~out), drift, how)
    return _errors(coefficients_of(costs_of(profile, observed.unit)), first, observed.rows(out))


def _errors(old: Floats, new: Floats, held: Observations) -> tuple[Errors, ...]:
    before, after = (relative_errors(coefficients, held)[0] for coefficients in (old, new))
    found = []
    for phase, mine in zip(PHASES, (held.is_prefill, ~held.is_prefill), strict=True):
        if mine.any():
            found.append(
                Errors(
                    phase=phase,
                    n=int(mine.sum()),
                    before=float(np.median(np.abs(before[mine]))),
                    after=float(np.median(np.abs(after[mine]))),
                    signed_before=float(np.median(before[mine])),
                    signed_after=float(np.median(after[mine])),
                    unit=held.unit,
                )
            )
    return tuple(found)


def _fit(profile: Profile, observed: Observations, drift: Drift, how: How) -> tuple[Floats, Floats]:
    """Return coefficients (6,) and their covariance (6, 6), by iteratively reweighted generalised least squares."""
    old = coefficients_of(costs_of(profile, observed.unit))
    residuals, shares = relative_errors(old, observed)
    scales = scales_of(profile, observed)
    prior = _prior(profile, observed.unit, drift, how)
    free = (old > 0) & (shares.max(axis=0) > 0)
    design, wanted = shares[:, free], residuals + 1.0
    tight = np.linalg.cholesky(np.linalg.inv(prior[np.ix_(free, free)])).T  # the prior as rows: tight (theta - 1) = 0
    theta: Floats = np.ones(int(free.sum()))
    weights: Floats = np.ones(len(wanted))
    spread = _session_spread(drift)
    for _ in range(20):
        white = _whitening(observed, scales / np.sqrt(weights), spread)
        rows, right = np.vstack([white @ design, tight]), np.concatenate([white @ wanted, tight.sum(axis=1)])
        before = theta
        theta, _ = nnls(rows, right)
        own = _without_session(design @ theta - wanted, observed)
        weights = 1.0 / np.sqrt(1.0 + (own / scales) ** 2)
        if np.max(np.abs(theta - before)) < _SETTLED:
            break
    covariance = np.zeros((6, 6))
    covariance[np.ix_(free, free)] = np.linalg.inv(rows.T @ rows) * np.outer(old[free], old[free])
    new = old.copy()
    new[free] = theta * old[free]
    return new, covariance


def _prior(profile: Profile, unit: Unit, drift: Drift, how: How) -> Floats:
    """Return the prior covariance of relative changes (6, 6)."""
    together = np.ones((6, 6))
    tied = np.zeros((6, 6))
    tied[np.ix_([3, 4], [3, 4])] = 1.0  # where lone sequences cannot tell d from e, both move alike
    if how == "scratch":
        return np.asarray(_FLAT**2 * (np.eye(6) + tied) + 1e-6 * np.eye(6))
    found = relative_covariance(profile, unit) + _session_spread(drift) ** 2 * together
    for test in drift.found:
        moved = np.zeros(6)
        moved[list(HYPOTHESES[test.name])] = 1.0
        found += (2 * test.change) ** 2 * np.outer(moved, moved)
    return np.asarray(found + 1e-8 * np.eye(6))


def _session_spread(drift: Drift) -> float:
    """Return the standard deviation between sessions along the broadest hypothesis that was tested."""
    by_name = {test.name: test.spread for test in drift.tests if isfinite(test.spread)}
    return next((by_name[name] for name in HYPOTHESES if name in by_name), 0.0)


def _whitening(observed: Observations, scales: Floats, spread: float) -> Floats:
    """Return the matrix (n, n) that makes rows independent: own spread, and one common factor a session."""
    same = observed.session[:, None] == observed.session[None, :]
    covariance = np.diag(scales**2) + spread**2 * same
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


def _without_session(misfit: Floats, observed: Observations) -> Floats:
    left = misfit.copy()
    for session in np.unique(observed.session):
        mine = observed.session == session
        left[mine] -= np.median(left[mine])
    return left


def _with_costs(profile: Profile, observed: Observations, new: Floats, covariance: Floats) -> Profile:
    """Return the profile with new coefficients in the unit observed, their evidence, and residuals of seconds."""
    unit, known = observed.unit, profile.seconds.per_sequence is not None
    a, b, c, d, e, f = (float(f"{value:.{COEFFICIENT_DIGITS}g}") for value in new)
    prefill, decode = (a, b, c), (d, e if known else None, f)
    if unit == "s":
        draft = replace(profile, seconds=_costs(profile.seconds, prefill, decode))
        residuals = _noise(draft, observed)
        draft = replace(
            draft,
            residuals_prefill=residuals[0] or profile.residuals_prefill,
            residuals_decode=residuals[1] or profile.residuals_decode,
        )
    else:
        draft = replace(profile, prefill_j=prefill, decode_j=decode)
    evidence = {
        **profile.evidence,
        **{
            f"{phase}_{unit}": _evidence(profile.evidence.get(f"{phase}_{unit}", {}), covariance[own, own], known=known)
            for phase, own in zip(PHASES, (PREFILL, DECODE), strict=True)
        },
        SESSIONS[unit]: {**session_evidence(draft, observed), "before": _earlier_squares(profile, unit)},
    }
    return replace(draft, evidence=evidence)


def _costs(old: Costs, prefill: Prefill, decode: Decode) -> Costs:
    base, per_sequence, per_context_token = decode
    return replace(old, prefill=prefill, base=base, per_sequence=per_sequence, per_context_token=per_context_token)


def _evidence(old: Mapping[str, Any], covariance: Floats, *, known: bool) -> dict[str, Any]:
    """Return a phase's evidence with the new covariance in the form that it had: d and e as one where e is unknown."""
    kept = [0, 1, 2] if known or "P" in old.get("terms", ["P"]) else [0, 2]
    own = covariance[np.ix_(kept, kept)]
    stated = [[rounded(value) if value else None for value in row] for row in own.tolist()]
    return {**{key: value for key, value in old.items() if key != "net"}, "covariance": stated}


def _noise(profile: Profile, observed: Observations) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the residuals of both phases as factors of mean 1, less 1, without outliers."""
    residuals, _ = relative_errors(coefficients_of(profile.seconds), observed)
    scales = scales_of(profile, observed)
    found = []
    for mine in (observed.is_prefill, ~observed.is_prefill):
        own = residuals[mine & (np.abs(residuals) <= OUTLIER_SCALES * scales)]
        factors = (1.0 + own) / (1.0 + own.mean()) if len(own) else own
        found.append(tuple((np.round(factors - 1.0, RESIDUAL_DECIMALS) + 0.0).tolist()))
    return found[0], found[1]


def _earlier_squares(profile: Profile, unit: Unit) -> dict[str, Any]:
    """Return how sessions differed before: what they say of the noise stays true when their level does not."""
    earlier = profile.evidence.get(SESSIONS[unit], {})
    found = {}
    for name in HYPOTHESES:
        changes = np.array([c for c in earlier.get("changes", {}).get(name, []) if c is not None])
        past = earlier.get("before", {}).get(name, {"squares": 0.0, "freedom": 0})
        if len(changes) or past["freedom"]:
            squares = past["squares"] + (float(np.sum((changes - changes.mean()) ** 2)) if len(changes) else 0.0)
            found[name] = {
                "squares": rounded(squares, 6),
                "freedom": past["freedom"] + max(len(changes) - 1, 0),
            }
    return found


def _version(profile: Profile, parts: Sequence[tuple[Observations, Drift]], how: How) -> dict[str, Any]:
    sessions = sorted({session for observed, _ in parts for session in observed.session.tolist()})
    return {
        "number": version_of(profile) + 1,
        "supersedes": {"name": profile.name, "version": version_of(profile), "sha256": profile_sha256(profile)},
        "how": {
            "prior": "the old evidence as prior, lifted from what drifted",
            "scratch": "the new recording alone",
        }[how],
        "sessions": sessions,
        "rows": len(parts[0][0].values),
        **({"joule_rows": len(parts[1][0].values)} if len(parts) > 1 else {}),
        "drift": [
            {
                "what": described(test.name, test.unit),
                "change": rounded(test.change),
                "standard_error": rounded(test.error),
                "p": rounded(test.p),
            }
            for _, drift in parts
            for test in drift.found
        ],
        "noise": parts[0][1].noise,
    }
