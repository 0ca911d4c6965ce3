"""The three tables that a run leaves behind, in memory and as Parquet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas.api.types import union_categoricals

from twin.gateway.routing import fused_answers
from twin.protocols import Router
from twin.radio.tables import RADIO_SCHEMAS, radio_columns
from twin.records.outcomes import SERVED, STATUSES, LegOutcomes
from twin.users.prompts import PromptPool
from twin.world import Run

_LETTERS = tuple(chr(ord("A") + i) for i in range(26))
_TEXT, _INTEGER, _NUMBER, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

SCHEMAS = {
    "requests": {
        "replication": _INTEGER,
        "request_id": None,  # integer or text, as the load has it
        "user_id": _INTEGER,
        "question_id": _INTEGER,
        "category": _TEXT,
        "arrived_s": _NUMBER,
        "finished_s": _NUMBER,
        "n_legs": _INTEGER,
        "answer": _TEXT,
        "correct": _FLAG,
        "energy_j": _NUMBER,
        "status": _TEXT,
    },
    "legs": {
        "replication": _INTEGER,
        "request_id": None,
        "expert": _TEXT,
        "device": _TEXT,
        "weight": _NUMBER,
        "arrived_s": _NUMBER,
        "started_s": _NUMBER,
        "first_token_s": _NUMBER,
        "finished_s": _NUMBER,
        "prompt_tokens": _INTEGER,
        "output_tokens": _INTEGER,
        "energy_j": _NUMBER,
        "status": _TEXT,
        "attempt": _INTEGER,
        "reason": _TEXT,
    },
    "devices": {
        "replication": _INTEGER,
        "device": _TEXT,
        "busy_s": _NUMBER,
        "idle_s": _NUMBER,
        "busy_energy_j": _NUMBER,
        "idle_energy_j": _NUMBER,
        "overhead_energy_j": _NUMBER,
        "energy_j": _NUMBER,
        "utilisation": _NUMBER,
    },
}
"""Columns of each table and what they hold; what is missing is null."""

_COLUMNS = {**SCHEMAS, **RADIO_SCHEMAS}

_REPEATED = ("replication", "question_id", "n_legs", "prompt_tokens", "output_tokens", "attempt", "weight")
"""Numbers of which few are distinct: worth a dictionary, as every text is. Instants and joules are not."""

_PIECE = 2**18
"""Rows that are converted and written at a time."""

_WRITERS = 2  # threads: the machines this is built for have two cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The records of one run, or of several told apart by `replication`; the last two only with a radio."""

    requests: pd.DataFrame
    legs: pd.DataFrame
    devices: pd.DataFrame
    handovers: pd.DataFrame | None = None
    cells: pd.DataFrame | None = None

    def named(self) -> dict[str, pd.DataFrame]:
        """Return the tables that there are, by name."""
        found = {name: getattr(self, name) for name in _COLUMNS}
        return {name: frame for name, frame in found.items() if frame is not None}


def tabulate(run: Run, *, replication: int = 0, pool: PromptPool | None = None, router: Router | None = None) -> Tables:
    """Return the tables of a run; the pool gives question ids, the router fuses the answers of served requests.

    Without them, and for requests with no prompt or not served, question, answer and correctness are null. Words of
    which few are distinct (expert, device, category, answer, status, reason) are columns of `pandas.Categorical`.
    """
    radio = {} if run.radio is None else radio_columns(run.radio)
    return Tables(
        requests=_frame(_requests(run, pool, router), replication),
        legs=_frame(_legs(run), replication),
        devices=_frame(_devices(run), replication),
        **{name: _frame(columns, replication) for name, columns in radio.items()},
    )


def joined(tables: Sequence[Tables]) -> Tables:
    """Return the tables of several replications as one set."""
    if len(tables) == 1:
        return tables[0]
    parts = [t.named() for t in tables]
    return Tables(**{name: _stacked([part[name] for part in parts]) for name in parts[0]})


def write_tables(tables: Tables, folder: Path) -> None:
    """Write requests.parquet, legs.parquet and devices.parquet, and those of a radio; equal tables give equal bytes."""
    with being_written(tables, folder):
        pass


