"""AIPerf's per-request records, `profile_export.jsonl`, both ways: epoch nanoseconds and milliseconds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.session.store import Store
from calibration.sessions import Sessions, batches_of, no_batches, no_joules
from calibration.sources.csv_table import source_of
from calibration.whole_file import write_whole

LOST = (
    "energy windows and idle power",
    "the server's own prompt and decode times and cached tokens",
    "what was asked for, where the answer had another length",
    "thermal gates, throttling and cells that are missing",
    "device, model, runtime, meter and plan",
)
"""What a recording holds and the records of AIPerf have no place for."""
_OWN = "moe2"
"""The worker of records that `write_aiperf` wrote: their ids carry session, cell and repeat."""
_FORMULAS = {"ttft_s": "metrics.time_to_first_token", "decode_s": "metrics.request_latency - time_to_first_token"}


def read_aiperf(path: Path, *, device: str, model: str) -> Sessions:
    """Return the records of an AIPerf run as a recorded session without energy.

    The records name neither device nor model. Requests that overlapped others are no lone sequences: they are kept
    with their concurrency and take no part in lone fits. Records that `write_aiperf` wrote come back in the sessions,
    cells and batches of the recording. Failed and cancelled ones are refused with their reason.
    """
    frame, refused = _told(path)
    foreign = frame["concurrency"].isna()
    overlaps = _overlaps(frame["sent_s"].to_numpy(), frame["finished_s"].to_numpy())
    frame["concurrency"] = np.where(foreign, overlaps, frame["concurrency"]).astype(int)
    if n := int((foreign & (frame["concurrency"] > 1)).sum()):
        refused += [_CROWD] * n
    return Sessions(
        source=source_of(path),
        manifest={"device": device, "model": model, **_UNTOLD},
        requests=frame,
        batches=batches_of(frame[~foreign]) if not foreign.all() else no_batches(),
        prefill_j=no_joules(),
        decode_j=no_joules(),
        idle_w=None,
        refused=tuple({"n": refused.count(reason), "reason": reason} for reason in dict.fromkeys(refused)),
    )


_CROWD = "ran beside others that came and went: no lone sequence, and no batch of a known size"
_UNTOLD = {
    "runtime_build": "not told by AIPerf's records",
    "runtime": {},
    "host": {},
    "meter": {"name": "none", "scope": None, "covers": "nothing"},
    "formulas": _FORMULAS,
}


def _told(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the requests served, and why each other record is left out; ValueError where none was served."""
    good: list[dict[str, Any]] = []
    bad: list[str] = []
    zero_ns: int | None = None  # epoch seconds would cost digits
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if fault := record.get("error") or _left_out(record["metadata"]):
                bad.append(str(fault["type"] if isinstance(fault, dict) else fault))
                continue
            zero_ns = int(record["metadata"]["request_start_ns"]) if zero_ns is None else zero_ns
            good.append(_row(number, record, zero_ns))
        except (ValueError, KeyError, TypeError) as error:
            why = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, line {number}: is no record of AIPerf's profile_export.jsonl ({why})") from error
    if not good and not bad:
        raise ValueError(f"{path}: holds no records; AIPerf writes one JSON object a line")
    if not good:
        raise ValueError(f"{path}: no record of a served request, {len(bad)} of failed ones")
    return pd.DataFrame(good), bad


def _left_out(metadata: Mapping[str, Any]) -> str:
    """Return why a record without an error is none of a served request of the profile, '' for none."""
    if metadata.get("was_cancelled"):
        return "cancelled"
    return "warm-up" if metadata.get("benchmark_phase") == "warmup" else ""


def write_aiperf(folder: Path, path: Path) -> int:
    """Write the requests of a recording as AIPerf's records; returns how many. Faults become records with an error.

    The recording's clock is monotonic: epoch times are its order, counted from the session's begin.
    """
    store = Store(folder=folder)
    frame = store.read()
    asked = frame[frame["kind"] == "request"].sort_values("sent_s")
    zero_ns = int(1e9 * float(store.manifest()["began_unix_s"])) - int(1e9 * float(asked["sent_s"].min()))
    lines = [json.dumps(_record(n, row, zero_ns), allow_nan=False) for n, row in enumerate(asked.to_dict("records"))]
    write_whole(path, ("\n".join(lines) + "\n").encode())
    return len(lines)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as AIPerf's profile_export.jsonl ({error})") from error


