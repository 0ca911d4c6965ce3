"""Whether tables that were read can be those of a run: what every recorder and the twin keep to."""

import numpy as np
import pandas as pd
import pyarrow as pa

from twin.records.outcomes import STATUSES
from twin.records.tables import SCHEMAS, Tables

__all__ = ["check_table", "check_tables"]

_IN_ORDER = ("arrived_s", "started_s", "first_token_s", "finished_s")
_COUNTS = ("prompt_tokens", "output_tokens", "n_legs", "attempt")
_SLACK_S = 1e-6  # instants are sums: their last digits are no order


def check_tables(tables: Tables, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless the tables are valid and belong together."""
    for name in SCHEMAS:
        check_table(name, getattr(tables, name), f"{where}: {name}.parquet")
    keys = ["replication", "request_id"]
    known, asked = (pd.MultiIndex.from_frame(frame[keys]) for frame in (tables.requests, tables.legs))
    if not (found := asked.isin(known)).all():
        raise ValueError(f"{where}: legs.parquet has a leg of request {asked[~found][0][1]}, requests.parquet has none")
    devices = set(tables.devices["device"])
    if others := [device for device in tables.legs["device"].unique() if device not in devices]:
        raise ValueError(f"{where}: legs.parquet has legs on device {others[0]!r}, devices.parquet has none")


def check_table(name: str, frame: pd.DataFrame, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless a table's columns can be those of a run.

    Ids are known, numbers are numbers, instants finite, at least 0 and in their order, counts at least 0 and statuses
    of those that there are. What is missing is null.
    """
    if missing := [column for column in SCHEMAS[name] if column not in frame]:
        raise ValueError(f"{where}: no column {missing[0]!r}; the table needs {', '.join(SCHEMAS[name])}")
    for column in {"replication", "request_id", "device"} & set(frame):
        if frame[column].isna().any():
            raise ValueError(f"{where}: {column} of row {int(frame[column].isna().argmax())} is null")
    numbers = {
        column: _numbers(frame, column, where)
        for column, kind in SCHEMAS[name].items()
        if kind in {pa.int64(), pa.float64()}
    }
    for column in (column for column in (*_IN_ORDER, *_COUNTS) if column in numbers):
        wrong = np.isinf(numbers[column]) | (numbers[column] < 0)
        if wrong.any():
            found = numbers[column][wrong][0]
            raise ValueError(f"{where}: {column} = {found:g}: must be finite and at least 0, or null")
    if name == "requests" and np.isnan(numbers["arrived_s"]).any():
        raise ValueError(f"{where}: arrived_s of row {int(np.isnan(numbers['arrived_s']).argmax())} is null")
    _check_order(numbers, where)
    if "status" in frame and not (known := frame["status"].isin(STATUSES)).all():
        raise ValueError(f"{where}: status {frame['status'][~known].iloc[0]!r}: must be one of {', '.join(STATUSES)}")


def _numbers(frame: pd.DataFrame, column: str, where: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        return np.asarray(frame[column].to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        raise ValueError(f"{where}: column {column!r} holds {frame[column].dtype}, should be numbers") from None


def _check_order(numbers: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]], where: str) -> None:
    """Raise ValueError where an instant is before one that comes before it."""
    instants = [column for column in _IN_ORDER if column in numbers]
    for i, later in enumerate(instants):
        for earlier in instants[:i]:
            wrong = numbers[later] < numbers[earlier] - _SLACK_S
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"{where}: row {row}: {later} = {numbers[later][row]:g} is before {earlier} = "
                    f"{numbers[earlier][row]:g}"
                )
