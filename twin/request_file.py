"""The `requests` load: a CSV with one request per row."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from twin.load import Legs, Requests, id_key, ranks
from twin.prompts import PromptPool
from twin.randomness import streams

COLUMNS = ("request_id", "arrived_s", "prompt_tokens", "output_tokens", "category")
OPTIONAL = ("experts",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One request as its row gives it, `experts` as indices; None when the file has no such column."""

    line: int
    request_id: str
    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    category: str
    experts: tuple[int, ...] | None


def read_requests(
    path: Path,
    *,
    experts: Sequence[str],
    duration_s: float,
    seed: int,
    pool: PromptPool | None = None,
    rows: NDArray[np.intp] | None = None,
) -> tuple[Requests, Legs | None]:
    """Return the requests of a CSV, and their legs when it names their experts (equal weights), else None.

    Without experts each prompt is drawn from `rows` of the pool (default all) within the row's category, and
    the file's token counts take the place of the pool's. Rows may stand in any order.
    Raises one ValueError that names the file, the line, the column, what was found and what is allowed.
    """
    found = list(_read_rows(path, experts, duration_s))
    if not found:
        raise ValueError(f"{path}: the load is empty: no row follows the header; add at least one request")
    _check_unique(path, found)
    requests = _sorted_requests(found)
    if found[0].experts is not None:
        chosen = {row.request_id: row.experts for row in found if row.experts is not None}
        return requests, _legs(requests, [chosen[str(name)] for name in requests.request_id])
    if pool is None:
        raise ValueError(f"{path}: no column 'experts' and no prompts to draw from; add the column (names joined by |)")
    usable = np.arange(len(pool)) if rows is None else rows
    _check_categories(path, found, np.unique(pool.category[usable]).tolist())
    return _with_prompts(requests, pool, usable, seed), None


def _read_rows(path: Path, experts: Sequence[str], duration_s: float) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(path, header)
            for cells in reader:
                if cells:
                    yield _row(_cells(path, reader.line_num, header, cells), experts, duration_s)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a request file ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text (byte {error.start}); save it as a UTF-8 CSV") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: is not a CSV row ({error})") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not header:
        raise ValueError(f"{path}: the file is empty or its first line is blank; it needs {', '.join(COLUMNS)}")
    for name in header:
        if name not in COLUMNS + OPTIONAL:
            raise ValueError(
                f"{path}, line 1: unknown column {name!r}; allowed are {', '.join(COLUMNS + OPTIONAL)}"
                f"{_near(name, COLUMNS + OPTIONAL)}"
            )
        if header.count(name) > 1:
            raise ValueError(f"{path}, line 1: column {name!r} appears {header.count(name)} times, must be once")
    if missing := [name for name in COLUMNS if name not in header]:
        raise ValueError(f"{path}, line 1: no column {missing[0]!r}; needed are {', '.join(COLUMNS)}")


