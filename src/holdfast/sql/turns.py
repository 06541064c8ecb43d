"""The lock by which Holdfast's processes take turns at a SQLite file: a file beside it, which nobody else looks at."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.sessions.errors import StoreRefused

# Short, because another process that writes without a break lets go of the lock for a moment only.
_PAUSE_SECONDS: Final = 0.0005


def open_lock(path: Path) -> int:
    """The descriptor of the lock of a SQLite file, made if need be. Raises `StoreRefused` when that cannot be."""
    lock, flags = f"{path}-lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            made = os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            # Its maker may have gone meanwhile, and taken it along.
            return os.open(lock, flags | os.O_CREAT, 0o600)
        with suppress(OSError):
            give_to_owner_of(path, made)
        return made
    except OSError as error:
        raise StoreRefused(
            f"{path}-lock cannot be opened ({error.strerror}); it has to be a file that only the owner may write"
        ) from error


def give_to_owner_of(path: Path, made: int | Path) -> None:
    """Let what root made belong to whom a file belongs, or the directory it is in: it must not shut its user out."""
    if os.geteuid() == 0:
        owner = (path if os.path.lexists(path) else path.parent).lstat()
        os.chown(made, owner.st_uid, owner.st_gid)


def take_turn(lock: int, seconds: float) -> None:
    """Take a lock. Raises `OSError` when others kept it for all that time."""
    limit = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(_PAUSE_SECONDS)
