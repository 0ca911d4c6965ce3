"""What a profile predicts, with its interval; beyond the lengths it saw only when asked, and then marked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.fit import decode_terms
from calibration.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Seconds with the ends of a 90 % interval (NaN where declined), each of shape (n,); `extrapolated` marks rows."""

    seconds: NDArray[np.float64]
    low_s: NDArray[np.float64]
    high_s: NDArray[np.float64]
    extrapolated: NDArray[np.bool_]


def predict_prefill(profile: Profile, prompt_tokens: ArrayLike, *, extrapolate: bool = False) -> Prediction:
    """Return prefill seconds of prompts; ValueError beyond the lengths fitted on, unless asked to extrapolate."""
    P = np.atleast_1d(np.asarray(prompt_tokens, dtype=np.float64))
    seconds = np.asarray(profile.seconds.prefill_of(P))
    return _prediction(profile, "prefill_s", seconds, {"prompt_tokens": P}, extrapolate=extrapolate)


def predict_decode(
    profile: Profile, prompt_tokens: ArrayLike, output_tokens: ArrayLike, *, extrapolate: bool = False
) -> Prediction:
    """Return decode seconds of lone sequences (after the first token); ValueError as in `predict_prefill`."""
    P, out = np.broadcast_arrays(np.atleast_1d(prompt_tokens), np.atleast_1d(output_tokens))
    base, per_sequence, per_context_token = profile.seconds.decode
    seconds = decode_terms(P, out) @ np.array([base + (per_sequence or 0.0), per_context_token])
    lengths = {"prompt_tokens": P.astype(np.float64), "output_tokens": out.astype(np.float64)}
    return _prediction(profile, "decode_s", seconds, lengths, extrapolate=extrapolate)


def is_beyond(profile: Profile, prompt_tokens: int, output_tokens: int) -> bool:
    """Return whether a request is longer or shorter than those that the profile was fitted on, or than its context."""
    asked = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    ranges = [profile.evidence.get(quantity, {}).get("ranges", {}) for quantity in ("prefill_s", "decode_s")]
    outside = any(not low <= asked.get(name, low) <= high for seen in ranges for name, (low, high) in seen.items())
    return outside or prompt_tokens + output_tokens > profile.context_tokens


def _prediction(
    profile: Profile,
    quantity: str,
    seconds: NDArray[np.float64],
    lengths: dict[str, NDArray[np.float64]],
    *,
    extrapolate: bool,
) -> Prediction:
    evidence = profile.evidence.get(quantity, {})
    beyond = np.zeros(seconds.shape, dtype=np.bool_)
    for name, values in lengths.items():
        low, high = evidence.get("ranges", {}).get(name, (0, np.inf))
        beyond |= (values < low) | (values > high)
        if beyond.any() and not extrapolate:
            raise ValueError(
                f"profile {profile.name}, {quantity}: {values[beyond][0]:g} {name} is beyond what it was fitted on, "
                f"{low} to {high}; record more, or ask for extrapolation"
            )
    half_width = evidence.get("interval", {}).get("half_width")
    width = np.nan if half_width is None else float(half_width)
    return Prediction(
        seconds=seconds, low_s=np.maximum(seconds * (1 - width), 0.0), high_s=seconds * (1 + width), extrapolated=beyond
    )
