"""Profiles as they might truly be: coefficients drawn from what a profile's evidence says of their error.

Measured and composed coefficients are drawn from the normal distribution of the fit's covariance, cut at 0. A scaled
profile is multiplied by a factor whose logarithm has the root mean square of the measured transfer errors. Assumed
watts are drawn evenly from their stated range. Evidence that says nothing leaves the coefficients as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import exp, sqrt
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from calibration.costs import Costs, Decode, Prefill
from calibration.profile import Profile

PHASES = ("prefill", "decode")


def is_uncertain(profile: Profile) -> bool:
    """Tell whether the profile's evidence states an error that can be drawn from."""
    evidence = profile.evidence
    fitted = any("covariance" in evidence.get(f"{phase}_{unit}", {}) for phase in PHASES for unit in "sj")
    watts = profile.provenance.energy == "assumed" and any(f"{p}_w" in evidence.get("energy", {}) for p in PHASES)
    return bool(evidence.get("transfer_errors")) or fitted or watts


def drawn(profile: Profile, *, seed: int) -> Profile:
    """Return the profile with its coefficients drawn; the same seed gives the same draw.

    Profiles scaled from the same one share the draw of its assumed watts: they stand for the same card.
    """
    seconds, second_factors = _drawn_seconds(profile, seed)
    prefill_j, decode_j, mixed_j = _drawn_joules(profile, second_factors, seed)
    return replace(profile, seconds=seconds, prefill_j=prefill_j, decode_j=decode_j, mixed_j=mixed_j)


def _drawn_seconds(profile: Profile, seed: int) -> tuple[Costs, tuple[float, float]]:
    """Return the drawn costs, and by how much each phase as a whole was stretched (1 where terms moved apart)."""
    costs, evidence = profile.seconds, profile.evidence
    if profile.provenance.latency == "scaled":
        p, d = (_transfer_factor(evidence, f"{phase}_s", profile.name, seed) for phase in PHASES)
        return _stretched(costs, p, d), (p, d)
    prefill = _from_covariance(costs.prefill, evidence.get("prefill_s", {}), f"{profile.name} prefill_s", seed)
    decode = _decode_from_covariance(costs.decode, evidence.get("decode_s", {}), f"{profile.name} decode_s", seed)
    base, per_sequence, per_context_token = decode
    mixed = (costs.mixed_per_context_token,)
    (mixed_per_context_token,) = _from_covariance(mixed, evidence.get("mixed_s", {}), f"{profile.name} mixed_s", seed)
    new = replace(
        costs,
        prefill=cast("Prefill", prefill),
        base=base,
        per_sequence=per_sequence,
        per_context_token=per_context_token,
        mixed_per_context_token=mixed_per_context_token,
    )
    return new, (1.0, 1.0)


def _drawn_joules(
    profile: Profile, second_factors: tuple[float, float], seed: int
) -> tuple[Prefill | None, Decode | None, float | None]:
    if profile.prefill_j is None or profile.decode_j is None:
        return profile.prefill_j, profile.decode_j, profile.mixed_j
    evidence, origin = profile.evidence, profile.provenance.energy
    if origin == "measured":
        prefill = _from_covariance(profile.prefill_j, evidence.get("prefill_j", {}), f"{profile.name} prefill_j", seed)
        decode = _decode_from_covariance(
            profile.decode_j, evidence.get("decode_j", {}), f"{profile.name} decode_j", seed
        )
        return cast("Prefill", prefill), decode, profile.mixed_j
    if origin == "assumed":  # power times time: longer is dearer
        p, d = (f * _watt_factor(profile, phase, seed) for f, phase in zip(second_factors, PHASES, strict=True))
    else:
        p, d = (_transfer_factor(evidence, f"{phase}_j", profile.name, seed) for phase in PHASES)
    base, per_sequence, per_context_token = profile.decode_j
    scaled_prefill = tuple(p * c for c in profile.prefill_j)
    scaled_decode = (d * base, None if per_sequence is None else d * per_sequence, d * per_context_token)
    return cast("Prefill", scaled_prefill), scaled_decode, None if profile.mixed_j is None else d * profile.mixed_j


def _stretched(costs: Costs, prefill: float, decode: float) -> Costs:
    a, b, c = costs.prefill
    return replace(
        costs,
        prefill=(prefill * a, prefill * b, prefill * c),
        base=decode * costs.base,
        per_sequence=None if costs.per_sequence is None else decode * costs.per_sequence,
        per_context_token=decode * costs.per_context_token,
        mixed_per_context_token=decode * costs.mixed_per_context_token,
    )


def _transfer_factor(evidence: Mapping[str, Any], quantity: str, name: str, seed: int) -> float:
    found = [row[quantity] for row in evidence.get("transfer_errors", []) if row.get(quantity) is not None]
    if not found:
        return 1.0
    spread = sqrt(sum(error**2 for error in found) / len(found))
    return exp(spread * _random(seed, name, quantity).standard_normal())


def _watt_factor(profile: Profile, phase: str, seed: int) -> float:
    stated = profile.evidence.get("energy", {}).get(f"{phase}_w")
    if stated is None:
        return 1.0
    card = str(profile.evidence.get("scaled_from", profile.name))
    return float(_random(seed, card, "watts").uniform(stated["low"], stated["high"])) / float(stated["value"])


def _decode_from_covariance(decode: Decode, fit: Mapping[str, Any], key: str, seed: int) -> Decode:
    base, per_sequence, per_context_token = decode
    if per_sequence is None:
        base, per_context_token = _from_covariance((base, per_context_token), fit, key, seed)
        return base, None, per_context_token
    base, per_sequence, per_context_token = _from_covariance((base, per_sequence, per_context_token), fit, key, seed)
    return base, per_sequence, per_context_token


def _from_covariance(coefficients: Sequence[float], fit: Mapping[str, Any], key: str, seed: int) -> tuple[float, ...]:
    """Return the coefficients drawn from their covariance, cut at 0; a term without a variance stays."""
    if "covariance" not in fit:
        return tuple(coefficients)
    n = len(coefficients)
    found = np.array([[np.nan if c is None else c for c in row] for row in fit["covariance"]], dtype=float)[:n, :n]
    covariance: NDArray[np.float64] = np.nan_to_num(found, nan=0.0)
    moved = _random(seed, key, "fit").multivariate_normal(coefficients, covariance, method="eigh")
    return tuple(float(c) for c in np.maximum(moved, 0.0))


def _random(seed: int, *key: str) -> np.random.Generator:
    digest = blake2b("|".join(key).encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])
