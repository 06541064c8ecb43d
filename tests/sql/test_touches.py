"""Touches that one transaction of SQLite's writer counts together."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from holdfast import SessionManager, StoreRefused
from holdfast.sessions.store import Key
from holdfast.sessions.tokens import digest_of_new


@pytest_asyncio.fixture
async def manager(tmp_path: Path) -> AsyncIterator[SessionManager]:
    """A manager whose rotation has a grace."""
    path = tmp_path / "sessions.db"
    async with SessionManager(path, sweep_interval=None, rotation_grace=timedelta(seconds=10)) as opened:
        yield opened


def run(path: Path, statement: str) -> list[Any]:
    """What a statement answers that another program sends."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


async def test_every_key_of_a_session_counts(manager: SessionManager, tmp_path: Path) -> None:
    """Promise 5: by its id, its digest and its former one at once it is counted for all, and all are told the sum."""
    first = await manager.create_session()
    second = await manager.rotate_session(first.token)
    assert second is not None
    other = await manager.create_session()
    digests = digest_of_new(first.token), digest_of_new(second.token), digest_of_new(second.token)
    keys: list[Key] = [UUID(first.id), *digests, digest_of_new(other.token)]
    records = await asyncio.gather(*map(manager.store.touch, keys))
    assert [record and record.request_count for record in records] == [4, 4, 4, 4, 1]
    counts = run(tmp_path / "sessions.db", "SELECT request_count FROM sessions ORDER BY id")
    assert counts == [(4,), (1,)]


@pytest.mark.parametrize("damage", ["created_at = 'x'", "request_count = 'x'", "metadata = x'00'"])
async def test_a_damaged_row_fails_alone(damage: str, manager: SessionManager, tmp_path: Path) -> None:
    """F-48: who touches it is told so and it stays as it was; the others of the batch are counted."""
    bad, good = await manager.create_session(), await manager.create_session()
    run(tmp_path / "sessions.db", f"UPDATE sessions SET {damage} WHERE id = '{UUID(bad.id).hex}'")
    before = run(tmp_path / "sessions.db", f"SELECT * FROM sessions WHERE id = '{UUID(bad.id).hex}'")
    refused, session = await asyncio.gather(
        manager.validate_session(bad.token), manager.validate_session(good.token), return_exceptions=True
    )
    assert isinstance(refused, StoreRefused)
    assert "damaged row" in str(refused)
    assert getattr(session, "request_count", None) == 1
    assert run(tmp_path / "sessions.db", f"SELECT * FROM sessions WHERE id = '{UUID(bad.id).hex}'") == before


async def test_a_count_that_is_not_written_is_not_acknowledged(manager: SessionManager, tmp_path: Path) -> None:
    """Promise 5: another program's trigger may keep a row as it is, but not have it told otherwise."""
    new = await manager.create_session()
    run(tmp_path / "sessions.db", "CREATE TRIGGER kept BEFORE UPDATE ON sessions BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(Exception, match="could not be written"):
        await manager.validate_session(new.token)
    run(tmp_path / "sessions.db", "DROP TRIGGER kept")
    session = await manager.validate_session(new.token)
    assert session is not None
    assert session.request_count == 1


async def test_an_activity_is_later_than_the_rotation_before_it(manager: SessionManager, tmp_path: Path) -> None:
    """S-16: so that a replaced token's use is noticed, although the clock showed no later time to its successor's."""
    first = await manager.create_session()
    second = await manager.rotate_session(first.token)
    assert second is not None
    # As in the same step of the clock, whatever the machine does meanwhile.
    run(tmp_path / "sessions.db", "UPDATE sessions SET replaced_at = replaced_at + 60000000")
    assert await manager.validate_session(second.token) is not None
    [(seen, replaced)] = run(tmp_path / "sessions.db", "SELECT last_activity, replaced_at FROM sessions")
    assert seen == replaced + 1
