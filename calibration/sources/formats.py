"""Which recording a file is, told by its header; and which way out there is where it is none."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from calibration.sources import edgereasoning, vllm_kernels
from calibration.sources.csv_table import read_header

FORMATS: dict[str, frozenset[str]] = {
    "EdgeReasoning prefill": frozenset(edgereasoning.PREFILL_COLUMNS),
    "EdgeReasoning decode": frozenset(edgereasoning.DECODE_COLUMNS),
    "vLLM dense kernels": frozenset(vllm_kernels.DENSE_COLUMNS),
    "vLLM attention kernels": frozenset(vllm_kernels.ATTENTION_COLUMNS),
    "vLLM per-sequence kernels": frozenset(vllm_kernels.PER_SEQUENCE_COLUMNS),
}
PAIR = ("EdgeReasoning prefill", "EdgeReasoning decode")
TRIPLE = ("vLLM dense kernels", "vLLM attention kernels", "vLLM per-sequence kernels")


def check_paths(paths: Sequence[Path]) -> None:
    """Raise ValueError unless all paths are there, and are either folders of recordings or files."""
    for path in paths:
        if not path.exists():
            beside = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
            near = difflib.get_close_matches(path.name, beside, n=1)
            raise ValueError(f"{path}: there is no such file or folder{_did_you_mean(near)}")
        if path.is_dir() != paths[0].is_dir():
            raise ValueError(
                f"{paths[0]} and {path}: one is a folder, one a file; give folders of recordings, or files"
            )
        if path.is_dir() and not (path / "manifest.json").is_file():
            raise ValueError(
                f"{path}: holds no manifest.json, so it is no recording of `moe2 calibrate`; of other recordings name "
                "the files"
            )


def recognised(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the tables by what they are; ValueError for one that is of no known recording, and for two of a kind."""
    files: dict[str, Path] = {}
    for path in paths:
        header = read_header(path)
        # a format with more columns is told first: the dense table's columns are common words
        kinds = sorted(FORMATS, key=lambda kind: -len(FORMATS[kind]))
        kind = next((kind for kind in kinds if set(header) >= FORMATS[kind]), None)
        if kind is None:
            raise ValueError(f"{path}: {_why_none(header)}")
        if kind in files:
            raise ValueError(f"{path} and {files[kind]} are both {kind}; give one of each at a time")
        files[kind] = path
    return files


def _why_none(header: Sequence[str]) -> str:
    """Return what a header lacks of the recording it is most like, or what there is."""
    if not header:
        return "is empty; a recording begins with the names of its columns"
    near = max(FORMATS, key=lambda kind: len(FORMATS[kind] & set(header)) / len(FORMATS[kind]))
    lacking = sorted(FORMATS[near] - set(header))
    if 2 * len(lacking) > len(FORMATS[near]):
        return f"its columns {', '.join(header)} are of no known recording; known are {', '.join(FORMATS)}"
    guess = difflib.get_close_matches(lacking[0], header, n=1)
    return f"is most like {near}, but has no column {', '.join(lacking)}{_did_you_mean(guess)}"


def _did_you_mean(near: Sequence[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""
