"""Recorded sessions as columns: cells of good requests, windows of energy, idle power, and every row refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.recordings import Source
from calibration.session.store import Store

MOST_DRIFT = 0.03
"""Idle power that changed by more than this over a session makes its joules worthless."""
_LEAST_GROWTH = 1.15
_LEAST_SPAN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions of one model on one device: `requests` good ones with ttft_s and decode_s, `windows`, `idle_w`.

    `refused` has one entry per reason, with how many rows it cost.
    """

    source: Source
    manifest: dict[str, Any]
    requests: pd.DataFrame
    windows: pd.DataFrame
    idle_w: float | None
    refused: tuple[dict[str, Any], ...]


def read_sessions(folders: Sequence[Path]) -> Sessions:
    """Return recordings of the same model on the same device as one.

    Raises ValueError when they differ, when idle power drifted, when nothing is good, or when the time to the first
    token does not grow with the prompt, as with a cache.
    """
    stores = [Store(folder=folder) for folder in folders]
    manifests = [store.manifest() for store in stores]
    for key in ("model", "device"):
        if len({str(m.get(key)) for m in manifests}) > 1:
            raise ValueError(f"{', '.join(map(str, folders))}: recordings of different {key}; fit them one by one")
    frame = pd.concat([store.read() for store in stores], ignore_index=True)
    asked = frame[frame["kind"] == "request"]
    good = asked[asked["fault"] == ""].copy()
    good["ttft_s"] = good["first_token_s"] - good["sent_s"]
    good["decode_s"] = good["finished_s"] - good["first_token_s"]
    _check_growth(folders[0], good)
    windows, refused = _windows(frame)
    return Sessions(
        source=Source(file=folders[0].name, sha256=str(manifests[0].get("model_sha256") or "not told")),
        manifest=manifests[0],
        requests=good,
        windows=windows,
        idle_w=_idle_w(folders[0], frame),
        refused=(*_faults(asked), *refused),
    )


def _faults(asked: pd.DataFrame) -> list[dict[str, Any]]:
    bad = asked[asked["fault"] != ""]
    return [{"n": int(n), "reason": str(fault)} for fault, n in bad["fault"].value_counts().items()]


def _windows(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return windows that have an energy, with joules per request, and the reasons of those that have none."""
    windows = frame[frame["kind"] == "window"]
    good = windows["energy_j"].notna() & (windows["fault"] == "")
    reasons = windows[~good]["reason"].where(windows["reason"] != "", windows["fault"])
    kept = windows[good].copy()
    kept["request_j"] = kept["energy_j"] / kept["n_requests"]
    kept["request_s"] = (kept["finished_s"] - kept["sent_s"]) / kept["n_requests"]
    return kept, [{"n": int(n), "reason": str(reason)} for reason, n in reasons.value_counts().items()]


def _idle_w(folder: Path, frame: pd.DataFrame) -> float | None:
    idle = frame[(frame["kind"] == "idle") & frame["energy_j"].notna()]
    if idle.empty:
        return None
    watts = idle["energy_j"] / (idle["finished_s"] - idle["sent_s"])
    for _, of_session in watts.groupby(idle["session"]):
        drift = float(of_session.max() / of_session.min()) - 1 if of_session.min() > 0 else 0.0
        if drift > MOST_DRIFT:
            raise ValueError(
                f"{folder}: idle power drifted by {drift:.1%} between before and after, allowed is {MOST_DRIFT:.0%}; "
                "let the device settle and record again"
            )
    return float(watts.median())


def _check_growth(folder: Path, good: pd.DataFrame) -> None:
    alone = good[good["concurrency"] == 1]
    if alone.empty:
        raise ValueError(f"{folder}: no good request of a lone sequence to fit; see the faults in its rows")
    medians = alone.groupby("asked_prompt_tokens")["ttft_s"].median()
    spans = medians.index[-1] >= _LEAST_SPAN * medians.index[0]
    if spans and float(medians.iloc[-1]) < _LEAST_GROWTH * float(medians.iloc[0]):
        raise ValueError(
            f"{folder}: time to the first token is flat, {1000 * medians.iloc[0]:.3g} ms for {medians.index[0]} tokens "
            f"and {1000 * medians.iloc[-1]:.3g} ms for {medians.index[-1]}: prompts came from a cache; turn it off"
        )


def cells_of(requests: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the median of a column in every cell of lone sequences, with its lengths and session."""
    alone = requests[requests["concurrency"] == 1]
    keys = ["session", "block", "asked_prompt_tokens", "asked_output_tokens"]
    return pd.DataFrame(alone.groupby(keys)[column].median().reset_index())


def batches_of(requests: pd.DataFrame) -> pd.DataFrame:
    """Return what side-by-side requests say of decode iterations with all of them running.

    Columns: n_iterations, n_sequences, context_tokens (mean, summed over sequences), seconds. The span is from the
    last first token to the first finish, when no prompt is processed; iterations are chunks of it, scaled to tokens.
    """
    rows = []
    for _, batch in requests[requests["concurrency"] > 1].groupby(["session", "cell", "repeat"]):
        n = len(batch)
        begin_s, end_s = batch["first_token_s"].max(), batch["finished_s"].min()
        inside = [np.sum((np.asarray(chunks) > begin_s) & (np.asarray(chunks) <= end_s)) for chunks in batch["chunk_s"]]
        per_chunk = batch["output_tokens"].to_numpy() / np.array([len(chunks) for chunks in batch["chunk_s"]])
        iterations = float(np.mean(np.array(inside) * per_chunk))
        if n == int(batch["concurrency"].iloc[0]) and iterations >= 4:
            before = [np.sum(np.asarray(chunks) <= begin_s) for chunks in batch["chunk_s"]]
            context = float(np.sum(batch["prompt_tokens"] + np.array(before) * per_chunk)) + n * iterations / 2
            rows.append((iterations, n, context, float(end_s - begin_s)))
    return pd.DataFrame(rows, columns=["n_iterations", "n_sequences", "context_tokens", "seconds"])
