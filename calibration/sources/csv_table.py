"""Strict reading of CSV tables, plain or gzipped: every cell is what its column promises, or one error says where."""

import csv
import difflib
import gzip
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite, nan
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from calibration.recordings import Source

Kind = Literal["text", "text or blank", "integer", "number", "number or blank"]
"""What a column holds; a blank number becomes NaN, never 0, a blank text stays empty."""

_MEANINGS: dict[Kind, str] = {
    "text": "text that is not empty",
    "text or blank": "text",
    "integer": "a whole number of at least 0",
    "number": "a finite number",
    "number or blank": "a finite number or nothing",
}
_DTYPES: dict[Kind, type] = {
    "text": str,
    "text or blank": str,
    "integer": np.int64,
    "number": np.float64,
    "number or blank": np.float64,
}


def read_header(path: Path) -> tuple[str, ...]:
    """Return the column names of a table; ValueError when there are none."""
    with _opened(path) as file:
        return tuple(next(csv.reader(file), ()))


def read_table(path: Path, columns: Mapping[str, Kind]) -> dict[str, NDArray[Any]]:
    """Return the named columns of a table as arrays of one length, at least 1.

    Raises one ValueError that names the file and the first row (the header is row 1) or column at fault.
    """
    with _opened(path) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        places = {name: _place(path, name, header) for name in columns}
        rows = list(enumerate(reader, start=2))
    while rows and not rows[-1][1]:  # blank lines are no rows at the end, and a flaw before it
        rows.pop()
    if not rows:
        raise ValueError(f"{path}: the table has no rows below its header; record something first")
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{path}, row {number}: found {len(row)} cells, must be {len(header)} as in the header")
    return {
        name: np.array(
            [_cell(f"{path}, row {number}: {name}", row[places[name]], kind) for number, row in rows],
            dtype=_DTYPES[kind],
        )
        for name, kind in columns.items()
    }


def source_of(path: Path) -> Source:
    """Return a file's name and the sha256 of its bytes."""
    return Source(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    opening = cast("Callable[..., TextIO]", gzip.open if path.suffix == ".gz" else open)
    try:
        with opening(path, "rt", encoding="utf-8", newline="") as file:
            yield file
    except (OSError, EOFError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a table ({error})") from error


def _place(path: Path, name: str, header: list[str]) -> int:
    if name not in header:
        near = difflib.get_close_matches(name, header, n=1)
        hint = f"; is it {near[0]!r}?" if near else ""
        raise ValueError(f"{path}: no column {name!r}, found {', '.join(header) or 'nothing'}{hint}")
    return header.index(name)


def _cell(where: str, text: str, kind: Kind) -> str | int | float:
    text = text.strip()
    if (kind == "text" and text) or kind == "text or blank":
        return text
    if kind == "integer" and text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    if kind == "number or blank" and not text:
        return nan
    if kind in {"number", "number or blank"}:
        try:
            value = float(text)
        except ValueError:
            value = nan
        if isfinite(value):
            return value
    raise ValueError(f"{where} is {text!r}, must be {_MEANINGS[kind]}")
