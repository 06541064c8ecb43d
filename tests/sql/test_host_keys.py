"""An application's foreign keys on sessions: what Holdfast answers when one of them holds on to a row."""

import sqlite3
from pathlib import Path

import asyncpg
import pytest

from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.manager import SessionManager
from holdfast.testing import MovableClock
from tests.conftest import MigratedDatabases


async def refuse(sessions: SessionManager, clock: MovableClock) -> None:
    """Deleting the session of a user is refused in our own words, and the session is still there."""
    clock.advance(2 * sessions.policy.lifetime)
    with pytest.raises(StoreRefused, match="ON DELETE"):
        await sessions.cleanup_expired_sessions()
    with pytest.raises(StoreRefused, match="ON DELETE"):
        await sessions.erase_user("u1")


async def test_a_foreign_key_that_keeps_a_row_is_named_on_sqlite(tmp_path: Path) -> None:
    """A key without ON DELETE makes deleting a refusal with a remedy, not a driver's error."""
    clock = MovableClock()
    async with SessionManager(tmp_path / "sessions.db", clock=clock, sweep_interval=None) as sessions:
        new = await sessions.create_session(user_id="u1")
        with sqlite3.connect(tmp_path / "sessions.db") as host:
            host.execute("CREATE TABLE messages (session_id CHAR(32) REFERENCES sessions (id))")
            host.execute("INSERT INTO messages VALUES (?)", [new.id.replace("-", "")])
        host.close()
        await refuse(sessions, clock)


@pytest.mark.parametrize("migrated_database", [[18]], indirect=True, ids=["18"])
async def test_a_foreign_key_that_keeps_a_row_is_named_on_postgresql(migrated_database: MigratedDatabases) -> None:
    """A key without ON DELETE makes deleting a refusal with a remedy, not a driver's error."""
    clock = MovableClock()
    address = migrated_database(18)
    async with SessionManager(address, clock=clock, sweep_interval=None) as sessions:
        new = await sessions.create_session(user_id="u1")
        host = await asyncpg.connect(address)
        await host.execute("CREATE TABLE messages (session_id uuid REFERENCES sessions (id))")
        await host.execute("INSERT INTO messages VALUES ($1)", new.id)
        await host.close()
        await refuse(sessions, clock)
