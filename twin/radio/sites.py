"""Access points: where they stand, from a grid or from a file of sites."""

from dataclasses import dataclass
from math import cos, radians
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The place on Earth that metres are counted from: x to the east, y to the north.

    The projection is equirectangular: over a city its error is far below that of a position.

    >>> x_m, y_m = Origin(latitude_deg=0.0, longitude_deg=0.0).metres(np.array([0.001]), np.array([0.002]))
    >>> x_m.round(1).tolist(), y_m.round(1).tolist()
    ([222.4], [111.2])
    """

    latitude_deg: float
    longitude_deg: float

    def metres(self, latitude_deg: Floats, longitude_deg: Floats) -> tuple[Floats, Floats]:
        """Return x and y in metres of places in degrees (n,)."""
        x_m = EARTH_RADIUS_M * cos(radians(self.latitude_deg)) * np.radians(longitude_deg - self.longitude_deg)
        return x_m, EARTH_RADIUS_M * np.radians(latitude_deg - self.latitude_deg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Access points by name, in metres (sites,); `origin` is where the metres are counted from, if it is known."""

    names: tuple[str, ...]
    x_m: Floats
    y_m: Floats
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("access points: there is none; give at least one")
        if len(self.names) > MOST_SITES:
            raise ValueError(f"access points: there are {len(self.names)}, can be {MOST_SITES} at most")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"access points: {twice[0]!r} is there twice, must be once")

    def __len__(self) -> int:
        return len(self.names)


MOST_SITES = 10_000


def grid_of_sites(*, columns: int, rows: int, spacing_m: float) -> Sites:
    """Return sites in the middles of `columns` × `rows` squares; the south-west corner of the first is (0, 0).

    >>> grid = grid_of_sites(columns=2, rows=1, spacing_m=100.0)
    >>> grid.names, grid.x_m.tolist(), grid.y_m.tolist()
    (('0-0', '1-0'), [50.0, 150.0], [50.0, 50.0])
    """
    if columns < 1 or rows < 1 or not 1 <= spacing_m <= 5000:
        raise ValueError(
            f"access points: a grid of {columns} by {rows} with {spacing_m} m between them; needs at least one column "
            "and row and 1 m to 5000 m"
        )
    if columns * rows > MOST_SITES:
        raise ValueError(f"access points: a grid of {columns} by {rows}; can have {MOST_SITES} sites at most")
    row, column = np.divmod(np.arange(columns * rows), columns)
    return Sites(
        names=tuple(f"{i}-{j}" for i, j in zip(column.tolist(), row.tolist(), strict=True)),
        x_m=(column + 0.5) * spacing_m,
        y_m=(row + 0.5) * spacing_m,
    )


def read_sites(path: Path) -> Sites:
    """Return the access points of a CSV: columns `site_id`, and `latitude` and `longitude` or `x_m` and `y_m`.

    The EUA data set's files of sites are such files; capital letters do not matter, other columns are ignored. Degrees
    become metres from the most southern latitude and the most western longitude. Raises ValueError naming the file,
    the line and the column.
    """
    table = read_positions(path, needed=("site_id",))
    names = tuple(str(name) for name in table["site_id"])
    if "x_m" in table:
        return _named(path, names, numbers(path, table, "x_m"), numbers(path, table, "y_m"), None)
    latitude_deg, longitude_deg = degrees(path, table)
    origin = Origin(latitude_deg=float(latitude_deg.min()), longitude_deg=float(longitude_deg.min()))
    return _named(path, names, *origin.metres(latitude_deg, longitude_deg), origin)


def read_positions(path: Path, *, needed: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return the columns of a CSV as text, names in small letters; it holds positions, in metres or in degrees."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: is not a CSV ({error})") from error
    table.columns = pd.Index([str(column).strip().lower() for column in table.columns])
    positions = next((pair for pair in _POSITIONS if set(pair) <= set(table.columns)), None)
    if positions is None or not set(needed) <= set(table.columns):
        wanted = " and ".join([*needed, "either x_m and y_m or latitude and longitude"])
        raise ValueError(f"{path}: needs the columns {wanted}; it has {', '.join(table.columns)}")
    if table.empty:
        raise ValueError(f"{path}: no row follows the header")
    return table


_POSITIONS = (("x_m", "y_m"), ("latitude", "longitude"))


def degrees(path: Path, table: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return the latitudes and longitudes of a table."""
    return (
        numbers(path, table, "latitude", low=-89.0, high=89.0),
        numbers(path, table, "longitude", low=-180.0, high=180.0),
    )


def numbers(path: Path, table: pd.DataFrame, column: str, *, low: float = -1e7, high: float = 1e7) -> Floats:
    """Return a column as numbers; ValueError naming the line of one that is none or lies outside."""
    found = np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=np.float64)
    good = (found >= low) & (found <= high)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            f"{path}, line {row + 2}, column {column}: found {table[column].iloc[row]!r}: must be a number from "
            f"{low:g} to {high:g}"
        )
    return found


def _named(path: Path, names: tuple[str, ...], x_m: Floats, y_m: Floats, origin: Origin | None) -> Sites:
    try:
        return Sites(names=names, x_m=x_m, y_m=y_m, origin=origin)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
