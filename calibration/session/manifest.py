"""The manifest of a recording: what was measured, how and under which conditions, and what of it must stay the same."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibration.runtimes.generation import FORMULAS
from calibration.session.plan import Plan

_LONGEST, _SHORT = 60, 14
_HINTS = {
    "model_sha256": "--model-file as then",
    "tokenizer_sha256": "the tokenizer beside the weights as then",
    "host.power_mode": "that power mode",
    "meter.name": "that meter",
    "meter.correction": "--correction as then",
}


def identity_of(plan: Plan, found: Mapping[str, Any], meter: Mapping[str, Any], weights: Path | None) -> dict[str, Any]:
    """Return what a manifest says before the runtime has reported: `found` of the host, `meter` its words."""
    return {
        "device": _device(found),
        "model_sha256": None if weights is None else _sha256(weights),
        "tokenizer_sha256": None if weights is None else _tokenizer_sha256(weights),
        "formulas": FORMULAS,
        "plan": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(plan).items()},
        "host": found,
        "meter": meter,
    }


def manifest_of(known: Mapping[str, Any], report: Mapping[str, Any], **besides: Any) -> dict[str, Any]:
    """Return the whole manifest of a recording: `identity_of`, the runtime's report and what else is known."""
    return {
        "began_unix_s": time.time(),
        **known,
        "model": report.get("model"),
        "runtime_build": report.get("build"),
        "runtime": report,
        **besides,
    }


def differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return what must not change and did, in words: `found` is a recording's manifest, `asked` a session's or a part.

    An address may change, and so may what says nothing of the figures: load, name of the host, other processes.
    """
    was, now = _same(found), _same(json.loads(json.dumps(asked)))
    changed = [key for key in now if was.get(key) != now[key]]
    return [f"{key} {_short(was.get(key))}, this session {_short(now[key])}" for key in changed]


def way_out(differing: list[str]) -> str:
    """Return what to do about `differences`."""
    keys = [difference.partition(" ")[0] for difference in differing]
    hints = [hint for key, hint in _HINTS.items() if key in keys]
    return f"resume with the same ({'; '.join(hints)})" if hints else "resume with the same"


def _short(value: Any) -> str:
    """Return a value as it stands in a message: of a hash its beginning."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_SHORT]}…"


def _same(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest that must stay the same, flat."""
    plain = ("device", "model", "model_sha256", "tokenizer_sha256", "runtime_build")
    inner = {
        "plan": None,  # None: all of it but what is named in `varies`
        "runtime": None,
        "meter": ("name", "scope", "correction"),
        "host": ("power_mode", "cpu_clock_hz", "gpu_clock_hz", "driver"),
    }
    varies = {"url", "build", "model"}  # of the runtime; the latter two stand for themselves
    found = {key: manifest[key] for key in plain if key in manifest}
    for part, keys in inner.items():
        if part in manifest and not (part == "host" and manifest[part].get("elsewhere")):  # there it is the client's
            of_part = _with_driver(manifest[part]) if part == "host" else manifest[part]
            names = keys or [key for key in of_part if key not in varies]
            found |= {f"{part}.{key}": of_part.get(key) for key in names}
    return found


def _with_driver(host: Mapping[str, Any]) -> dict[str, Any]:
    return {**host, "driver": (host.get("gpu") or {}).get("driver")}


def _device(found: Mapping[str, Any]) -> str:
    if found["elsewhere"]:
        return "not told"
    return (found["gpu"] or {}).get("name") or found["board"] or found["processor"] or "not told"


def _sha256(path: Path) -> str:
    """Return the file's SHA-256, read in parts: weights may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _tokenizer_sha256(weights: Path) -> str | None:
    """Return the hash of the tokenizer beside the weights; a GGUF file holds its own. None where there is none."""
    if weights.suffix == ".gguf":
        return _sha256(weights)
    beside = (weights.parent / name for name in ("tokenizer.json", "tokenizer.model"))
    return next((_sha256(path) for path in beside if path.is_file()), None)
