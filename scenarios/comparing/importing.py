"""Foreign records of runs, written as this project's tables."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from scenarios.files.complaints import near
from scenarios.runs.folder import check_replaceable, whole_folder
from twin.records.tables import write_tables
from twin.records.vllm_bench import read_vllm_bench

__all__ = ["FORMS", "import_run"]

FORMS = {"vllm-bench": read_vllm_bench}


def import_run(form: str, file: Path, out: Path, *, expert: str, device: str) -> int:
    """Write the tables of a foreign record to a folder, with a summary that names the file; returns its requests.

    Raises ValueError for a form that is not known and for a file that is not of it; nothing is written then.
    """
    if form not in FORMS:
        raise ValueError(f"{form!r}: no such form{near(form, FORMS)}; known are {', '.join(FORMS)}")
    for what, name in (("--expert", expert), ("--device", device)):
        if not name.strip():
            raise ValueError(f"{what} is empty; give the scenario's name")
    check_replaceable(out)
    tables = FORMS[form](file, expert=expert, device=device)
    source = {"form": form, "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    counts = {str(status): int(n) for status, n in tables.requests["status"].value_counts().items()}
    summary = {
        "version": version("moe2-twin"),
        "engine": "imported",
        "source": source,
        "replications": int(tables.requests["replication"].nunique()),
        "requests": {"arrived": len(tables.requests), **counts},
    }
    with whole_folder(out) as folder:
        write_tables(tables, folder)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(tables.requests)
