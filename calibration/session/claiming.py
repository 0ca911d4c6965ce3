"""A recording's folder belongs to one process at a time, and is not left behind when nothing was recorded into it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from calibration.session.store import Store

_LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[Store]:
    """Yield the store of a folder, made where there is none, that no other process has; the kernel frees the dead's.

    Folders made here go again when nothing was recorded. Raises ValueError when another process records there, and
    when it is no place for a recording; OSError where it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; a recording is a folder, give one that is there or a new name")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    fresh = not (folder / _LOCK).exists()
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder}: another moe2 calibrate records there now; wait for its end, or record into another folder"
        ) from None
    except OSError:
        _left_as_found(made, None)
        raise
    store = Store(folder=folder)
    try:
        store.check_place()
        yield store
    finally:
        if fresh and not store.begun:
            _left_as_found(made, folder / _LOCK)
        lock.release()


def _left_as_found(made: list[Path], lock: Path | None) -> None:
    """Remove what was made, folders while they are empty; a process that waits for the lock sees that its file went."""
    with suppress(OSError):
        if lock is not None:
            lock.unlink()
        for folder in made:
            folder.rmdir()