def _row(row: "_Cells", experts: Sequence[str], duration_s: float) -> _Row:
    return _Row(
        line=row.line,
        request_id=row.text("request_id"),
        arrived_s=row.instant_s("arrived_s", duration_s),
        prompt_tokens=row.tokens("prompt_tokens"),
        output_tokens=row.tokens("output_tokens"),
        category=row.text("category"),
        experts=row.experts("experts", experts) if "experts" in row.cells else None,
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of one row, read as what their column holds."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        found = self.cells[column]
        if not found:
            self.refuse(column, "must not be empty")
        return found

    def tokens(self, column: str) -> int:
        found = self.cells[column]
        if not (found.isascii() and found.isdecimal() and len(found) <= 15 and int(found) >= 1):
            self.refuse(column, "must be an integer of at least 1, in digits only")
        return int(found)

    def instant_s(self, column: str, duration_s: float) -> float:
        found = self.cells[column]
        try:
            instant_s = float(found) if "_" not in found else float("nan")
        except ValueError:
            instant_s = float("nan")
        if not (isfinite(instant_s) and instant_s >= 0):
            self.refuse(column, "must be a finite number of seconds from the run's start, at least 0")
        if instant_s >= duration_s:
            self.refuse(column, f"arrives after duration_s = {duration_s}; raise duration_s or leave the row out")
        return instant_s

    def experts(self, column: str, experts: Sequence[str]) -> tuple[int, ...]:
        names = [name.strip() for name in self.text(column).split("|")]
        for name in names:
            if name not in experts:
                self.refuse(column, f"no expert {name!r}; allowed are {', '.join(experts)}{_near(name, experts)}")
        if len(set(names)) < len(names):
            self.refuse(column, "names an expert twice; a request has one leg on each")
        return tuple(experts.index(name) for name in names)

    def refuse(self, column: str, why: str) -> NoReturn:
        raise ValueError(f"{self.path}, line {self.line}, column {column!r}: found {self.cells[column]!r}: {why}")


def _cells(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> _Cells:
    if len(cells) != len(header):
        raise ValueError(
            f"{path}, line {line}: found {len(cells)} cells, the header has {len(header)}; "
            "give every column a cell, and quote a cell that holds a comma"
        )
    return _Cells(path, line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))


def _check_unique(path: Path, found: Sequence[_Row]) -> None:
    first: dict[str, int] = {}
    for row in found:
        if row.request_id in first:
            raise ValueError(
                f"{path}, line {row.line}, column 'request_id': found {row.request_id!r} again, first on line "
                f"{first[row.request_id]}; ids must be unique"
            )
        first[row.request_id] = row.line


def _check_categories(path: Path, found: Sequence[_Row], allowed: Sequence[str]) -> None:
    for row in found:
        if row.category not in allowed:
            raise ValueError(
                f"{path}, line {row.line}, column 'category': found {row.category!r}: no prompt to draw from; "
                f"allowed are {', '.join(allowed)}{_near(row.category, allowed)}; or name the request's experts"
            )


def _sorted_requests(found: Sequence[_Row]) -> Requests:
    keys = [id_key(row.request_id) for row in found]
    integers = all(kind == 0 and -(2**63) <= value < 2**63 for kind, value, _ in keys)
    ids: NDArray[np.generic]
    if integers:
        ids = np.array([value for _, value, _ in keys], dtype=np.int64)
    else:
        ids = np.array([row.request_id for row in found], dtype=object)
    arrived_s = np.array([row.arrived_s for row in found])
    order = np.lexsort((ranks(ids), arrived_s))
    return Requests(
        request_id=ids[order],
        user_id=np.full(len(found), -1, dtype=np.int64),
        prompt=np.full(len(found), -1, dtype=np.intp),
        category=np.array([row.category for row in found], dtype=object)[order],
        arrived_s=arrived_s[order],
        prompt_tokens=np.array([row.prompt_tokens for row in found], dtype=np.int64)[order],
        output_tokens=np.array([row.output_tokens for row in found], dtype=np.int64)[order],
    )


def _legs(requests: Requests, experts: Sequence[tuple[int, ...]]) -> Legs:
    n_legs = np.array([len(chosen) for chosen in experts])
    request = np.repeat(np.arange(len(requests)), n_legs)
    return Legs(
        request=request,
        expert=np.concatenate([np.array(chosen, dtype=np.intp) for chosen in experts]),
        weight=(1.0 / n_legs)[request],
        prompt_tokens=requests.prompt_tokens[request],
        output_tokens=requests.output_tokens[request],
    )


def _with_prompts(requests: Requests, pool: PromptPool, rows: NDArray[np.intp], seed: int) -> Requests:
    shares = streams(seed)["prompts"].random(len(requests))  # one each, so that categories do not interfere
    prompt = np.empty(len(requests), dtype=np.intp)
    for category in np.unique(requests.category.astype(str)):
        mine = requests.category == category
        choices = rows[pool.category[rows] == category]
        prompt[mine] = choices[(shares[mine] * len(choices)).astype(np.intp)]
    return Requests(
        request_id=requests.request_id,
        user_id=requests.user_id,
        prompt=prompt,
        category=requests.category,
        arrived_s=requests.arrived_s,
        prompt_tokens=requests.prompt_tokens,
        output_tokens=requests.output_tokens,
    )


def _near(found: str, allowed: Sequence[str]) -> str:
    matches = get_close_matches(found, allowed, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
