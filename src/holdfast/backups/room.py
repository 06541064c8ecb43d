"""Room on a disk: looked for before anything is written, and if it was not enough, said what to do."""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from holdfast.sessions.errors import StoreUnavailable

SPARE_BYTES: Final = 16 * 1024 * 1024
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The second is what SQLite says of a quota.
_SQLITE_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)


@contextmanager
def room_for(needed: int, directory: Path, otherwise: str = "") -> Iterator[None]:
    """Write about so many bytes into a directory, which need not be there yet.

    Raises `StoreUnavailable` when they have no room in it, at once or as soon as that shows, and when it cannot be
    written to: with how much is needed, and what to do `otherwise` than to make room.
    """
    needed += SPARE_BYTES
    free = free_in(directory)
    if free < needed:
        raise StoreUnavailable(
            f"there is no room in {directory}: about {needed:,} bytes are needed, {free:,} are free; "
            f"free {needed - free:,} more{otherwise}"
        )
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if _is_full(error):
            why = f"its disk is full, or a quota; about {needed:,} bytes are needed: free some space{otherwise}"
        elif isinstance(error, sqlite3.Error | TimeoutError | ConnectionError):
            raise
        else:
            why = f"{error.strerror}; check the disk, and whose the directory is{otherwise}"
        raise StoreUnavailable(f"nothing more can be written in {directory}: {why}") from error


def _is_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    return getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL


def free_in(directory: Path) -> int:
    """The free bytes where a directory is, or will be: the nearest above it that is there says so."""
    there = next(each for each in (directory.absolute(), *directory.absolute().parents) if each.exists())
    return shutil.disk_usage(there).free
