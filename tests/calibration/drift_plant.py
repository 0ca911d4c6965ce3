"""Made-up sessions of a server whose cost is known, and profiles fitted on them."""

from dataclasses import replace

import numpy as np

from calibration.costs import Costs
from calibration.drift import session_evidence
from calibration.fit import decode_terms, fit_relative, prefill_terms
from calibration.observed import Observations, joined
from calibration.profile import Profile, Provenance

TRUE = np.array([0.02, 1e-3, 1e-7, 0.02, 0.004, 2e-6])


def session(rng, name, *, true=TRUE, spread=0.02, own=0.01, noise=0.03, batches=True, repeats=2):
    """Return a session: its machine is slower by a common factor, each coefficient a little apart, cells noisy."""
    of_session = true * np.exp(spread * rng.standard_normal()) * np.exp(own * rng.standard_normal(6))
    rows = []
    for _ in range(repeats):
        for P in (32, 128, 512, 2048):
            rows.append([1, P, P**2, 0, 0, 0])
            for out in (16, 64):
                n, context = decode_terms([P], [out])[0]
                rows.append([0, 0, 0, n, n, context])
                if batches:
                    rows += [[0, 0, 0, n, B * n, B * context] for B in (2, 4)]
    terms = np.array(rows, dtype=float)
    heavy = rng.standard_t(5, len(terms)) * noise  # a busy machine's tails
    return Observations(terms=terms, values=terms @ of_session * np.exp(heavy), session=np.full(len(terms), name))


def sessions(rng, n, prefix="s", **options):
    """Return n sessions together."""
    return joined([session(rng, f"{prefix}{i}", **options) for i in range(n)])


def profile_of(observed, *, keep_sessions=True):
    """Return the profile that these sessions give, as the fit of recordings makes it."""
    prefill, decode = observed.is_prefill, ~observed.is_prefill
    columns = [3, 4, 5] if observed.batched else [3, 5]
    first = fit_relative(observed.terms[prefill][:, :3], observed.values[prefill])
    rest = fit_relative(observed.terms[decode][:, columns], observed.values[decode])
    base, per_context_token = rest.coefficients[0], rest.coefficients[-1]
    profile = Profile(
        name="bench/m/q", device="bench", model="m", quantization="q", runtime="r", power_mode="p",
        provenance=Provenance(latency="measured", energy=None), energy_scope=None, context_tokens=4096,
        seconds=Costs(
            prefill=tuple(first.coefficients.tolist()), base=float(base),
            per_sequence=float(rest.coefficients[1]) if observed.batched else None,
            per_context_token=float(per_context_token),
        ),
        knee_tokens=0, prefill_j=None, decode_j=None, idle_w=None,
        residuals_prefill=tuple(first.noise.tolist()), residuals_decode=tuple(rest.noise.tolist()),
        evidence={
            "prefill_s": {"covariance": _plain(first.covariance), "scale": first.scale, "terms": ["1", "P", "P²"]},
            "decode_s": {"covariance": _plain(rest.covariance), "scale": rest.scale, "terms": ["iterations"]},
        },
    )  # fmt: skip
    if not keep_sessions:
        return profile
    return replace(profile, evidence={**profile.evidence, "sessions": session_evidence(profile, observed)})


def _plain(covariance):
    return [[None if np.isnan(c) else c for c in row] for row in covariance.tolist()]


assert prefill_terms([3]).tolist() == [[1.0, 3.0, 9.0]]  # the same terms as above
