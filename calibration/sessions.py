"""Recorded sessions as columns: cells of good requests, joules of windows, idle power, and every row refused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from calibration.attempts import absences, disturbances, ends, faults, missing, once
from calibration.meters.corrections import Correction
from calibration.recordings import Source
from calibration.session.store import Store

MOST_DRIFT = 0.03
"""Idle power that changed by more than this between the loaded device before and after makes a session worthless."""
_LEAST_GROWTH = 1.2
_LEAST_SPAN = 8
LEAST_STEPS = 4
"""Decode iterations per sequence of a batch below which its window is more of a crowd at the door than of a batch."""
BATCHES = ["n_iterations", "n_sequences", "context_tokens", "seconds"]
JOULES = ["session", "asked_prompt_tokens", "asked_output_tokens", "n_sequences", "joules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions of one model on one device.

    `requests` are good ones with ttft_s and decode_s, `batches` what is known of decode iterations side by side, with
    the columns BATCHES. `prefill_j` and `decode_j` are frames with the columns JOULES: of one prompt, and of the
    decoding of all sequences side by side after their first tokens. `idle_w` is of the loaded device. `refused` has
    one entry per reason, with how many rows it cost; `missing` names cells that were planned and not measured;
    `record` is what else belongs into the evidence.
    """

    source: Source
    manifest: dict[str, Any]
    requests: pd.DataFrame
    batches: pd.DataFrame
    prefill_j: pd.DataFrame
    decode_j: pd.DataFrame
    idle_w: float | None
    refused: tuple[dict[str, Any], ...]
    missing: tuple[str, ...] = ()
    correction: Correction | None = None
    record: dict[str, Any] | None = None


def lone_requests(
    *,
    session: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    ttft_s: ArrayLike,
    tpot_s: ArrayLike,
) -> pd.DataFrame:
    """Return the table of requests that were sent one at a time, each a cell of its own; columns (n,), seconds.

    `tpot_s` leaves the first token out, so decoding took output_tokens - 1 of them.
    """
    output = np.asarray(output_tokens)
    return pd.DataFrame(
        {
            "session": session,
            "cell": np.arange(len(output)).astype(str),
            "block": 0,
            "repeat": 0,
            "concurrency": 1,
            "asked_prompt_tokens": prompt_tokens,
            "asked_output_tokens": output,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output,
            "ttft_s": ttft_s,
            "decode_s": np.asarray(tpot_s) * (output - 1),
            "server_prefill_s": None,
        }
    )


def no_batches() -> pd.DataFrame:
    """Return an empty frame of batches, of a recording of lone sequences."""
    return pd.DataFrame(columns=BATCHES)


def no_joules() -> pd.DataFrame:
    """Return an empty frame of joules, of a recording without a meter."""
    return pd.DataFrame(columns=JOULES)


def read_sessions(folders: Sequence[Path]) -> Sessions:
    """Return recordings of the same model on the same device as one; a session whose idle power drifted is refused.

    Raises ValueError when they differ or when nothing is good.
    """
    stores = [Store(folder=folder) for folder in folders]
    manifests = [store.manifest() for store in stores]
    for key in ("model", "device"):
        if len({str(m.get(key)) for m in manifests}) > 1:
            raise ValueError(f"{', '.join(map(str, folders))}: recordings of different {key}; fit them one by one")
    frame = pd.concat([store.read().assign(recording=n) for n, store in enumerate(stores)], ignore_index=True)
    idle, drifted = _idle(frame)
    kept, superseded = once(frame[~frame["session"].isin(drifted)])
    asked = kept[kept["kind"] == "request"]
    good = asked[asked["fault"] == ""].copy()
    if not (good["concurrency"] == 1).any():
        why = "; ".join([*drifted.values(), *absences(faults(asked), missing(frame))])
        raise ValueError(f"{folders[0]}: no good request of a lone sequence to fit; {why}")
    good["ttft_s"] = good["first_token_s"] - good["sent_s"]
    good["decode_s"] = good["finished_s"] - good["first_token_s"]
    windows, refused = _windows(kept)
    prefill_j, decode_j, short = _joules(windows)
    corrections = {str(c["name"]): c for m in manifests if (c := m["meter"].get("correction"))}
    if len(corrections) > 1 or (corrections and not all(m["meter"].get("correction") for m in manifests)):
        raise ValueError(f"{folders[0]}: recordings with different corrections of their meter; fit them one by one")
    return Sessions(
        source=Source(file=folders[0].name, sha256=str(manifests[0].get("model_sha256") or "not told")),
        manifest=manifests[0],
        requests=good,
        batches=batches_of(good),
        prefill_j=prefill_j,
        decode_j=decode_j,
        idle_w=_loaded_idle_w(idle),
        refused=(*_drifts(frame, drifted), *faults(asked), *superseded, *refused, *short),
        missing=missing(frame),
        correction=next((Correction(**found) for found in corrections.values()), None),
        record={"idle": idle, "thermal_gates": _gates(kept), "ended": ends(frame), **disturbances(kept)},
    )


def check_growth(where: str, prompt_tokens: ArrayLike, seconds: ArrayLike) -> None:
    """Raise ValueError when the time to the first token does not grow with the prompt, as with a cache.

    It must grow by a fifth, at the least, with every eightfold prompt; recordings of a smaller span are not judged.
    The fastest of each length tell, as whatever disturbs a request makes it longer.
    """
    fastest = pd.Series(np.asarray(seconds)).groupby(np.asarray(prompt_tokens)).min()
    first, last, low, high = fastest.index[0], fastest.index[-1], float(fastest.iloc[0]), float(fastest.iloc[-1])
    if last < _LEAST_SPAN * first:
        return
    if high < low * _LEAST_GROWTH ** (math.log(last / first) / math.log(_LEAST_SPAN)):
        raise ValueError(
            f"{where}: time to the first token is flat, {1000 * low:.3g} ms for {first} tokens "
            f"and {1000 * high:.3g} ms for {last}: prompts came from a cache; turn it off "
            "(or, where all prompts are short, measure longer ones too)"
        )


