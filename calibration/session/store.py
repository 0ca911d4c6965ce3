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
from calibration.session.manifest import differences, way_out
from calibration.session.plan import Cell
from calibration.whole_file import DRAFTS, write_whole

SCHEMA = 1
_MANIFEST = "manifest.json"
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
        ("throttled_by", pa.string()),  # what slowed the device meanwhile, '' when nothing did, null where not told
        ("steal_share", pa.float64()),  # of the processors' time during the cell, that a host took from its machine
        ("reason", pa.string()),  # why a window has no energy, a gate did not settle, a cell is missing, it ended
        ("fault", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A recording's folder."""

    folder: Path

    @property
    def begun(self) -> bool:
        """Whether there is a recording."""
        return (self.folder / _MANIFEST).exists()

    def check_place(self) -> None:
        """Raise ValueError where the folder holds tables and is no recording; a killed process's drafts are removed."""
        for draft in self.folder.glob(DRAFTS):
            draft.unlink()
        if not self.begun and self.keys():
            raise ValueError(
                f"{self.folder}: holds {self.keys()[0]}.parquet and no manifest, so it is no recording; record into "
                "another folder"
            )

    def check_same(self, manifest: Mapping[str, Any]) -> None:
        """Raise ValueError where the recording there is of something else than a manifest, or a part of one, says."""
        differing = differences(self.manifest(), manifest) if self.begun else []
        if differing:
            raise ValueError(
                f"{self.folder / _MANIFEST}: the recording there has {'; and '.join(differing[:3])}; "
                f"{way_out(differing)}, or record into another folder"
            )

    def begin(self, manifest: Mapping[str, Any]) -> bool:
        """Write the manifest of a new recording; False when there is one that is the same in what must not change.

        Raises ValueError as `check_same` does.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.check_same(manifest)
        if self.begun:
            return False
        self._write_manifest({"schema": SCHEMA, **manifest})
        return True

    def note(self, session: str, found: Mapping[str, Any]) -> None:
        """Add what is found of a session to those in the manifest; nothing that stands there is changed."""
        manifest = self.manifest()
        self._write_manifest({**manifest, "sessions": {**manifest.get("sessions", {}), session: dict(found)}})

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; ValueError when there is none."""
        path = self.folder / _MANIFEST
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as a recording's manifest ({error})") from error
        if found.get("schema") != SCHEMA:
            raise ValueError(f"{path}: schema is {found.get('schema')!r}, must be {SCHEMA}")
        return found

    def states(self) -> dict[str, str]:
        """Return the cells with a part, each with the fault of its latest attempt; '' once one was whole."""
        found: dict[str, str] = {}
        for key in self.keys():  # attempts in their order
            part = pq.read_table(self._part(key), columns=["cell", "kind", "fault"]).to_pylist()
            for cell in {row["cell"] for row in part if row["kind"] in {"request", "window"}}:
                if found.get(cell) != "":
                    found[cell] = fault_of(part)
        return found

    def keys(self) -> list[str]:
        """Return the names of the parts written so far."""
        return sorted(path.stem for path in self.folder.glob("*.parquet"))

    def add(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as one part, whole or not at all, and onto the disk before returning.

        A part that is there stays: the rows of a cell that is measured again are a part beside it.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=_CELL), sink)
        names = (key, *(f"{key}-again{n:03}" for n in range(1, 1000)))
        path = next(path for path in map(self._part, names) if not path.exists())
        write_whole(path, sink.getvalue().to_pybytes(), durable=True)

    def read(self) -> pd.DataFrame:
        """Return all rows of all parts; ValueError when there are none."""
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: there is no such folder; a recording is one of `moe2 calibrate`")
        parts = [pq.read_table(path, schema=_CELL) for path in sorted(self.folder.glob("*.parquet"))]
        if not parts:
            raise ValueError(f"{self.folder}: the recording has no finished cell yet")
        frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
        return frame

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
        write_whole(self.folder / _MANIFEST, text.encode(), durable=True)

    def _part(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"


def fault_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the first fault in the rows of an attempt at a cell, '' for none: the cell is measured."""
    return next((str(row["fault"]) for row in rows if row["fault"]), "")


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
