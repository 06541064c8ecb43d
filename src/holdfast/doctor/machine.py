"""The machine: versions, the file system below a SQLite file, permissions and space."""

import os
import platform
import shutil
import sqlite3
import stat
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from holdfast.doctor.finding import Finding
from holdfast.sql.sqlite_library import OLDEST_SQLITE, WAL_RESET_FIXED

_MOUNTS: Final = Path("/proc/mounts")
_FOREIGN: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"}
)
_GIGABYTE: Final = 1024**3
_WAL_HEADER: Final = 2


def versions() -> Iterable[Finding]:
    """What runs here."""
    yield Finding("python", "ok", platform.python_version())
    for package in ("sqlalchemy", "asyncpg"):
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "notice", "it is not installed", f"pip install {package}, if you need it")


def sqlite_library(found: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    """Whether the SQLite library is new enough, and free of the WAL-reset race."""
    shown = ".".join(map(str, found))
    fixed = ".".join(map(str, WAL_RESET_FIXED))
    if found < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        return Finding("sqlite", "problem", f"SQLite {shown} is too old", f"use {oldest} or newer")
    if found < WAL_RESET_FIXED:
        what = f"SQLite {shown} has the WAL-reset race; Holdfast's own processes keep off each other"
        return Finding("sqlite", "notice", what, f"let no other program write the file, or use {fixed} or newer")
    return Finding("sqlite", "ok", shown)


def file_system(path: Path, mounts: str | None = None) -> Finding:
    """Whether the file is on this machine: over a network, locks and shared memory do not hold."""
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return Finding("file system", "notice", "it is not known on this system", "keep the file on a local disk")
    kind = _kind(os.path.realpath(path), mounts)
    if kind in _FOREIGN or kind.startswith("fuse.") or kind == "fuse":
        what = f"the file is on {kind}, where locks may not hold and the file may be damaged"
        return Finding("file system", "problem", what, "move it to a local disk, or use PostgreSQL")
    return Finding("file system", "ok", kind or "unknown")


def _kind(path: str, mounts: str) -> str:
    """The type of the mount with the longest name in front of the path; the last one of equals is on top."""
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best[0]):
            best = (place, fields[2])
    return best[1]


def permissions(path: Path) -> Iterable[Finding]:
    """Who else may read the file or replace it, and whether this user may write. Raises nothing."""
    folder = path.absolute().parent
    if not _is_directory(folder):
        above = next(each for each in folder.parents if each == each.parent or _is_directory(each))
        if os.path.lexists(folder) or not os.access(above, os.W_OK | os.X_OK):
            remedy = "check the path, and the permissions of the directories in it"
            yield Finding("directory", "problem", f"{folder} is no directory that this user may make or enter", remedy)
        else:
            yield Finding("directory", "notice", f"{folder} is not there yet", "the first start makes it")
        return
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield Finding("directory", "warning", f"everyone may replace files in {folder}", f"chmod o-w {folder}")
    elif not os.access(folder, os.W_OK | os.X_OK):
        remedy = "SQLite makes files beside its own: give this user the directory"
        yield Finding("directory", "problem", f"this user may not write in {folder}", remedy)
    else:
        yield Finding("directory", "ok", str(folder))
    if not os.path.isfile(path):  # noqa: PTH113 - the method raises where a directory may not be entered
        return
    if not os.access(path, os.R_OK | os.W_OK):
        yield Finding("file", "problem", f"this user may not read and write {path}", "give this user the file")
    elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("file", "warning", "other users of this machine may open the file", f"chmod 600 {path}")
    elif path.stat().st_nlink > 1:
        what = f"{path} has another name, a hard link, and programs that use both damage the file"
        yield Finding("file", "warning", what, "keep one: `find DIRECTORY -samefile FILE` finds the other")
    else:
        yield Finding("file", "ok", "only its owner may open it")


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - the method raises where a directory may not be entered


def space(path: Path) -> Finding:
    """How much room the disk has."""
    place = path.absolute().parent
    while not _is_directory(place):
        place = place.parent
    free = shutil.disk_usage(place).free
    what = f"{free / _GIGABYTE:.1f} GiB are free"
    if free < _GIGABYTE:
        return Finding("disk", "problem" if free < _GIGABYTE // 10 else "warning", what, "make room on the disk")
    return Finding("disk", "ok", what)


def journal(path: Path, *, legacy: bool) -> Finding:
    """The journal mode, from the file's header: nothing is opened."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20:
        return Finding("journal", "notice", "the file is empty", "the first start makes the tables")
    if header[18] == _WAL_HEADER:
        return Finding("journal", "ok", "write-ahead log")
    if legacy:
        return Finding("journal", "notice", "no write-ahead log: left as the application has it")
    remedy = "stop what changed it; the next start of a server sets it again"
    return Finding("journal", "warning", "no write-ahead log: readers and the writer wait for each other", remedy)