def check_lengths(sessions: Sessions, least: int) -> None:
    """Raise ValueError, naming the faults and what is missing, for fewer prompt lengths than `least` terms need."""
    lone = sessions.requests[sessions.requests["concurrency"] == 1]
    n = lone["asked_prompt_tokens"].nunique()
    if n < least:
        why = "; ".join(absences(sessions.refused, sessions.missing))
        raise ValueError(
            f"{sessions.source.file}: good requests of {n} prompt lengths, a prefill needs {least} to tell its terms "
            f"apart{'; ' if why else ''}{why}"
        )


def _drifts(frame: pd.DataFrame, drifted: dict[str, str]) -> list[dict[str, Any]]:
    return [{"n": int((frame["session"] == session).sum()), "reason": why} for session, why in drifted.items()]


def _windows(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return windows that have an energy, with joules per request, and the reasons of those that have none."""
    windows = frame[frame["kind"] == "window"]
    good = windows["energy_j"].notna() & (windows["fault"] == "")
    reasons = windows[~good]["reason"].where(windows["reason"] != "", windows["fault"])
    kept = windows[good].copy()
    kept["request_j"] = kept["energy_j"] / kept["n_requests"]
    return kept, [{"n": int(n), "reason": str(reason)} for reason, n in reasons.value_counts().items()]


def _joules(windows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]]]:
    """Return joules of prefills, joules of decodes by difference to the prefills of their block, and what is refused.

    Of a batch, the prefills cost what lone ones do; its sequences then decode side by side.
    """
    single = windows[windows["asked_output_tokens"] == 1]
    prefills = single.assign(n_sequences=1, joules=single["request_j"])[JOULES]
    keys = ["recording", "block", "asked_prompt_tokens"]  # whatever session: a block may be finished by a later one
    longer = windows[windows["asked_output_tokens"] > 1].merge(
        single[[*keys, "request_j"]], on=keys, suffixes=("", "_1")
    )
    longer["n_sequences"] = longer["concurrency"]
    longer["joules"] = longer["n_sequences"] * (longer["request_j"] - longer["request_j_1"])
    alone = longer["n_sequences"] == 1
    short = ~alone & (longer["asked_output_tokens"] - 1 < LEAST_STEPS * longer["n_sequences"])
    negative = ~(longer["joules"] > 0)
    unpaired = int((windows["asked_output_tokens"] > 1).sum()) - len(longer)
    reasons = {
        "no window of one output token in the same block: its prefill cannot be taken off": unpaired,
        f"batch of fewer than {LEAST_STEPS} decode iterations for each of its sequences": int(short.sum()),
        "generation took no more joules than its prefill alone": int((negative & ~short).sum()),
    }
    return prefills, longer[~short & ~negative][JOULES], [{"n": n, "reason": why} for why, n in reasons.items() if n]


def _idle(frame: pd.DataFrame) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the idle watts of each session by when they were read, and why sessions are refused for their drift."""
    rows = frame[(frame["kind"] == "idle") & frame["energy_j"].notna()]
    rows = rows.assign(watts=rows["energy_j"] / (rows["finished_s"] - rows["sent_s"]))
    found, drifted = [], {}
    for session, of_session in rows.groupby("session"):
        whens = of_session["cell"].str.removeprefix("idle-")
        by_time = dict(zip(whens.to_list(), of_session["watts"].to_list(), strict=True))
        drift = None
        if "loaded" in by_time and "after" in by_time and by_time["loaded"] > 0:
            drift = by_time["after"] / by_time["loaded"] - 1
        found.append({f"{when}_w": by_time.get(when) for when in ("before", "loaded", "after")} | {"drift": drift})
        if drift is not None and abs(drift) > MOST_DRIFT:
            drifted[str(session)] = (
                f"idle power drifted by {drift:+.1%} between the loaded device before and after, allowed is "
                f"{MOST_DRIFT:.0%}; let the device settle and record again"
            )
    return found, drifted


def _loaded_idle_w(idle: Sequence[dict[str, Any]]) -> float | None:
    """Return the median idle power of the loaded device over sessions that did not drift; both readings weigh alike."""
    used = [row for row in idle if row["drift"] is None or abs(row["drift"]) <= MOST_DRIFT]
    watts = [row[key] for row in used for key in ("loaded_w", "after_w") if row[key] is not None]
    return float(np.median(watts)) if watts else None


def _gates(frame: pd.DataFrame) -> list[dict[str, Any]]:
    gates = frame[frame["kind"] == "gate"].sort_values("block")
    return [
        {
            "block": int(row["block"]),
            "gate": str(row["reason"]),
            **{key: None if pd.isna(row[key]) else float(row[key]) for key in ("temperature_c", "slope_c_per_s")},
        }
        for row in gates.to_dict("records")
    ]


def cells_of(requests: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the median of a column in every cell of lone sequences, with its lengths and session."""
    alone = requests[requests["concurrency"] == 1]
    keys = ["session", "block", "asked_prompt_tokens", "asked_output_tokens"]
    return pd.DataFrame(alone.groupby(keys)[column].median().reset_index())


def batches_of(requests: pd.DataFrame) -> pd.DataFrame:
    """Return what side-by-side requests say of decode iterations with all of them running.

    Columns: BATCHES, context_tokens the mean, summed over sequences. The span is from the
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
    return pd.DataFrame(rows, columns=BATCHES)
