"""A backup on disk: a folder that is there whole or not at all.

`NAME.holdfast/` holds `manifest.json` and the data. Until all of it is written, verified and on the disk the folder
is called `NAME.holdfast.partial`, which nothing takes for a backup.
"""

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from holdfast.backups.manifest import MANIFEST, DataFile, Kind, Manifest, parse
from holdfast.backups.room import room_for
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sql.sqlite_file import make_directory

SUFFIX: Final = ".holdfast"
PARTIAL: Final = ".partial"
NAME: Final = re.compile(r"holdfast-[0-9]{8}T[0-9]{6}Z-[a-z]+-[0-9a-f]{8}\.holdfast")
_CHUNK_BYTES: Final = 1024 * 1024
_ELSEWHERE: Final = ", or give another directory with --directory or HOLDFAST_BACKUP_DIRECTORY"

Tell = Callable[[str, int], None]
"""Hears of every step by its name, and how many rows are done."""
COUNTED: Final = "counted"
"""The step that says how many rows the next one will have; 0 when that is not known."""


def tell_nobody(_step: str, _rows: int) -> None:
    """For callers that do not ask how far it is."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is there, whole."""

    path: Path
    manifest: Manifest


def _prepare(directory: Path) -> None:
    """Make the directory, owner-only. Raises `StoreRefused` for what is none, and for one that others may write to."""
    try:
        if os.path.lexists(directory) and not directory.is_dir():
            raise StoreRefused(f"{directory} is not a directory; give another one with --directory")
        make_directory(directory)
        refuse_open(directory.resolve())
    except OSError as error:
        raise StoreUnavailable(
            f"the directory {directory} cannot be used ({error.strerror}); check its owner and mode{_ELSEWHERE}"
        ) from error


def refuse_open(path: Path) -> None:
    """Raise `StoreRefused` for what others may change: they could put sessions of their own into it."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StoreRefused(f"{path} is a symbolic link; give the path of what it leads to")
    # Root may be at work for the user whose store it is.
    if (os.geteuid() and found.st_uid not in (os.geteuid(), 0)) or found.st_mode & 0o022:
        raise StoreRefused(f"others than the owner may change {path}; own it, and take it from them with `chmod go-w`")


@contextmanager
def new_archive(directory: Path, kind: Kind, now: datetime, needed: int) -> Iterator[Path]:
    """A folder to write a backup of about so many bytes into, gone if that fails; `publish` makes it count.

    The directory is made if need be, owner-only. Raises `StoreRefused` for what is no directory and for one that others
    may write to, `StoreUnavailable` when there is no room in it.
    """
    _prepare(directory)
    name = f"holdfast-{now:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(4)}{SUFFIX}"
    folder = directory / f"{name}{PARTIAL}"
    with room_for(needed, directory, _ELSEWHERE):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, manifest: Manifest, tell: Tell) -> Backup:
    """Describe what was written, bring it to the disk, and only then give it its name."""
    path = folder.with_name(folder.name.removesuffix(PARTIAL))
    owner_only(folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    tell("described", 0)
    for each in sorted(folder.iterdir()):
        sync(each)
    sync(folder)
    tell("synced", 0)
    folder.rename(path)
    sync(path.parent)
    tell("published", 0)
    return Backup(path, manifest)


def read(path: Path) -> Backup:
    """The backup in a folder. Raises `StoreRefused` for anything else; the data is not looked at yet."""
    if path.name.endswith(PARTIAL):
        raise StoreRefused(f"{path} is a backup that was never finished; `holdfast db prune` clears it away")
    try:
        refuse_open(path)
        text = (path / MANIFEST).read_bytes()
    except OSError as error:
        reason = "does not exist" if not os.path.lexists(path) else "has no manifest: it is no backup of Holdfast's"
        raise StoreRefused(f"{path} {reason}") from error
    return Backup(path, parse(text, path))


def verify(backup: Backup) -> None:
    """Raise `StoreRefused` unless every file is there as it was written."""
    for name, file in backup.manifest.files.items():
        path = backup.path / name
        try:
            refuse_open(path)
            size, digest = hashed(path)
        except OSError as error:
            raise StoreRefused(f"the backup {backup.path} is damaged: {name} cannot be read; use another") from error
        if (size, digest) != (file.size, file.sha256):
            raise StoreRefused(f"the backup {backup.path} is damaged: {name} is not as it was written; use another")


def described(path: Path, rows: dict[str, int], columns: list[str] | None = None) -> DataFile:
    """A finished file for the manifest."""
    size, digest = hashed(path)
    return DataFile(digest, size, rows, columns or [])


def hashed(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file. It may not be a symbolic link."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def owner_only(path: Path) -> Path:
    """Make an empty file that only its owner may open, whatever the umask."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return path


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
