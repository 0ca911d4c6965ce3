"""What a profile was fitted on beside what it says of it, as curves of a figure: data, fit, 90 % band, residuals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.composed import composed_prefills
from calibration.costs import Costs
from calibration.fit import Floats
from calibration.iterations import Iterations, Limits, iteration_coefficients, iteration_terms
from calibration.profile import Profile
from calibration.recordings import Decodes, Prefills
from calibration.sessions import Sessions, cells_of
from calibration.sources.vllm_kernels import read_kernel_tables
from calibration.visited import visited_iterations

_POINTS = 200  # of a curve
_MOST_CURVES = 4
_MOST_POINTS = 1500  # of an engine's iterations, drawn at random


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Measured values (n,) at `x`, what was fitted there, and the fit between (m,)."""

    label: str
    x: Floats
    measured: Floats
    fitted: Floats
    curve_x: Floats
    curve: Floats

    @property
    def residuals(self) -> Floats:
        """Measured / fitted - 1, shape (n,)."""
        return np.asarray(self.measured / self.fitted - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One quantity of a profile; `band` is the 90 % interval relative to the fit (low, high), None when declined."""

    title: str
    xlabel: str
    series: tuple[Series, ...]
    band: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A profile with the panels of its figure."""

    profile: Profile
    panels: tuple[Panel, ...]


def of_sessions(profile: Profile, sessions: Sessions) -> Fitted:
    """Return the panels of recorded sessions: medians of cells of lone sequences, and batches."""
    requests = sessions.requests
    prefills = cells_of(requests, "ttft_s").dropna()
    longer = requests[(requests["asked_output_tokens"] > 1) & (requests["decode_s"] > 0)]
    decodes = cells_of(longer, "decode_s").dropna()
    P, out, seconds = (_floats(decodes[key]) for key in ("asked_prompt_tokens", "asked_output_tokens", "decode_s"))
    alone = _lone(P, out, seconds)
    n, B, C, together = (
        _floats(sessions.batches[key]) for key in ("n_iterations", "n_sequences", "context_tokens", "seconds")
    )
    rows = [np.concatenate(pair) for pair in zip(alone, (B, C, together / n), strict=True)]
    prefill = _prefill(profile, _floats(prefills["asked_prompt_tokens"]), _floats(prefills["ttft_s"]))
    return Fitted(profile=profile, panels=(prefill, _decode(profile, *rows)))


def of_recordings(profile: Profile, prefills: Prefills, decodes: Decodes) -> Fitted:
    """Return the panels of a model's rows in a pair of recordings, one sequence at a time."""
    own = profile.evidence["recorded_as"]
    at = (prefills.device == own["device"]) & (prefills.model == own["model"])
    first = _prefill(profile, prefills.prompt_tokens[at].astype(np.float64), prefills.seconds[at])
    at = (decodes.device == own["device"]) & (decodes.model == own["model"])
    at &= (decodes.output_tokens > 1) & (decodes.seconds > 0)
    columns = (decodes.prompt_tokens, decodes.output_tokens, decodes.seconds)
    return Fitted(
        profile=profile,
        panels=(first, _decode(profile, *_lone(*(column[at].astype(np.float64) for column in columns)))),
    )


def of_kernels(
    profile: Profile, tables: tuple[Path, Path, Path], *, layers: int, limits: Limits, chunked: bool
) -> Fitted:
    """Return the panels of iterations composed of kernel tables, as the profile was fitted to them."""
    if chunked:
        visited = visited_iterations(*tables, layers=layers, limits=limits)
        return Fitted(profile=profile, panels=_of_iterations(profile, visited))
    B, C, seconds = read_kernel_tables(*tables).decodes(layers)
    kept = limits.allow(B, B, C)
    prompts = _prefill(profile, *composed_prefills(read_kernel_tables(*tables), layers))
    decodes = _decode(profile, B[kept], C[kept], seconds[kept])
    return Fitted(profile=profile, panels=(prompts, decodes))


def _prefill(profile: Profile, P: Floats, seconds: Floats) -> Panel:
    curve_x = _between(P)
    series = Series(
        label="",
        x=P,
        measured=seconds,
        fitted=np.asarray(profile.seconds.prefill_of(P), dtype=np.float64),
        curve_x=curve_x,
        curve=np.asarray(profile.seconds.prefill_of(curve_x), dtype=np.float64),
    )
    title = "First token of a lone prompt"
    return Panel(title=title, xlabel="prompt tokens", series=(series,), band=_band(profile, "prefill_s"))


def _decode(profile: Profile, B: Floats, C: Floats, seconds: Floats) -> Panel:
    """Return the panel of decode iterations: (n,) sequences, their summed context, seconds of one iteration."""
    costs = profile.seconds
    found = []
    for n in _spread(np.unique(np.round(B))):
        at = np.round(B) == n
        curve_x = _between(C[at])
        found.append(
            Series(
                label=f"{n:g} sequence{'s' if n > 1 else ''}",
                x=C[at],
                measured=seconds[at],
                fitted=_iteration_s(costs, B[at], C[at]),
                curve_x=curve_x,
                curve=_iteration_s(costs, np.full(len(curve_x), n), curve_x),
            )
        )
    xlabel = "context tokens, summed over sequences" if len(found) > 1 else "context tokens, mean over iterations"
    return Panel(title="One decode iteration", xlabel=xlabel, series=tuple(found), band=_band(profile, "decode_s"))


def _of_iterations(profile: Profile, iterations: Iterations) -> tuple[Panel, Panel]:
    """Return an engine's iterations against what the profile says of them: those with a prompt, and decodes alone."""
    fitted = iteration_terms(iterations, profile.knee_tokens) @ iteration_coefficients(profile.seconds)
    low, high = profile.evidence["iterations"]["misfit_interval_90"]
    prompts = iterations.chunk_tokens > 0
    panels = []
    for title, at in (("Iterations with prompts", prompts), ("Iterations of decodes alone", ~prompts)):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(at))[:_MOST_POINTS]
        curve = _between(fitted[rows])
        series = Series(
            label="", x=fitted[rows], measured=iterations.seconds[rows], fitted=fitted[rows], curve_x=curve, curve=curve
        )
        panels.append(Panel(title=title, xlabel="seconds by the fit", series=(series,), band=(low, high)))
    return panels[0], panels[1]