def _row(number: int, record: dict[str, Any], zero_ns: int) -> dict[str, Any]:
    """Return a request as recordings have it, in seconds from the first record."""
    metrics, metadata = record["metrics"], record["metadata"]
    prompt = int(metrics["input_sequence_length"]["value"])
    output = int(metrics["output_sequence_length"]["value"])
    sent_s = (int(metadata["request_start_ns"]) - zero_ns) / 1e9
    ttft_s = _seconds(metrics["time_to_first_token"])
    latency_s = _seconds(metrics["request_latency"])
    if prompt < 1 or output < 1 or not 0 < ttft_s <= latency_s < np.inf:
        raise ValueError(
            f"{prompt} and {output} tokens, first after {ttft_s:g} s, all after {latency_s:g} s: lengths must be at "
            "least 1, times above 0 and in that order"
        )
    return {
        **_place(number, metadata),
        "asked_prompt_tokens": prompt,
        "asked_output_tokens": output,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "sent_s": sent_s,
        "first_token_s": sent_s + ttft_s,
        "finished_s": sent_s + latency_s,
        "ttft_s": ttft_s,
        "decode_s": latency_s - ttft_s,
        "chunk_s": _chunks(sent_s + ttft_s, metrics.get("inter_chunk_latency")),
        "server_prefill_s": None,
    }


def _place(number: int, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return session, cell, block, repeat and concurrency: of the recording it was, else one of its own."""
    if metadata.get("worker_id") != _OWN:
        return {"session": "aiperf", "cell": str(number), "block": number, "repeat": 0, "concurrency": np.nan}
    session, block, concurrency, repeat = str(metadata["x_request_id"]).split("/")[:4]
    return {
        "session": session,
        "cell": str(metadata["conversation_id"]),
        "block": int(block),
        "repeat": int(repeat),
        "concurrency": int(concurrency),
    }


def _chunks(first_s: float, latencies: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Return the instants of chunks in seconds: the first, and where gaps are told, those after it."""
    gaps = [] if latencies is None else [_seconds({**latencies, "value": gap}) for gap in latencies["value"]]
    return tuple((first_s + np.concatenate([[0.0], np.cumsum(gaps)])).tolist())


def _seconds(metric: dict[str, Any]) -> float:
    units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
    if metric["unit"] not in units:
        raise ValueError(f"unit {metric['unit']!r}, must be one of {', '.join(units)}")
    return float(metric["value"]) * units[metric["unit"]]


def _record(number: int, row: Mapping[Any, Any], zero_ns: int) -> dict[str, Any]:
    metadata = {
        "session_num": number,
        "x_request_id": f"{row['session']}/{row['block']}/{row['concurrency']}/{row['repeat']}/{number}",
        "conversation_id": row["cell"],
        "turn_index": 0,
        "request_start_ns": zero_ns + round(1e9 * row["sent_s"]),
        "request_ack_ns": None,
        "request_end_ns": zero_ns + round(1e9 * (row["finished_s"] if row["finished_s"] > 0 else row["sent_s"])),
        "worker_id": _OWN,
        "record_processor_id": _OWN,
        "benchmark_phase": "profiling",
        "was_cancelled": False,
        "cancellation_time_ns": None,
    }
    if row["fault"]:
        error = {"code": None, "type": row["fault"].partition(":")[0], "message": row["fault"]}
        metrics = {"error_isl": {"value": int(row["asked_prompt_tokens"]), "unit": "tokens"}}
        return {"metadata": metadata, "metrics": metrics, "error": error}
    ttft_s, latency_s = row["first_token_s"] - row["sent_s"], row["finished_s"] - row["sent_s"]
    output = int(row["output_tokens"])
    metrics = {
        "input_sequence_length": {"value": int(row["prompt_tokens"]), "unit": "tokens"},
        "output_sequence_length": {"value": output, "unit": "tokens"},
        "output_token_count": {"value": output, "unit": "tokens"},
        "time_to_first_token": {"value": 1000 * ttft_s, "unit": "ms"},
        "request_latency": {"value": 1000 * latency_s, "unit": "ms"},
        "inter_chunk_latency": {"value": (1000 * np.diff(row["chunk_s"])).tolist(), "unit": "ms"},
    }
    if output > 1:
        metrics["inter_token_latency"] = {"value": 1000 * (latency_s - ttft_s) / (output - 1), "unit": "ms"}
    return {"metadata": metadata, "metrics": metrics, "error": None}


def _overlaps(sent_s: "np.ndarray[Any, Any]", finished_s: "np.ndarray[Any, Any]") -> list[int]:
    """Return how many requests each one ran beside at some moment, itself included."""
    return [int(np.sum((sent_s < end) & (finished_s > begin))) for begin, end in zip(sent_s, finished_s, strict=True)]
