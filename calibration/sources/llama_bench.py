"""`llama-bench -o json`: samples of prompt processing and generation in nanoseconds, one sequence at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.sessions import Sessions, no_batches, no_joules
from calibration.sources.csv_table import source_of

_NEEDED = ("model_filename", "cpu_info", "build_commit", "build_number", "n_prompt", "n_gen", "samples_ns")


def read_llama_bench(path: Path) -> Sessions:
    """Return the file's samples as a recorded session without energy; ValueError names the file and what is missing.

    A generation of n tokens after a context of `n_depth` is n decode iterations: it carries no prefill. Tests of
    prompt and generation together are refused, as their parts cannot be told apart.
    """
    try:
        tests = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as the output of llama-bench -o json ({error})") from error
    if not isinstance(tests, list) or not tests or not all(isinstance(test, dict) for test in tests):
        raise ValueError(f"{path}: is no output of llama-bench -o json, which is a list of tests [{{…}}, …]")
    rows = [row for n, test in enumerate(tests) for row in _checked(path, n, test)]
    first = tests[0]
    known = {str(test["model_filename"]) for test in tests}
    if len(known) > 1:
        raise ValueError(f"{path}: holds {len(known)} models, {', '.join(sorted(known))}; give one file for each")
    both = sum(1 for test in tests if test["n_prompt"] and test["n_gen"])
    return Sessions(
        source=source_of(path),
        manifest=_manifest(first),
        requests=pd.DataFrame(rows),
        batches=no_batches(),
        prefill_j=no_joules(),
        decode_j=no_joules(),
        idle_w=None,
        refused=({"n": both, "reason": "prompt and generation in one test: parts cannot be told apart"},)
        if both
        else (),
    )


def _checked(path: Path, number: int, test: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a test; ValueError naming it and what is wrong with it."""
    where = f"{path}, test {number + 1}"
    lacking = [key for key in _NEEDED if key not in test]
    if lacking:
        raise ValueError(f"{where}: has no {', '.join(lacking)}, as llama-bench -o json writes")
    samples = test["samples_ns"]
    if not isinstance(samples, list) or not all(_is_time(ns) for ns in samples):
        raise ValueError(f"{where}: samples_ns is {samples!r}, must be a list of nanoseconds above 0")
    for key in ("n_prompt", "n_gen", "n_depth"):
        found = test.get(key, 0)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise ValueError(f"{where}: {key} is {found!r}, must be a whole number of tokens")
    return _rows(number, test)


def _is_time(ns: Any) -> bool:
    return isinstance(ns, (int, float)) and not isinstance(ns, bool) and 0 < ns < np.inf


def _rows(number: int, test: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per sample, each a cell of its own; none for a test of both parts."""
    prompt, generated, depth = int(test["n_prompt"]), int(test["n_gen"]), int(test.get("n_depth", 0))
    if prompt and (generated or depth):
        return []
    return [
        {
            "session": str(test.get("test_time", number)),
            "cell": f"{number}-{block}",
            "block": block,
            "repeat": 0,
            "concurrency": 1,
            "asked_prompt_tokens": prompt or depth,
            "asked_output_tokens": 1 if prompt else generated + 1,
            "prompt_tokens": prompt or depth,
            "output_tokens": 1 if prompt else generated + 1,
            "ttft_s": ns / 1e9 if prompt else np.nan,
            "decode_s": np.nan if prompt else ns / 1e9,
            "server_prefill_s": None,
        }
        for block, ns in enumerate(test["samples_ns"])
    ]


def _manifest(test: dict[str, Any]) -> dict[str, Any]:
    return {
        "device": test.get("gpu_info") or test["cpu_info"],
        "model": test["model_filename"],
        "runtime_build": f"llama.cpp {test['build_commit']} ({test['build_number']}), llama-bench",
        "runtime": {"weights": "as given to llama-bench", "model_file_type": test.get("model_type")},
        "host": {"processor": test["cpu_info"], "threads": test.get("n_threads")},
        "meter": {"name": "none", "scope": None, "covers": "nothing"},
        "formulas": {"ttft_s": "samples_ns of a prompt test: no sampling of the first token is in it"},
    }
