"""The manifest of a recording, the first line of its journal: the scenario, its load, and the servers that had it."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scenarios.files.loading import Scenario, load
from scenarios.recording.endpoints import EndpointSpec
from scenarios.running import resolved
from scenarios.runs.replicating import Assembly, Load

__all__ = ["digest", "manifest_of", "reports_in", "scenario_of"]


def manifest_of(
    assembly: Assembly,
    loads: Sequence[Load],
    specs: Sequence[EndpointSpec],
    reports: Sequence[dict[str, Any]],
    *,
    speed: float,
    questions: Path | None,
) -> dict[str, Any]:
    """Return what tells a recording: its scenario and load, and each server, whose URL is without a password."""
    return {
        "began_unix_s": time.time(),
        "scenario": resolved(assembly.scenario),
        "speed": speed,
        "prompts": "random token ids" if questions is None else f"texts of {questions}",
        "endpoints": [
            {**asdict(spec), "url": report["url"], "report": report}
            for spec, report in zip(specs, reports, strict=True)
        ],
        "load_sha256": [digest(drawn) for drawn in loads],
    }


def digest(drawn: Load) -> str:
    """Return a hash of the requests of a replication and of where they go."""
    found = hashlib.sha256()
    requests, legs = drawn.requests, drawn.legs
    found.update("\n".join(map(str, requests.request_id.tolist())).encode())
    for column in (requests.arrived_s, legs.request, legs.expert, legs.prompt_tokens, legs.output_tokens):
        found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def reports_in(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each server said of itself before the recording, in the order of the scenario's experts."""
    return [server["report"] for server in manifest["endpoints"]]


def scenario_of(manifest: Mapping[str, Any]) -> Scenario:
    """Return the scenario that was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        path.write_text(manifest["scenario"], encoding="utf-8")
        return load(path)
