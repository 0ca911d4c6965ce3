"""The recording of a session: one Parquet part per finished cell beside a JSON manifest; parts are never changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from calibration.runtimes.generation import Generation
from calibration.session.plan import Cell
from calibration.whole_file import DRAFTS, write_whole

SCHEMA = 1
_CELL = pa.schema(
    [
        ("cell", pa.string()),
        ("session", pa.string()),
        ("block", pa.int32()),
        ("concurrency", pa.int32()),
        ("kind", pa.string()),  # request, window, idle, gate, missing or end
        ("repeat", pa.int32()),
        ("asked_prompt_tokens", pa.int64()),
        ("asked_output_tokens", pa.int64()),
        ("sent_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("finished_s", pa.float64()),
        ("chunk_s", pa.list_(pa.float64())),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("server_prefill_s", pa.float64()),
        ("server_decode_s", pa.float64()),
        ("n_requests", pa.int64()),  # of a window
        ("energy_j", pa.float64()),  # gross, as the meter reads it
        ("net_energy_j", pa.float64()),  # less the loaded, idle device's power over the window
        ("energy_source", pa.string()),
        ("temperature_c", pa.float64()),  # of a gate, as its slope
        ("slope_c_per_s", pa.float64()),
        ("reason", pa.string()),  # why a window has no energy, a gate did not settle, a cell is missing, it ended
        ("fault", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A recording's folder."""

    folder: Path

    def begin(self, manifest: Mapping[str, Any]) -> bool:
        """Write the manifest of a new recording; False when there is one that is the same in what must not change.

        Raises ValueError when the recording there is of another plan, model or device.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for draft in self.folder.glob(DRAFTS):
            draft.unlink()
        path = self.folder / "manifest.json"
        if not path.exists():
            text = json.dumps({"schema": SCHEMA, **manifest}, indent=2, allow_nan=False) + "\n"
            write_whole(path, text.encode(), durable=True)
            return True
        found = self.manifest()
        for key in ("plan", "model", "device", "runtime_build"):
            if json.dumps(found.get(key)) != json.dumps(manifest.get(key)):
                raise ValueError(
                    f"{path}: the recording there has {key} {found.get(key)!r}, this session {manifest.get(key)!r}; "
                    "resume with the same, or record into another folder"
                )
        return False

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; ValueError when there is none."""
        path = self.folder / "manifest.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as a recording's manifest ({error})") from error
        if found.get("schema") != SCHEMA:
            raise ValueError(f"{path}: schema is {found.get('schema')!r}, must be {SCHEMA}")
        return found

    def has(self, cell: Cell) -> bool:
        """Return whether the cell's part is there, and so complete."""
        return self._part(cell.key).exists()

    def keys(self) -> list[str]:
        """Return the cells recorded so far."""
        return sorted(path.stem for path in self.folder.glob("*.parquet"))

    def add(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a cell's rows as one part, whole or not at all, and onto the disk before returning."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=_CELL), sink)
        write_whole(self._part(key), sink.getvalue().to_pybytes(), durable=True)

    def read(self) -> pd.DataFrame:
        """Return all rows of all parts; ValueError when there are none."""
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: there is no such folder; a recording is one of `moe2 calibrate`")
        parts = [pq.read_table(path, schema=_CELL) for path in sorted(self.folder.glob("*.parquet"))]
        if not parts:
            raise ValueError(f"{self.folder}: the recording has no finished cell yet")
        frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
        return frame

    def _part(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"


def request_row(cell: Cell, session: str, repeat: int, generation: Generation) -> dict[str, Any]:
    """Return a generation as a row of a recording."""
    values = {f.name: getattr(generation, f.name) for f in fields(generation)}
    return {**_origin(cell, session), "kind": "request", "repeat": repeat, **values}


def window_row(
    cell: Cell, session: str, *, kind: str, begin_s: float, end_s: float, n_requests: int, **energy: Any
) -> dict[str, Any]:
    """Return an energy window as a row; `energy` has energy_j, net_energy_j, energy_source, reason and fault."""
    return {
        **_origin(cell, session),
        "kind": kind,
        "repeat": 0,
        "asked_prompt_tokens": cell.prompt_tokens,
        "asked_output_tokens": cell.output_tokens,
        "sent_s": begin_s,
        "finished_s": end_s,
        "n_requests": n_requests,
        **energy,
    }


def mark_row(name: str, session: str, *, kind: str, block: int = -1, **values: Any) -> dict[str, Any]:
    """Return a row that is of no cell: the session idle, a thermal gate, a cell that is missing, the end."""
    mark = {"cell": name, "session": session, "block": block, "concurrency": 0, "kind": kind, "repeat": 0, "fault": ""}
    return {**mark, "asked_prompt_tokens": 0, "asked_output_tokens": 0, **values}


def _origin(cell: Cell, session: str) -> dict[str, Any]:
    return {"cell": cell.key, "session": session, "block": cell.block, "concurrency": cell.concurrency}
