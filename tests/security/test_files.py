"""S-75: what lies on the disk belongs to one user, and leads nowhere else."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import SessionManager, StoreOptions, StoreRefused
from holdfast.doctor.machine import permissions
from holdfast.sql import schema


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Whatever is made without care is open to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def opened(path: Path, **options: bool) -> SessionManager:
    """A manager that sweeps only when told to."""
    return SessionManager(path, sweep_interval=None, options=StoreOptions(**options))  # type: ignore[arg-type]  # flags


def mode(path: Path) -> int:
    """Who may do what."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("no_umask")
async def test_files_are_the_owners_whatever_the_umask(tmp_path: Path) -> None:
    """S-75: file, log, shared memory and lock 0600; every directory made on the way 0700."""
    path = tmp_path / "one" / "two" / "three" / "sessions.db"
    async with opened(path) as manager:
        token = (await manager.create_session("u1")).token
        await manager.get_session(token)
        found = {each.name: mode(each) for each in path.parent.iterdir()}
        assert found == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db-lock"), 0o600)
    for folder in list(path.parents)[:3]:
        assert mode(folder) == 0o700
    async with opened(path):
        assert {mode(each) for each in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-lock"])
@pytest.mark.parametrize("target", ["existing", "dangling"])
async def test_links_are_refused(suffix: str, target: str, tmp_path: Path) -> None:
    """S-75: neither the file nor one of those beside it is followed to where another user wants it."""
    victim = tmp_path / "victim"
    if target == "existing":
        victim.write_bytes(b"precious")
    path = tmp_path / "sessions.db"
    if suffix:
        await schema.upgrade(path)
    path.with_name(f"sessions.db{suffix}").symlink_to(victim)
    for upgrade in (True, False):
        with pytest.raises(StoreRefused, match="is a symbolic link"):
            await opened(path, upgrade=upgrade).open()
    with pytest.raises(StoreRefused, match="is a symbolic link"):
        await schema.upgrade(path)
    assert (victim.read_bytes() if victim.exists() else None) == (b"precious" if target == "existing" else None)


async def test_a_link_that_comes_later_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-75: the lock file is opened without following, whoever put a link there after the look."""
    path, victim = tmp_path / "sessions.db", tmp_path / "victim"
    victim.write_bytes(b"precious")
    path.with_name("sessions.db-lock").symlink_to(victim)
    monkeypatch.setattr("holdfast.sql.sqlite_file._refuse_links", lambda _: None)
    with pytest.raises(StoreRefused, match=r"sessions\.db-lock cannot be opened"):
        await opened(path).open()
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("what", ["directory", "pipe", "file as directory"])
async def test_what_is_not_a_file_is_refused(what: str, tmp_path: Path) -> None:
    """S-75: a directory, a pipe, a path through a file: a clear text, and nobody waits for the pipe."""
    path = tmp_path / "sessions.db"
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"")
        path = path / "sessions.db"
    text = "cannot be made|cannot be opened" if what == "file as directory" else "is not a file"
    with pytest.raises(StoreRefused, match=text):
        await opened(path).open()
    with pytest.raises(StoreRefused, match=text):
        await opened(path, upgrade=False).open()


async def test_an_open_file_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S-75: a file that others may read is served, and the operator is told once how to close it."""
    path = tmp_path / "sessions.db"
    await schema.upgrade(path)
    path.chmod(0o644)
    caplog.clear()
    async with opened(path):
        pass
    warnings = [record.getMessage() for record in caplog.records if "chmod 600" in record.getMessage()]
    assert len(warnings) == 1
    assert str(path) in warnings[0]


async def test_a_second_name_of_the_file_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log is found by the name of its file: two programs with a name each would write one file past each other."""
    path, other = tmp_path / "sessions.db", tmp_path / "other.db"
    await schema.upgrade(path)
    other.hardlink_to(path)
    for each in (path, other):
        caplog.clear()
        async with opened(each):
            pass
        warnings = [record.getMessage() for record in caplog.records if "hard link" in record.getMessage()]
        assert len(warnings) == 1
        assert str(each) in warnings[0]
        assert {found.name: found.level for found in permissions(each)}["file"] == "warning"
