"""Public traces of production requests: arrivals and lengths, in seconds and tokens."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.profile import did_you_mean

Format = Literal["azure", "mooncake"]

_COLUMNS: dict[str, tuple[str, str, str]] = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "mooncake": ("timestamp_ms", "input_length", "output_length"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests as they were recorded, in the order of arrival, the first at 0 s; columns (n,)."""

    arrived_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def sped_up(self, rate_scale: float, duration_s: float) -> "Trace":
        """Return the trace with `rate_scale` times its rate, cut at `duration_s`."""
        if not 0 < rate_scale < np.inf:
            raise ValueError(f"trace: rate_scale is {rate_scale}, must be a finite number above 0")
        arrived_s = self.arrived_s / rate_scale
        n = int(np.searchsorted(arrived_s, duration_s))  # those before it
        return Trace(
            arrived_s=arrived_s[:n], prompt_tokens=self.prompt_tokens[:n], output_tokens=self.output_tokens[:n]
        )


def read_trace(path: Path, form: Format) -> Trace:
    """Return a trace in the CSV form of its publisher, gzipped or not; a request without output makes one token.

    `azure`: Azure LLM inference traces of 2023. `mooncake`: Mooncake's FAST'25 traces, as CSV with milliseconds.
    Raises ValueError naming the file, the column and what is allowed.
    """
    if form not in get_args(Format):
        raise ValueError(f"trace format {form!r}: must be one of {', '.join(get_args(Format))}")
    when, prompt, output = _COLUMNS[form]
    table = _read_columns(path, (when, prompt, output))
    arrived_s = _seconds(path, table[when], form)
    order = np.argsort(arrived_s, kind="stable")
    return Trace(
        arrived_s=(arrived_s - arrived_s.min())[order],
        prompt_tokens=_tokens(path, table[prompt], least=1)[order],
        output_tokens=np.maximum(_tokens(path, table[output], least=0), 1)[order],
    )


def _read_columns(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a trace ({error.strerror or error})") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: is not a CSV ({error})") from error
    for column in columns:
        if column not in table:
            near = did_you_mean(column, table.columns)
            raise ValueError(f"{path}: no column {column!r}; a trace of this format has {', '.join(columns)}{near}")
    if table.empty:
        raise ValueError(f"{path}: the load is empty: no row follows the header")
    return table


def _seconds(path: Path, column: "pd.Series[str]", form: Format) -> NDArray[np.float64]:
    if form == "azure":
        found = pd.to_datetime(column, errors="coerce", format="ISO8601")
        found_s = np.asarray((found - found.min()) / pd.Timedelta(seconds=1), dtype=np.float64)
    else:
        found_s = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64) / 1000
    _refuse(
        path, column, np.isfinite(found_s), "must be a date and time" if form == "azure" else "must be milliseconds"
    )
    return found_s


def _tokens(path: Path, column: "pd.Series[str]", *, least: int) -> NDArray[np.int64]:
    found = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    whole = (found >= least) & (found == np.floor(found)) & (found < 2**31)
    _refuse(path, column, whole, f"must be an integer of at least {least}")
    return found.astype(np.int64)


def _refuse(path: Path, column: "pd.Series[str]", good: NDArray[np.bool_], why: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"{path}, line {row + 2}, column {column.name!r}: found {column.iloc[row]!r}: {why}")