def _lone(P: Floats, out: Floats, seconds: Floats) -> tuple[Floats, Floats, Floats]:
    """Return sequences, mean context and seconds of an iteration of lone decodings of out - 1 iterations."""
    return np.ones_like(P), P + out / 2.0, seconds / (out - 1.0)


def _iteration_s(costs: Costs, B: Floats, C: Floats) -> Floats:
    """Return seconds of decode iterations; a cost that is unknown for batches is that of a lone sequence."""
    return np.asarray(costs.base + (costs.per_sequence or 0.0) * B + costs.per_context_token * C)


def _band(profile: Profile, quantity: str) -> tuple[float, float] | None:
    width = profile.evidence.get(quantity, {}).get("interval", {}).get("half_width")
    return None if width is None else (-float(width), float(width))


def _spread(values: Floats) -> list[float]:
    """Return at most four of the values, the ends among them, evenly along their order."""
    at = np.unique(np.round(np.linspace(0, len(values) - 1, min(len(values), _MOST_CURVES))).astype(int))
    return [float(value) for value in values[at]]


def _between(x: Floats) -> Floats:
    """Return points of a curve over the range of x, even in the logarithm where x is above 0."""
    if not len(x):
        return np.empty(0)
    low, high = float(x.min()), float(x.max())
    return _floats(np.geomspace(low, high, _POINTS) if low > 0 else np.linspace(low, high, _POINTS))


def _floats(column: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(column, dtype=np.float64)
