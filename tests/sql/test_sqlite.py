"""What only the SQLite store does: readers that cannot write, one thread that does, and a quiet start and end."""

import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from holdfast import SessionManager, StoreOptions, StoreRefused, StoreUnavailable
from holdfast.sql.sqlite import SqliteStore
from holdfast.sql.sqlite_file import size_of


def store_of(manager: SessionManager) -> SqliteStore:
    """The store of an open manager."""
    store = manager.store
    assert isinstance(store, SqliteStore)
    return store


def names_in(folder: Path) -> list[str]:
    """The files of a folder."""
    return sorted(each.name for each in folder.iterdir())


def test_a_log_that_goes_meanwhile_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may be the last to close the file while its size is asked: that is no failure."""
    path, log = tmp_path / "sessions.db", tmp_path / "sessions.db-wal"
    for each in (path, log):
        each.write_bytes(b"1234")
    assert size_of(path) == 8
    stat = Path.stat

    def late(self: Path) -> os.stat_result:
        if self == log:
            log.unlink()
        return stat(self)

    monkeypatch.setattr(Path, "stat", late)
    assert size_of(path) == 4


async def test_readers_cannot_write(tmp_path: Path) -> None:
    """F-43: every write of a process goes through the one writer: a reader's connection refuses to."""
    async with SessionManager(tmp_path / "sessions.db", sweep_interval=None) as manager:
        async with store_of(manager)._readers.connect() as connection:
            with pytest.raises(OperationalError, match="readonly"):
                await connection.execute(text("DELETE FROM sessions"))
        await manager.ping()


async def test_closing_leaves_nothing(tmp_path: Path) -> None:
    """I-12: no thread and no log is left, and the store can be opened again, as often as one likes."""
    path = tmp_path / "sessions.db"
    before = set(threading.enumerate())
    manager = SessionManager(path, sweep_interval=None)
    for number in range(3):
        async with manager:
            await manager.create_session("u1")
            assert await manager.get_active_session_count() == number + 1
        await manager.close()
        left = [each.name for each in set(threading.enumerate()) - before if not each.name.startswith("asyncio_")]
        assert left == []
        assert names_in(tmp_path) == ["sessions.db", "sessions.db-lock"]


async def test_a_start_that_failed_may_be_repeated(tmp_path: Path) -> None:
    """Contract of `open`: refused, it has kept nothing open; what was wrong mended, the same store opens."""
    path = tmp_path / "sessions.db"
    path.mkdir()
    manager = SessionManager(path, sweep_interval=None)
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await manager.open()
    path.rmdir()
    async with manager:
        await manager.create_session("u1")


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    """Promise 7: a call that comes after the end is refused, and makes no file."""
    manager = SessionManager(tmp_path / "sessions.db", sweep_interval=None)
    async with manager:
        store = store_of(manager)
    with pytest.raises(StoreUnavailable, match=r"is closed|is not open"):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await manager.create_session()


async def test_without_upgrade_no_file_is_made(tmp_path: Path) -> None:
    """Schema: where the operator says when, a missing file is not made by a start."""
    path = tmp_path / "data" / "sessions.db"
    with pytest.raises(StoreRefused, match="cannot be opened"):
        await SessionManager(path, options=StoreOptions(upgrade=False)).open()
    assert names_in(tmp_path) == []
