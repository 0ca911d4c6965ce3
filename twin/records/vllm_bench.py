"""Results of vLLM's `bench serve`, read as the tables of a run of one expert.

The fields are those of `--save-result --save-detailed`; `start_times` came with later versions, and without them the
arrivals are not known. A file of `--append-result` holds one result per line: each is a replication.
"""

import json
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.records.tables import Tables, joined

_MOST_TOKENS = 2**53  # beyond it a number is no count
_DETAILS = ("input_lens", "output_lens", "ttfts", "itls", "errors")


def read_vllm_bench(path: Path, *, expert: str, device: str) -> Tables:
    """Return the results as tables: a request is a leg on `expert`; what a client cannot know is null.

    TTFT and inter-token latencies are the client's, so that the instants contain the network between it and the
    server. A failed request has the error as its reason and no output length. Raises ValueError naming the file, the
    field and the option of vLLM that writes it.
    """
    results = _results(path)
    return joined([_tables(path, result, i, expert, device) for i, result in enumerate(results)])


def _results(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read as a result of `vllm bench serve` ({why})") from None
    try:
        found = [json.loads(text)]
    except ValueError:
        found = [_line(path, i, line) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not found or not all(isinstance(result, dict) for result in found):
        raise ValueError(f"{path}: is no result of `vllm bench serve`, which is a JSON object or one on each line")
    return found


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error})") from None


def _tables(path: Path, result: dict[str, Any], replication: int, expert: str, device: str) -> Tables:
    columns = _columns(path, result)
    common, first_token_s = _both(columns, replication)
    order = np.argsort(common["arrived_s"].to_numpy(), kind="stable")
    requests, legs = _requests(common), _legs(common, columns, first_token_s, expert, device)
    return Tables(
        requests=requests.iloc[order].reset_index(drop=True),
        legs=legs.iloc[order].reset_index(drop=True),
        devices=_devices(replication, device),
    )


def _both(columns: dict[str, list[Any]], replication: int) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Return what a request and its only leg have in common, and when their first tokens came."""
    n = len(columns["input_lens"])
    served = np.array([not error for error in columns["errors"]])
    starts_s = np.array(columns["start_times"], dtype=np.float64)
    arrived_s = starts_s - starts_s.min()
    ttft_s = np.where(served, np.array(columns["ttfts"], dtype=np.float64), nan)
    decode_s = np.array([sum(gaps) for gaps in columns["itls"]], dtype=np.float64)
    first_token_s = arrived_s + ttft_s
    common = {
        "replication": np.full(n, replication, dtype=np.int64),
        "request_id": np.arange(n, dtype=np.int64),
        "arrived_s": arrived_s,
        "finished_s": first_token_s + decode_s,
        "energy_j": np.full(n, nan),
        "status": np.where(served, "served", "failed").astype(object),
    }
    return pd.DataFrame(common), first_token_s


def _requests(common: pd.DataFrame) -> pd.DataFrame:
    n = len(common)
    unknown = pd.arrays.IntegerArray(np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.bool_))
    return common.assign(
        user_id=unknown,
        question_id=unknown,
        category="vllm-bench",
        n_legs=1,
        answer=None,
        correct=pd.arrays.BooleanArray(np.zeros(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)),
    )


def _legs(
    common: pd.DataFrame, columns: dict[str, list[Any]], first_token_s: NDArray[np.float64], expert: str, device: str
) -> pd.DataFrame:
    return common.assign(
        expert=expert,
        device=device,
        weight=1.0,
        started_s=nan,  # a client does not see when its request left the queue
        first_token_s=first_token_s,
        prompt_tokens=np.array(columns["input_lens"], dtype=np.int64),
        output_tokens=np.array(columns["output_lens"], dtype=np.int64),
        attempt=1,
        reason=np.array([_last_line(error) for error in columns["errors"]], dtype=object),
    )


def _columns(path: Path, result: dict[str, Any]) -> dict[str, list[Any]]:
    for name in (*_DETAILS, "start_times"):
        if not isinstance(result.get(name), list):
            how = "arrivals are not known without it; save with a newer vLLM" if name == "start_times" else ""
            raise ValueError(
                f"{path}: no list {name!r}; {how or 'run `vllm bench serve` with --save-result --save-detailed'}"
            )
    columns = {name: result[name] for name in (*_DETAILS, "start_times")}
    n = len(columns["input_lens"])
    if not n:
        raise ValueError(f"{path}: the result holds no request")
    for name, values in columns.items():
        if len(values) != n:
            raise ValueError(f"{path}: {name} has {len(values)} entries beside {n} input_lens")
    for i in range(n):
        _check_request(path, {name: values[i] for name, values in columns.items()}, i)
    return columns


def _check_request(path: Path, found: dict[str, Any], i: int) -> None:
    tokens = {"input_lens": 1, "output_lens": 0 if found["errors"] else 1}
    for name, least in tokens.items():
        count = found[name]
        if isinstance(count, bool) or not isinstance(count, int) or not least <= count < _MOST_TOKENS:
            raise ValueError(f"{path}: {name}[{i}]: found {count!r}, must be an integer of at least {least}")
    gaps = found["itls"] if isinstance(found["itls"], list) else [None]
    for name, values in (("start_times", [found["start_times"]]), ("ttfts", [found["ttfts"]]), ("itls", gaps)):
        if not all(_is_seconds(value) for value in values):
            raise ValueError(f"{path}: {name}[{i}]: found {found[name]!r}, must be seconds of at least 0")


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value >= 0


def _last_line(error: Any) -> str | None:
    lines = str(error or "").strip().splitlines()
    return lines[-1][:200] if lines else None


def _devices(replication: int, device: str) -> pd.DataFrame:
    unknown = ("busy_s", "idle_s", "busy_energy_j", "idle_energy_j", "overhead_energy_j", "energy_j", "utilisation")
    return pd.DataFrame({"replication": [replication], "device": [device], **{name: [nan] for name in unknown}})
