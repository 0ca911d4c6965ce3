"""A map of what is heard where: for each square of ground its nearest access points and their signals."""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from twin.radio.propagation import Air, heard_dbm

Floats = NDArray[np.float64]

SITES_MEASURED = 8  # most cells in a measurement report: maxCellReport, 3GPP TS 38.331
SQUARE_M = 2.5  # a quarter of the shortest distance over which shadowing keeps 1/e of its correlation
MOST_SQUARES = 1_000_000
REACH_M = 5000.0  # to which the path loss is meant to hold


class SignalMap:
    """Squares of ground, row by row from the south-west; a square is measured when someone first comes there.

    `site` and `dbm` are (squares, m): the m sites nearest to a square's middle, the nearest first, and what is heard of
    them there, in dBm. Only rows that `measure` was asked for hold anything.
    """

    def __init__(self, air: Air, box_m: tuple[float, float, float, float]) -> None:
        """The map covers a box (west, south, east, north); squares are larger where it would have over a million."""
        from scipy.spatial import cKDTree  # noqa: PLC0415 - slow to load, and most runs have no radio

        self._air, self._tree = air, cKDTree(np.column_stack([air.site_x_m, air.site_y_m]))
        self._west_m, self._south_m = box_m[:2]
        width_m, height_m = max(box_m[2] - box_m[0], SQUARE_M), max(box_m[3] - box_m[1], SQUARE_M)
        self._square_m = max(SQUARE_M, (width_m * height_m / MOST_SQUARES) ** 0.5)
        self._columns, self._rows = ceil(width_m / self._square_m), ceil(height_m / self._square_m)
        shape = self._columns * self._rows, min(SITES_MEASURED, len(air.site_x_m))
        self.site: NDArray[np.int16] = np.empty(shape, dtype=np.int16)
        self.dbm: NDArray[np.float32] = np.empty(shape, dtype=np.float32)
        self._known = np.zeros(len(self.site), dtype=np.bool_)

    def measure(self, x_m: Floats, y_m: Floats) -> NDArray[np.int64]:
        """Return the square of each place (n,), its row measured; places outside belong to the nearest square."""
        column = np.clip(((x_m - self._west_m) / self._square_m).astype(np.int64), 0, self._columns - 1)
        row = np.clip(((y_m - self._south_m) / self._square_m).astype(np.int64), 0, self._rows - 1)
        square = np.asarray(row * self._columns + column)
        known = self._known[square]
        if not known.all():
            self._fill(np.unique(square[~known]))
        return square

    def _fill(self, square: NDArray[np.int64]) -> None:
        row, column = np.divmod(square, self._columns)
        x_m = self._west_m + (column + 0.5) * self._square_m
        y_m = self._south_m + (row + 0.5) * self._square_m
        _, nearest = self._tree.query(np.column_stack([x_m, y_m]), k=list(range(1, self.site.shape[1] + 1)))
        site: NDArray[np.int16] = np.asarray(nearest, dtype=np.int16)
        self.site[square], self.dbm[square] = site, heard_dbm(self._air, x_m, y_m, site)
        self._known[square] = True


def check_reach(site_x_m: Floats, site_y_m: Floats, box_m: tuple[float, float, float, float]) -> None:
    """Refuse a box of which a corner is out of every site's reach."""
    west_m, south_m, east_m, north_m = box_m
    for x_m, y_m in ((west_m, south_m), (west_m, north_m), (east_m, south_m), (east_m, north_m)):
        nearest_m = float(np.hypot(site_x_m - x_m, site_y_m - y_m).min())
        if nearest_m > REACH_M:
            raise ValueError(
                f"users can be at ({x_m:.0f} m, {y_m:.0f} m), {nearest_m / 1000:.1f} km from the nearest access point; "
                f"path loss holds to {REACH_M / 1000:g} km: move the area, the trace or the access points"
            )
