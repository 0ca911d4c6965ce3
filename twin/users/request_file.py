"""The `requests` load: a CSV with one request per row."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from twin.randomness import streams
from twin.users.load import Legs, Requests, id_key, ranks
from twin.users.prompts import PromptPool

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFile:
    """A request file, read once and checked; replications differ only in the prompts that are drawn for it."""

    path: Path
    requests: Requests  # without prompts
    chosen: tuple[tuple[int, ...], ...] | None  # experts of each request; None when the file does not name them

    @property
    def names_experts(self) -> bool:
        """Whether the file says which experts each request goes to."""
        return self.chosen is not None

    def legs(self) -> Legs:
        """Return the legs on the experts that the file names, with equal weights; ValueError when it names none."""
        if self.chosen is None:
            raise ValueError(f"{self.path}: no column 'experts'; add it (names joined by |), or route the requests")
        return _legs(self.requests, self.chosen)

    def drawn(self, pool: PromptPool, rows: NDArray[np.intp], *, seed: int) -> Requests:
        """Return the requests, each with a prompt drawn from `rows` of the pool within its category.

        The file's token counts take the place of the pool's. Raises ValueError for a category without a prompt.
        """
        known = np.unique(pool.category[rows]).tolist()
        for request_id, category in zip(self.requests.request_id, self.requests.category, strict=True):
            if category not in known:
                raise ValueError(
                    f"{self.path}, request_id {request_id}, column 'category': found {category!r}: no prompt to draw "
                    f"from; allowed are {', '.join(known)}{_near(category, known)}; or name the request's experts"
                )
        return replace(self.requests, prompt=_prompts(self.requests, pool, rows, seed))


def read_request_file(path: Path, *, experts: Sequence[str], duration_s: float) -> RequestFile:
    """Return the requests of a CSV; rows may stand in any order.

    `experts` are the names allowed in the column of that name. Raises one ValueError that names the file, the
    line, the column, what was found and what is allowed.
    """
    found = list(_read_rows(path, experts, duration_s))
    if not found:
        raise ValueError(f"{path}: the load is empty: no row follows the header; add at least one request")
    _check_unique(path, found)
    requests = _sorted_requests(found)
    chosen = {row.request_id: row.experts for row in found if row.experts is not None}
    in_order = tuple(chosen[str(name)] for name in requests.request_id) if chosen else None
    return RequestFile(path=path, requests=requests, chosen=in_order)


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
            self.refuse(
                column,
                f"must be seconds from the run's start, before duration_s = {duration_s}; "
                "raise duration_s or leave the row out",
            )
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
        found = repr(self.cells[column])
        shown = found if len(found) <= 60 else f"{found[:40]}… ({len(found)} characters)"
        raise ValueError(f"{self.path}, line {self.line}, column {column!r}: found {shown}: {why}")


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


def _prompts(requests: Requests, pool: PromptPool, rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    shares = streams(seed)["prompts"].random(len(requests))  # one each, so that categories do not interfere
    prompt = np.empty(len(requests), dtype=np.intp)
    for category in set(requests.category.tolist()):
        mine = requests.category == category
        choices = rows[pool.category[rows] == category]
        prompt[mine] = choices[(shares[mine] * len(choices)).astype(np.intp)]
    return prompt


def _near(found: str, allowed: Sequence[str]) -> str:
    matches = get_close_matches(found, allowed, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