@contextmanager
def being_written(tables: Tables, folder: Path) -> Iterator[None]:
    """Write the tables as `write_tables` does while this block lasts, each by a thread; they are whole after it."""
    with ThreadPoolExecutor(_WRITERS) as writers:
        written = [
            # pandas keeps what it finds of a table in the table: each thread has one of its own, of the same numbers
            writers.submit(_write, frame.copy(deep=False), _schema(name, frame), folder / f"{name}.parquet")
            for name, frame in sorted(tables.named().items(), key=lambda pair: -len(pair[1]))
        ]
        yield
        for one in written:
            one.result()


def read_tables(folder: Path) -> Tables:
    """Return the tables that `write_tables` wrote, types included; words come back as plain text."""
    paths = {name: folder / f"{name}.parquet" for name in _COLUMNS}
    return Tables(**{name: pd.read_parquet(path) for name, path in paths.items() if name in SCHEMAS or path.exists()})


def _schema(name: str, frame: pd.DataFrame) -> pa.Schema:
    ids = _INTEGER if "request_id" in frame and frame["request_id"].dtype == np.int64 else _TEXT
    return pa.schema([(column, kind or ids) for column, kind in _COLUMNS[name].items()])


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of the frames below each other; columns of categories take the categories of all."""
    words = set.intersection(*(set(frame.select_dtypes("category")) for frame in frames))
    stacked = pd.concat([frame.drop(columns=list(words)) for frame in frames], ignore_index=True)
    for place, column in enumerate(frames[0].columns):
        if column in words:
            stacked.insert(place, column, pd.Series(union_categoricals([frame[column] for frame in frames])))
    return stacked


def _write(frame: pd.DataFrame, schema: pa.Schema, path: Path) -> None:
    """Write a table piece by piece, so that it is not in memory twice; each column as suits it.

    Words go from their codes straight to the file's own dictionary. What the file says of itself is text: who reads
    it without `read_tables` meets no categories. Only words are compressed: what else repeats is short by its
    dictionary, and the digits of instants and joules are random.
    """
    words = [field.name for field in schema if field.type in (_TEXT, _FLAG)]
    repeated = [field.name for field in schema if field.type == _TEXT or field.name in _REPEATED]
    marks = pa.Schema.from_pandas(frame.iloc[:0].astype(dict.fromkeys(frame.select_dtypes("category"), object)))
    fields = [pa.field(f.name, _arrow(frame[f.name].iloc[:0], f.type).type) for f in schema]
    with pq.ParquetWriter(
        path,
        pa.schema(fields),
        compression={field.name: "zstd" if field.name in words else "none" for field in schema},
        use_dictionary=repeated,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.add_key_value_metadata(marks.metadata)  # by which pandas finds its own types again
        for start in range(0, max(len(frame), 1), _PIECE):
            piece = frame.iloc[start : start + _PIECE]
            writer.write_table(pa.table([_arrow(piece[f.name], f.type) for f in schema], schema=writer.schema))


def _arrow(column: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    """Return a column for Arrow, NaN and None as null; words as a dictionary."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return pa.Array.from_pandas(column, type=kind)
    codes = column.cat.codes.to_numpy()
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(column.cat.categories, type=kind))


def _frame(columns: dict[str, Any], replication: int) -> pd.DataFrame:
    """Return the columns as a table, not copied."""
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"replication": np.full(n, replication, dtype=np.int64), **columns}, copy=False)


def _requests(run: Run, pool: PromptPool | None, router: Router | None) -> dict[str, Any]:
    requests = run.requests
    answer, correct = _answers(run, run.status_code == SERVED, router)
    question_id: NDArray[np.int64] | None = None
    if pool is not None and len(pool):
        question_id = np.where(requests.prompt >= 0, pool.question_id[requests.prompt], -1)
    return {
        "request_id": requests.request_id,
        "user_id": _integers(requests.user_id, missing=requests.user_id < 0),
        "question_id": _integers(question_id, missing=requests.prompt < 0),
        "category": pd.Categorical(requests.category),
        "arrived_s": requests.arrived_s,
        "finished_s": run.finished_s,
        "n_legs": np.bincount(run.legs.request, minlength=len(requests)),
        "answer": answer,
        "correct": correct,
        "energy_j": np.bincount(run.legs.request, weights=run.outcomes.energy_j, minlength=len(requests)),
        "status": _words(run.status_code, STATUSES),
    }


