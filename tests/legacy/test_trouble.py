"""Locks that others hold, processes that are killed, and the hours at which the clocks change."""

import asyncio
import json
import sqlite3
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast.legacy.store import LegacyStore
from holdfast.legacy.writer import LegacyWriter
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import SqliteAddress
from holdfast.testing.clock import MovableClock
from tests.legacy.old_application import OldSessionManager, legacy_file

COUNTING = """
import asyncio, sys
from holdfast import SessionManager

async def main():
    async with SessionManager(sys.argv[1], sweep_interval=None) as sessions:
        while True:
            session = await sessions.validate_session(sys.argv[2])
            print(session.request_count, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_a_lock_of_the_old_application_is_waited_for(tmp_path: Path, journal_mode: str) -> None:
    """Calls wait while it writes; one that waits in vain hears so at its deadline, and nothing was done."""
    path = legacy_file(tmp_path / "legacy.db", journal_mode)
    token = OldSessionManager(path).create_session("u1")
    async with SessionManager(path, sweep_interval=None, options=StoreOptions(deadline=2.0)) as sessions:
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.execute("BEGIN IMMEDIATE")
            old.execute("UPDATE sessions SET request_count = request_count + 1")
            with pytest.raises(StoreUnavailable):
                await sessions.validate_session(token)
            waiting = asyncio.create_task(sessions.validate_session(token))
            await asyncio.sleep(0)
            old.execute("COMMIT")
        session = await waiting
        assert session is not None
        assert session.request_count == 2


async def test_a_start_waits_for_the_old_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rollback journal a commit keeps readers out: a start that meets long ones goes on after them."""
    path = legacy_file(tmp_path / "legacy.db")
    token = OldSessionManager(path).create_session("u1")
    adopt = LegacyWriter.adopt
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as old:

        def late(writer: LegacyWriter) -> None:
            old.execute("BEGIN EXCLUSIVE")
            # Longer than a call waits for a lock.
            threading.Timer(1.0, old.execute, ["COMMIT"]).start()
            adopt(writer)

        monkeypatch.setattr(LegacyWriter, "adopt", late)
        async with SessionManager(path, sweep_interval=None) as sessions:
            assert await sessions.validate_session(token)


async def test_a_commit_waits_for_the_old_applications_reader(tmp_path: Path) -> None:
    """With a rollback journal a reader holds commits up: the call is made again until it is let through, once."""
    path = legacy_file(tmp_path / "legacy.db")
    old = OldSessionManager(path)
    tokens = [old.create_session("u1") for _ in range(3)]
    async with SessionManager(path, sweep_interval=None) as sessions:
        with closing(sqlite3.connect(path)) as reader:
            cursor = reader.execute("SELECT session_id FROM sessions")
            cursor.fetchone()
            waiting = asyncio.create_task(sessions.validate_session(tokens[0]))
            done, _ = await asyncio.wait([waiting], timeout=1.2)
            assert not done
            cursor.close()
        session = await waiting
        assert session is not None
        assert session.request_count == 1
        row = old.get_session(tokens[0])
        assert row is not None
        assert row[6] == 1


async def test_an_old_applications_call_gets_its_turn(tmp_path: Path) -> None:
    """While Holdfast writes without a break, the old application's default patience is enough."""
    path = legacy_file(tmp_path / "legacy.db")
    old = OldSessionManager(path)
    token = old.create_session("u1")
    stop = threading.Event()
    counted = 0

    def work() -> int:
        for _ in range(20):
            assert old.validate_session(token)
        stop.set()
        return 20

    async with SessionManager(path, sweep_interval=None) as sessions:
        theirs = asyncio.create_task(asyncio.to_thread(work))
        while not stop.is_set() and not theirs.done():
            assert await sessions.validate_session(token)
            counted += 1
        session = await sessions.get_session(token)
        assert session is not None
        assert session.request_count == counted + await theirs


async def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL amid writing: the count is what was acknowledged or one more, and the others go on."""
    path = legacy_file(tmp_path / "legacy.db")
    old = OldSessionManager(path)
    token = old.create_session("u1")
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COUNTING, str(path), token), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(30)]
        process.kill()
        lines += (await process.communicate())[0].splitlines()
        acknowledged = int([line for line in lines if line.strip()][-1])
        row = old.get_session(token)
        assert row is not None
        assert acknowledged <= row[6] <= acknowledged + 1
    async with SessionManager(path, sweep_interval=None) as sessions:
        assert await sessions.validate_session(token)


@pytest.mark.parametrize("day", [datetime(2027, 10, 31, tzinfo=UTC), datetime(2027, 3, 28, tzinfo=UTC)], ids=str)
async def test_nobody_is_logged_out_by_a_change_of_the_clocks(tmp_path: Path, day: datetime) -> None:
    """Sessions that begin, go on and end around it live for their lifetime, and at most two hours longer."""
    path = legacy_file(tmp_path / "legacy.db")
    clock = MovableClock()
    store = LegacyStore(SqliteAddress(path), StoreOptions(), ZoneInfo("Europe/Berlin"))
    async with SessionManager(store, clock=clock, sweep_interval=None, session_ttl_hours=1.5) as sessions:
        clock.advance(day - timedelta(hours=3) - await sessions.ping())
        made: dict[str, datetime] = {}
        for _ in range(15):
            now = await sessions.ping()
            made[(await sessions.create_session("u1")).token] = now
            live = 0
            for token, begun in made.items():
                session = await sessions.validate_session(token)
                age = now - begun
                assert session is not None or age > timedelta(hours=1.4)
                assert session is None or age < timedelta(hours=3.6)
                assert session is None or session.last_activity <= await sessions.ping()
                live += session is not None
            assert await sessions.get_active_session_count() == live == len(await sessions.list_sessions(limit=100))
            await sessions.sweep()
            assert await sessions.get_active_session_count() == live
            clock.advance(timedelta(minutes=25))


async def test_a_file_from_another_machine_keeps_its_zone(tmp_path: Path, berlin: str) -> None:
    """The application's zone counts, whatever this process's own is."""
    path = legacy_file(tmp_path / "legacy.db")
    token = OldSessionManager(path, ttl_hours=0.5).create_session("u1", json.loads("{}"))
    async with SessionManager(path, sweep_interval=None, options=StoreOptions(legacy_tz="Europe/Berlin")) as sessions:
        assert await sessions.get_session(token)
    # An hour behind: what Berlin wrote lasts an hour longer there, and an hour ahead it is over.
    async with SessionManager(path, sweep_interval=None, options=StoreOptions(legacy_tz="Asia/Tokyo")) as sessions:
        assert await sessions.get_session(token) is None
