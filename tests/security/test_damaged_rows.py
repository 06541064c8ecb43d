"""S-60, S-18: rows that another program has spoilt open nothing and run nothing; expiry needs no sweep."""

import asyncio
import pickle
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from holdfast import SessionManager, StoreRefused
from holdfast.sessions.tokens import digest_of_new
from holdfast.testing import MovableClock
from tests.conftest import MigratedDatabases

REPORTED = (StoreRefused, ValueError)
"""How a row that cannot be read is reported: its metadata by name, other damage as what it is; never by an answer."""


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def damages(mark: Path) -> dict[str, tuple[str, Any]]:
    """What is written into which column."""
    trap = pickle.dumps(Trap(mark))
    return {
        "pickle as a blob": ("metadata", trap),
        "pickle as text": ("metadata", trap.decode("latin-1")),
        "a blob": ("metadata", b"\xff\xfe\x00"),
        "an empty text": ("metadata", ""),
        "broken JSON": ("metadata", '{"a":'),
        "a list": ("metadata", "[1]"),
        "a number": ("metadata", 7),
        "deep JSON": ("metadata", "[" * 100_000),
        "code": ("metadata", "__import__('os').system('true')"),
        "a time of text": ("expires_at", "zzz"),
        "a time past all calendars": ("expires_at", 2**62),
        "a count of text": ("request_count", "many"),
        "an activity of text": ("last_activity", "zzz"),
        "an id of text": ("id", "not an id at all"),
    }


CASES = list(damages(Path("mark")))


@pytest_asyncio.fixture
async def manager(tmp_path: Path) -> AsyncIterator[SessionManager]:
    """An open manager on a file."""
    async with SessionManager(tmp_path / "sessions.db", sweep_interval=None) as opened:
        yield opened


def spoil(path: Path, token: str, column: str, value: Any) -> None:
    """Write it behind the store's back."""
    with sqlite3.connect(path) as connection:
        digest = digest_of_new(token)
        cursor = connection.execute(f"UPDATE sessions SET {column} = ? WHERE digest = ?", (value, digest))
        assert cursor.rowcount == 1
    connection.close()


@pytest.mark.parametrize("case", CASES)
async def test_a_spoilt_row_fails_alone(case: str, manager: SessionManager, tmp_path: Path) -> None:
    """S-60: in a batch of many callers those of the spoilt row get an error, and all others their answers."""
    mark = tmp_path / "mark"
    column, value = damages(mark)[case]
    tokens = [(await manager.create_session(f"u{number}", {"n": number})).token for number in range(5)]
    bad = tokens[2]
    spoil(tmp_path / "sessions.db", bad, column, value)
    outcomes = await asyncio.gather(
        *(manager.validate_session(token) for token in tokens * 4),
        manager.create_session("u9"),
        return_exceptions=True,
    )
    for token, outcome in zip(tokens * 4, outcomes, strict=False):
        if token != bad:
            assert not isinstance(outcome, BaseException), outcome
            assert outcome is not None
        elif column != "request_count":
            # A text that counts as a number is one: the only damage that SQLite itself mends.
            assert outcome is None or isinstance(outcome, REPORTED), outcome
    assert not isinstance(outcomes[-1], BaseException)
    for read in (manager.get_session, manager.validate_session):
        if column in ("metadata", "expires_at", "id"):
            with suppress(*REPORTED):
                assert await read(bad) is None
    assert not mark.exists()
    # The store goes on, and the spoilt session can be got rid of.
    assert await manager.validate_session(tokens[0]) is not None
    assert await manager.revoke_user_sessions("u0") == 1
    if column != "id":
        await manager.store.erase_user("u2")
        assert await manager.why_ended(bad) == "unknown"


async def test_a_store_without_its_control_row_is_refused(manager: SessionManager, tmp_path: Path) -> None:
    """S-60: nobody knows then who may write, so nobody does; the text says what to do."""
    token = (await manager.create_session("u1")).token
    with sqlite3.connect(tmp_path / "sessions.db") as connection:
        connection.execute("DELETE FROM holdfast_control")
    connection.close()
    with pytest.raises(StoreRefused, match="control row is missing; restore a backup"):
        await manager.validate_session(token)


@pytest.mark.parametrize("value", ["[1]", "7", '"text"', "null"])
async def test_a_spoilt_row_of_postgresql_fails_alone(value: str, migrated_database: MigratedDatabases) -> None:
    """S-60: jsonb holds no garbage, but things that are no object: an error for that session's callers alone."""
    address = migrated_database(None)
    async with SessionManager(address, sweep_interval=None) as manager:
        tokens = [(await manager.create_session(f"u{number}")).token for number in range(3)]
        connection = await asyncpg.connect(address)
        await connection.execute("UPDATE sessions SET metadata = $1 WHERE digest = $2", value, digest_of_new(tokens[1]))
        await connection.close()
        outcomes = await asyncio.gather(*map(manager.validate_session, tokens * 3), return_exceptions=True)
        for token, outcome in zip(tokens * 3, outcomes, strict=True):
            assert isinstance(outcome, REPORTED) if token == tokens[1] else not isinstance(outcome, BaseException)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_expiry_needs_no_sweep(database: str, tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """S-18: with the sweep off an expired or idle session opens nothing, and is in no count and no list."""
    clock = MovableClock()
    address = tmp_path / "sessions.db" if database == "sqlite" else migrated_database(None)
    idle = timedelta(minutes=10)
    async with SessionManager(
        address, sweep_interval=None, session_ttl_hours=1, idle_timeout=idle, clock=clock
    ) as manager:
        new = await manager.create_session("u1")
        clock.advance(timedelta(minutes=9))
        assert await manager.validate_session(new.token) is not None
        clock.advance(timedelta(minutes=11))
        await is_dead(manager, new.token, new.id, "idle")
        other = await manager.create_session("u1")
        for _ in range(7):
            clock.advance(timedelta(minutes=9))
            await manager.validate_session(other.token)
        await is_dead(manager, other.token, other.id, "expired")
        if database == "sqlite":
            with sqlite3.connect(address) as connection:
                assert connection.execute("SELECT count(*) FROM sessions WHERE ended_at IS NULL").fetchone() == (2,)
            connection.close()


async def is_dead(manager: SessionManager, token: str, id: str, why: str) -> None:
    """Every way to use or see a session."""
    assert await manager.validate_session(token) is None
    assert await manager.get_session(token) is None
    assert await manager.get_by_id(id) is None
    assert await manager.extend_session(token) is None
    assert await manager.rotate_session(token) is None
    assert await manager.update_metadata(token, {"a": 1}) is None
    assert await manager.create_ticket(token) is None
    assert await manager.list_sessions("u1") == []
    assert await manager.get_active_session_count() == 0
    assert await manager.delete_session(token) is False
    assert await manager.revoke_user_sessions("u1") == 0
    assert await manager.why_ended(token) == why
