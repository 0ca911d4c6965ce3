"""The costs of a server that fills its iterations with prompts and decoding sequences at once: one fit of everything.

To such a server (`chunked` in the twin: llama.cpp, vLLM) a prefill has no constant of its own. Every iteration costs
what it costs without prompts, so the first token of a lone prompt of P tokens comes after

    o + d·⌈P / M⌉ + b·P + c·P²

seconds, M tokens an iteration, d the constant of a decode iteration and o what client and server need around it. A free
constant would take part of what the tokens cost, and the twin, which has no use for it, would be too fast. Prompts
that were sent side by side tell what an iteration with prompts and decodes costs more than its parts, g for each token
of context.

The robust fit tells the terms apart; it is of what is typical, and on a machine that is now and then slow that is less
than the mean. A server's load is a sum of durations, so what the terms come to is brought to the sums measured, and g
is by sums alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bursts import BURSTS, bursts_of
from calibration.costs import Costs
from calibration.evidence import rounded
from calibration.fit import OUTLIER_SCALES, Fit, Floats, decode_terms, fit_relative, left_out
from calibration.profile import Profile
from calibration.sessions import Sessions, cells_of

__all__ = ["as_chunked"]

_TERMS = ("o", "d", "b", "c", "e", "f", "g")
_BATCH_TERMS = ("n_iterations", "n_sequences", "context_tokens", "seconds")
_EACH = np.eye(len(_TERMS))
_PREFILL = np.array([_EACH[0] + _EACH[1], _EACH[2], _EACH[3]])  # o + d, b, c
_DECODE = _EACH[[1, 4, 5]]  # d, e, f
_MIXED = _EACH[[6]]  # g


def as_chunked(profile: Profile, sessions: Sessions, token_budget: int) -> Profile:
    """Return the profile with the seconds of prefill and decode fitted as one, for iterations of `token_budget` tokens.

    Prefill (o + d, b, c) and decode (d, e, f) share the constant d; o, in seconds, is in the evidence. Where bursts
    of prompts were seen to decode meanwhile, g is fitted too. The noise stays that of the free fits; joules stay as
    they are, as those of a batch hold its mixed iterations. Raises ValueError without batches, which alone tell d
    from e.
    """
    if token_budget < 1:
        raise ValueError(f"token budget {token_budget}: an iteration takes at least 1 token")
    if sessions.batches.empty:
        raise ValueError(
            f"{sessions.source.file}: sequences were measured one at a time, which does not tell the cost of an "
            "iteration from that of a sequence in it; calibrate with several at once (--concurrency 1,2,4)"
        )
    terms, seconds, lengths = _rows(sessions, token_budget)
    fit = _fit(terms, seconds)
    prompts, decodes = _levels(fit, sessions, token_budget)
    levels = np.array([1.0, decodes, prompts, prompts, decodes, decodes, 1.0])  # of _TERMS
    coefficients, covariance = fit.coefficients * levels, fit.covariance * np.outer(levels, levels)
    mixed, error = _mixed(coefficients, *_bursts(sessions, token_budget), scale=fit.scale)
    coefficients[-1], covariance[-1], covariance[:, -1], covariance[-1, -1] = mixed, 0.0, 0.0, error**2
    residuals = seconds / (terms @ coefficients) - 1.0
    fit = replace(fit, coefficients=coefficients, covariance=covariance, residuals=residuals)
    errors, _ = left_out(terms[:, terms.any(axis=0)], seconds, lengths)
    evidence = dict(profile.evidence)
    for phase, combined in (("prefill", _PREFILL), ("decode", _DECODE)):
        evidence[f"{phase}_s"] = {**evidence[f"{phase}_s"], **_evidence(fit, combined, errors, _of_phase(terms, phase))}
    first, b, c = _coefficients(fit, _PREFILL)
    d, e, f = _coefficients(fit, _DECODE)
    (g,) = _coefficients(fit, _MIXED)
    if g > 0:
        evidence["mixed_s"] = _evidence(fit, _MIXED, errors, _of_phase(terms, "mixed"))
    evidence["chunked"] = {
        "token_budget": token_budget,
        "request_s": rounded(float(fit.coefficients[_TERMS.index("o")])),
        "form": "TTFT of a lone prompt = o + d ceil(P / token_budget) + b P + c P²; d is the decode's",
        "levels": {"prompts": rounded(prompts), "decodes": rounded(decodes)},
        "levels_are": "seconds measured over seconds of the robust fit, summed over all requests but outliers; what "
        "mixed iterations cost more is by such sums alone",
    }
    costs = Costs(prefill=(first, b, c), base=d, per_sequence=e, per_context_token=f, mixed_per_context_token=g)
    mixed_j = 0.0 if g > 0 and profile.decode_j is not None else None
    return replace(profile, seconds=costs, mixed_j=mixed_j, evidence=evidence)


def _fit(terms: Floats, seconds: Floats) -> Fit:
    """Return the fit of the terms that the rows have; the others, as g without mixed iterations, are 0."""
    has, p = np.asarray(terms.any(axis=0)), len(_TERMS)
    fit = fit_relative(terms[:, has], seconds)
    coefficients, covariance = np.zeros(p), np.full((p, p), np.nan)
    coefficients[has], covariance[np.ix_(has, has)] = fit.coefficients, fit.covariance
    return replace(fit, coefficients=coefficients, covariance=covariance)


def _rows(sessions: Sessions, token_budget: int) -> tuple[Floats, Floats, Floats]:
    """Return terms (n, 7), seconds (n,) and prompt lengths (n,) of lone prefills, lone decodes, batches and bursts.

    Where the server tells its own prompt time, the rest of the TTFT is a row of o. Batches and bursts have the
    length NaN.
    """
    alone = sessions.requests.assign(rest_s=sessions.requests["ttft_s"] - sessions.requests["server_prefill_s"])
    parts: list[tuple[Floats, Floats, Floats]] = []
    for column in ("ttft_s", "rest_s", "decode_s"):
        longer = alone[alone["asked_output_tokens"] > 1] if column == "decode_s" else alone
        cells = cells_of(longer.astype({column: float}), column).dropna()
        cells = cells[cells[column] > 0]
        P, seconds = (cells[key].to_numpy(dtype=np.float64) for key in ("asked_prompt_tokens", column))
        none, one = np.zeros_like(P), np.ones_like(P)
        if column == "decode_s":
            n, context = decode_terms(P, cells["asked_output_tokens"]).T
            columns = (none, n, none, none, n, context, none)
        elif column == "ttft_s":
            columns = (one, np.ceil(P / token_budget), P, P**2, none, none, none)
        else:
            columns = (one, none, none, none, none, none, none)
        parts.append((np.column_stack(columns), seconds, P))
    steps, B, C, together_s = (sessions.batches[key].to_numpy(dtype=np.float64) for key in _BATCH_TERMS)
    zero = np.zeros_like(steps)
    side_by_side = np.column_stack((zero, steps, zero, zero, B * steps, C * steps, zero))
    parts.append((side_by_side, together_s, np.full_like(steps, np.nan)))
    at_the_door, crowded_s = _bursts(sessions, token_budget)
    parts.append((at_the_door, crowded_s, np.full_like(crowded_s, np.nan)))
    rows = zip(*parts, strict=True)
    return np.concatenate(next(rows)), np.concatenate(next(rows)), np.concatenate(next(rows))


def _bursts(sessions: Sessions, token_budget: int) -> tuple[Floats, Floats]:
    """Return terms (n, 7) and seconds (n,) of prompts sent side by side, until the last of their first tokens."""
    P, n, mixed, decoded, context, seconds = bursts_of(sessions.requests)[BURSTS].to_numpy(dtype=np.float64).T
    iterations = np.ceil(P / token_budget) + mixed
    return np.column_stack((np.ones_like(P), iterations, n * P, n * P**2, decoded, context, context)), seconds


def _levels(fit: Fit, sessions: Sessions, token_budget: int) -> tuple[float, float]:
    """Return how many times as long as by the fit all lone prompts, and all decoding, took together.

    Requests that are outliers to the fit are left out; 1 where it says that none took any time.
    """
    o, d, b, c, e, f, _ = fit.coefficients
    alone, batches = sessions.requests[sessions.requests["concurrency"] == 1], sessions.batches
    P, out = (alone[f"asked_{key}_tokens"].to_numpy(dtype=np.float64) for key in ("prompt", "output"))
    n, context = decode_terms(P, out).T
    decoding = _sums(alone["decode_s"].to_numpy(), (d + e) * n + f * context, fit.scale)
    steps, B, C, together_s = (batches[key].to_numpy() for key in _BATCH_TERMS)
    together = _sums(together_s, steps * (d + e * B + f * C), fit.scale)
    decodes = _ratio(*(x + y for x, y in zip(decoding, together, strict=True)))
    around_s = o + decodes * d * np.ceil(P / token_budget)
    prompts = _sums(alone["ttft_s"].to_numpy(), around_s + b * P + c * P**2, fit.scale, less=around_s)
    return _ratio(*prompts), decodes


def _mixed(coefficients: Floats, terms: Floats, seconds: Floats, *, scale: float) -> tuple[float, float]:
    """Return g and its standard error: what bursts took beyond their parts for each token of context, summed.

    So it is whatever the robust fit says, which hardly tells it from a few short sessions. Bursts that are outliers
    to that fit are left out; where all are, and where there are none, g stays the fit's.
    """
    g, context = float(coefficients[-1]), terms[:, -1]
    parts_s = terms[:, :-1] @ coefficients[:-1]
    kept = (context > 0) & (np.abs(seconds / (parts_s + g * context) - 1.0) <= OUTLIER_SCALES * scale)
    if not kept.any():
        return g, 0.0
    beyond_s, total = (seconds - parts_s)[kept], context[kept].sum()
    found = max(float(beyond_s.sum() / total), 0.0)
    return found, float(np.linalg.norm(beyond_s - found * context[kept]) / total)  # bursts as independent


def _ratio(measured_s: float, fitted_s: float) -> float:
    return measured_s / fitted_s if measured_s > 0 and fitted_s > 0 else 1.0


def _sums(measured: Floats, fitted: Floats, scale: float, *, less: Floats | float = 0.0) -> tuple[float, float]:
    """Return the sums of what was measured and of what is fitted, both `less` something, outliers left out."""
    kept = (fitted > 0) & (np.abs(measured / np.where(fitted > 0, fitted, 1.0) - 1.0) <= OUTLIER_SCALES * scale)
    return float((measured - less)[kept].sum()), float((fitted - less)[kept].sum())


def _of_phase(terms: Floats, phase: str) -> NDArray[np.bool_]:
    """Return which rows are of a phase: with a prompt's tokens, with a sequence's, or "mixed" with both."""
    prompts, decodes = (terms[:, _TERMS.index(term)] > 0 for term in ("b", "e"))
    kinds = {"prefill": prompts & ~decodes, "decode": decodes & ~prompts, "mixed": prompts & decodes}
    return np.asarray(kinds[phase])


def _coefficients(fit: Fit, combined: Floats) -> Sequence[float]:
    return [float(f"{value:.6g}") for value in (combined @ fit.coefficients).tolist()]


def _evidence(fit: Fit, combined: Floats, errors: Floats, rows: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what the one fit says of a phase, in place of what the free one said."""
    known = errors[rows & np.isfinite(errors)]
    covariance = combined @ np.nan_to_num(fit.covariance) @ combined.T
    return {
        "covariance": [[rounded(value) for value in row] for row in covariance.tolist()],
        "scale": rounded(fit.scale),
        "median_abs_error": rounded(float(np.median(np.abs(fit.residuals[rows])))),
        "left_out": {
            "by": "prompt_tokens",
            "n": len(known),
            "median_abs_error": rounded(float(np.median(np.abs(known))) if len(known) else np.nan),
        },
        "fitted_as": "chunked",
    }
