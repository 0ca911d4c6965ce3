"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_file", "check_replaceable", "check_writable", "whole_folder"]

_MARK = "summary.json"
_LONGEST = 200  # bytes of a name: what is written to first adds to it, and a file system takes 255


def check_replaceable(folder: Path, mark: str = _MARK) -> None:
    """Raise ValueError unless the folder is new, empty, or an earlier run's, as the file named `mark` in it tells."""
    if (length := len(os.fsencode(folder.name))) > _LONGEST:
        raise ValueError(f"--out {folder.name[:40]}…: a name of {length} bytes, at most {_LONGEST} can be kept")
    usable = folder.is_dir() and (not any(folder.iterdir()) or (folder / mark).is_file())
    if not usable and (folder.exists() or folder.is_symlink()):
        kind = "a folder with other files in it" if folder.is_dir() else "not a folder"
        raise ValueError(f"--out {folder}: this is {kind}; name a new folder, or one that an earlier run wrote")
    check_writable(folder, folder.absolute().parent)  # what it is written to first lies beside it
    if folder.is_dir():  # which moves away, and a folder that cannot be written to cannot be moved
        check_writable(folder)


def check_writable(asked: Path, folder: Path | None = None, *, option: str = "--out") -> None:
    """Raise ValueError unless files can be made in a folder, or where it would be made; `asked` is what was named.

    It is tried, with a file that has no name: nothing is left behind.
    """
    wanted = (asked if folder is None else folder).absolute()
    near = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not near.is_dir():
        raise ValueError(f"{option} {asked}: {near} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=near):
            pass
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ValueError(f"{option} {asked}: nothing can be written to {near} ({why}); name another place") from None


def check_file(file: Path, *, option: str = "--out") -> None:
    """Raise ValueError unless a file of that name can be written."""
    folder = file.absolute().parent
    if file.is_dir():
        raise ValueError(f"{option} {file}: is a folder; name a file in it")
    if not folder.is_dir():
        raise ValueError(f"{option} {file}: there is no folder {folder}")
    check_writable(file, folder, option=option)


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
