"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_replaceable", "whole_folder"]

_MARK = "summary.json"


def check_replaceable(folder: Path, mark: str = _MARK) -> None:
    """Raise ValueError unless the folder is new, empty, or an earlier run's, as the file named `mark` in it tells."""
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / mark).is_file()):
        return
    if folder.exists() or folder.is_symlink():
        kind = "a folder with other files in it" if folder.is_dir() else "not a folder"
        raise ValueError(f"--out {folder}: this is {kind}; name a new folder, or one that an earlier run wrote")
    near = next(parent for parent in folder.absolute().parents if parent.exists())
    if not near.is_dir():
        raise ValueError(f"--out {folder}: {near} is not a folder")


@contextmanager
def whole_folder(folder: Path, mark: str = _MARK) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` that takes its place when the block ends without an error.

    Whatever interrupts the block, `folder` is left as it was and the temporary one is removed.
    """
    check_replaceable(folder, mark)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        if folder.exists():
            folder.rename(work / "old")
        (work / "new").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