def _answers(
    run: Run, served: NDArray[np.bool_], router: Router | None
) -> tuple[pd.Categorical, "pd.arrays.BooleanArray"]:
    """Return the letter and the correctness of each request (n,), null where they are not known."""
    n = len(run.requests)
    known = served & (run.requests.prompt >= 0)
    if router is None or not known.any():
        return _words(np.full(n, -1), _LETTERS), _unknown(n)
    option, correct = fused_answers(run.requests, run.legs, run.outcomes.status_code == SERVED, router)
    right = np.asarray(correct, dtype=np.bool_).copy()
    return _words(np.where(known, option, -1), _LETTERS), pd.arrays.BooleanArray(right, ~known)


def _legs(run: Run) -> dict[str, Any]:
    legs, outcomes = run.legs, run.outcomes
    devices = list(dict.fromkeys(expert.device for expert in run.experts))
    device_of = np.array([devices.index(expert.device) for expert in run.experts])
    return {
        "request_id": run.requests.request_id[legs.request],
        "expert": _words(legs.expert, [expert.name for expert in run.experts]),
        "device": _words(device_of[legs.expert], devices),
        "weight": legs.weight,
        "arrived_s": outcomes.arrived_s,
        "started_s": outcomes.started_s,
        "first_token_s": outcomes.first_token_s,
        "finished_s": outcomes.finished_s,
        "prompt_tokens": legs.prompt_tokens,
        "output_tokens": legs.output_tokens,
        "energy_j": outcomes.energy_j,
        "status": _words(outcomes.status_code, STATUSES),
        "attempt": run.attempt,
        "reason": _reasons(outcomes),
    }


def _devices(run: Run) -> dict[str, Any]:
    """Idle is what is left of the horizon; an energy that rests on an unknown cost is null."""
    return {
        "device": np.array(run.devices, dtype=object),
        "busy_s": run.busy_s,
        "idle_s": np.maximum(run.horizon_s - run.busy_s, 0.0),  # rounding may take it just below 0
        "busy_energy_j": run.busy_energy_j,
        "idle_energy_j": run.idle_energy_j,
        "overhead_energy_j": run.overhead_energy_j,
        "energy_j": run.busy_energy_j + run.idle_energy_j + run.overhead_energy_j,
        "utilisation": run.busy_s / run.horizon_s,
    }


def _words(codes: NDArray[np.integer], words: Iterable[str]) -> pd.Categorical:
    """Return the words that codes stand for, -1 for none."""
    kind = pd.CategoricalDtype(list(words))
    from_codes: Callable[..., pd.Categorical] = pd.Categorical.from_codes  # its stubs know neither arrays nor all names
    return from_codes(codes, dtype=kind, validate=False)


def _reasons(outcomes: LegOutcomes) -> pd.Categorical:
    words = sorted(set(outcomes.reasons.values()))
    code_of = {word: code for code, word in enumerate(words)}
    codes = np.full(len(outcomes.status_code), -1, dtype=np.int32)
    for row, why in outcomes.reasons.items():
        codes[row] = code_of[why]
    return _words(codes, words)


def _unknown(n: int) -> "pd.arrays.BooleanArray":
    return pd.arrays.BooleanArray(np.zeros(n, dtype=np.bool_), np.ones(n, dtype=np.bool_))


def _integers(values: NDArray[np.int64] | None, *, missing: NDArray[np.bool_]) -> "pd.arrays.IntegerArray":
    if values is None:
        return pd.arrays.IntegerArray(np.zeros(len(missing), dtype=np.int64), np.ones(len(missing), dtype=np.bool_))
    return pd.arrays.IntegerArray(values.astype(np.int64), missing)
