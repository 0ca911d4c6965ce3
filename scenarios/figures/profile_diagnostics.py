"""A profile beside the cells it was fitted on: data, fit, 90 % band, residuals."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from calibration.prediction import Prediction, predict_decode, predict_prefill
from calibration.profile import Profile, file_name
from calibration.sessions import Sessions, cells_of
from scenarios.figures.style import BLUE, DOTS_PER_IN, ORANGE, house_style


def draw_diagnostics(profile: Profile, sessions: Sessions, folder: Path) -> Path:
    """Draw the diagnostics of a profile fitted on `sessions` as PNG in `folder`; returns the file."""
    requests = sessions.requests
    prefills = cells_of(requests, "ttft_s").dropna()
    decodes = cells_of(requests[requests["asked_output_tokens"] > 1], "decode_s").dropna()
    P, out = (decodes[f"asked_{key}_tokens"].to_numpy() for key in ("prompt", "output"))
    steps = out - 1
    curve = np.geomspace(prefills["asked_prompt_tokens"].min(), prefills["asked_prompt_tokens"].max(), 100)
    lone = predict_decode(profile, P, out)
    path = folder / file_name(profile.name).replace(".json", ".png")
    with house_style():
        canvas = Canvas(figsize=(8, 6), dpi=DOTS_PER_IN, layout="constrained", facecolor="white")
        FigureCanvasAgg(canvas)
        (top_left, top_right), (low_left, low_right) = canvas.subplots(2, 2, sharex="col")
        _curve(top_left, curve, predict_prefill(profile, curve, extrapolate=True))
        top_left.plot(prefills["asked_prompt_tokens"], prefills["ttft_s"], "o", ms=4, color=ORANGE, label="cells")
        order = np.argsort(P, kind="stable")
        _curve(top_right, P[order], lone, steps, order)
        top_right.plot(P, decodes["decode_s"] / steps, "o", ms=4, color=ORANGE)
        _residuals(low_left, prefills["asked_prompt_tokens"].to_numpy(), prefills["ttft_s"].to_numpy()
                   / np.asarray(profile.seconds.prefill_of(prefills["asked_prompt_tokens"])) - 1)  # fmt: skip
        _residuals(low_right, P, decodes["decode_s"].to_numpy() / lone.seconds - 1)
        top_left.set(title="Time to first token, s", xscale="log", yscale="log")
        from_nothing = len(P) > 0 and P.min() == 0  # llama-bench decodes without a prompt
        top_right.set(title="Decode, s per token", xscale="linear" if from_nothing else "log", yscale="log")
        top_left.legend()
        canvas.savefig(path, metadata={"Software": None})
    return path


def _curve(
    axes: Axes,
    x: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    found: Prediction,
    steps: "np.ndarray[tuple[int, ...], np.dtype[np.int64]] | float" = 1.0,
    order: "np.ndarray[tuple[int, ...], np.dtype[np.intp]] | slice" = slice(None),
) -> None:
    low, middle, high = ((values / steps)[order] for values in (found.low_s, found.seconds, found.high_s))
    axes.plot(x, middle, color=BLUE, label="fit")
    if np.isfinite(low).all():
        axes.fill_between(x, np.maximum(low, 0.05 * middle), high, color=BLUE, alpha=0.2, label="90 % interval")


def _residuals(
    axes: Axes,
    x: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]",
    residuals: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> None:
    axes.axhline(0.0, color=BLUE, lw=1)
    axes.plot(x, 100 * residuals, "o", ms=4, color=ORANGE)
    axes.set(xlabel="prompt tokens", ylabel="measured / fitted − 1, %")
