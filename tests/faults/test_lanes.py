"""Nothing that is slow keeps the joined calls from their connections, and nothing that piles up stops the sweep."""

import asyncio
import os
import signal
import sqlite3
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import Overloaded, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import StoreOptions
from holdfast.sessions.tokens import new_ticket
from holdfast.sql.stores import store_at
from holdfast.testing import MovableClock
from tests.conftest import MigratedDatabases
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch


@pytest.fixture
def address(migrated_database: MigratedDatabases) -> str:
    """A database of PostgreSQL."""
    return migrated_database(None)


async def test_slow_plain_calls_leave_the_lanes_their_connections(address: str) -> None:
    """F-16: with every plain connection held by a slow call, create and validate connect and answer all the same."""
    async with SessionManager(address, options=StoreOptions(connections=2), sweep_interval=None) as sessions:
        blocker = await asyncpg.connect(address)
        try:
            await blocker.execute("BEGIN; LOCK TABLE holdfast_control")
            store = sessions.store
            # They wait for the locked table; six ask for the two connections that there are for plain calls.
            slow = [asyncio.create_task(store.expect_hooks()) for _ in range(6)]
            query = (
                "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%control%'"
            )
            watching = await asyncpg.connect(address)
            await eventually(lambda: watching.fetchval(query), what="both plain connections wait")
            await watching.close()
            watch = Stopwatch()
            new = await sessions.create_session()
            assert await sessions.validate_session(new.token)
            # Whoever waits for a connection that others hold gives up after two seconds.
            assert watch.seconds < 2.0
        finally:
            blocker.terminate()
        answers = await asyncio.gather(*slow, return_exceptions=True)
        assert all(answer is None or isinstance(answer, Overloaded) for answer in answers)


async def test_slow_plain_calls_leave_the_watches_theirs(address: str) -> None:
    """Promise 6: with every plain connection held by a slow call, an end made elsewhere is heard of in time."""
    options = StoreOptions(connections=2)
    async with (
        SessionManager(address, options=options, sweep_interval=None) as here,
        SessionManager(address, options=options, sweep_interval=None) as there,
    ):
        first, second = await there.create_session(), await there.create_session()
        blocker = await asyncpg.connect(address)
        try:
            async with here.watch(first.token) as one, here.watch(second.token) as two:
                await eventually(lambda: here.watches.channel == "push", what="it listens")
                assert await there.end_session(first.id)
                assert await asyncio.wait_for(one.wait(), 10) is not None
                await blocker.execute("BEGIN; LOCK TABLE holdfast_control")
                slow = [asyncio.create_task(here.store.expect_hooks()) for _ in range(6)]
                watching = await asyncpg.connect(address)
                query = "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                await eventually(lambda: watching.fetchval(query), what="both plain connections wait")
                await watching.close()
                assert await there.end_session(second.id)
                acknowledged = Stopwatch()
                assert await asyncio.wait_for(two.wait(), 10) is not None
                assert acknowledged.seconds < 1.0
        finally:
            blocker.terminate()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_made_up_tickets_leave_log_outs_their_connections(address: str) -> None:
    """Whoever makes tickets up needs no session. They wait for each other, and a log-out does not wait for them."""
    async with SessionManager(address, options=StoreOptions(connections=2), sweep_interval=None) as sessions:
        new = await sessions.create_session()
        blocker = await asyncpg.connect(address)
        try:
            await blocker.execute("BEGIN; LOCK TABLE holdfast_tickets")
            slow = [asyncio.create_task(sessions.redeem_ticket(new_ticket())) for _ in range(50)]
            watching = await asyncpg.connect(address)
            query = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await eventually(lambda: watching.fetchval(query), what="a ticket waits")
            await watching.close()
            watch = Stopwatch()
            assert await sessions.delete_session(new.token)
            # Whoever waits for a connection that others hold gives up after two seconds.
            assert watch.seconds < 2.0
        finally:
            blocker.terminate()
        answers = await asyncio.gather(*slow, return_exceptions=True)
        assert all(answer is None or isinstance(answer, StoreUnavailable) for answer in answers)


async def test_slow_readings_leave_the_watches_of_a_file_theirs(tmp_path: Path) -> None:
    """Promise 6: while every reader of a SQLite file is busy, an end made elsewhere is heard of in time."""
    path = tmp_path / "sessions.db"
    async with SessionManager(path, sweep_interval=None) as here, SessionManager(path, sweep_interval=None) as there:
        first, second = await there.create_session(), await there.create_session()
        async with here.watch(first.token) as one, here.watch(second.token) as two:
            assert await there.end_session(first.id)
            assert await asyncio.wait_for(one.wait(), 10) is not None
            store = here.store
            busy: list[None] = []
            over = threading.Event()

            def hold() -> None:
                busy.append(None)
                over.wait(60)

            def reading(connection: Connection) -> None:
                # As long as a query takes that is slow; but what others get of the processors is no part of this.
                driver: Any = connection.connection.dbapi_connection
                driver.create_function("hold", 0, hold)
                connection.exec_driver_sql("SELECT hold()").all()

            slow = [asyncio.create_task(store._read(reading)) for _ in range(6)]  # type: ignore[attr-defined]  # of SQL stores
            try:
                await eventually(lambda: len(busy) == 4, what="all readers are busy")
                assert await there.end_session(second.id)
                acknowledged = Stopwatch()
                assert await asyncio.wait_for(two.wait(), 10) is not None
                assert acknowledged.seconds < 1.0
                assert len(busy) == 4
            finally:
                over.set()
                await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_heap_of_old_tickets_is_deleted_in_batches(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Tickets past their time go in batches, before the sessions and apart from them."""
    clock = MovableClock()
    place = str(tmp_path / "sessions.db") if kind == "sqlite" else request.getfixturevalue("address")
    async with SessionManager(place, clock=clock, sweep_interval=None) as sessions:
        new = await sessions.create_session()
        for _ in range(7):
            assert await sessions.create_ticket(new.token)
        clock.advance(timedelta(minutes=1))
        assert await sessions.store.delete_ended(3, timedelta(0), ["revoked"]) == 0
    if kind == "sqlite":
        with sqlite3.connect(place) as connection:
            left = connection.execute("SELECT count(*) FROM holdfast_tickets").fetchone()[0]
        connection.close()
    else:
        plain = await asyncpg.connect(place)
        left = await plain.fetchval("SELECT count(*) FROM holdfast_tickets")
        await plain.close()
    assert left == 0


async def test_a_read_only_file_is_not_announced_as_ready(tmp_path: Path) -> None:
    """F-47: opening asks the disk, because SQLite begins a transaction on a read-only file all the same."""
    path = tmp_path / "sessions.db"
    async with SessionManager(path, sweep_interval=None):
        pass
    store = store_at(path, StoreOptions())
    await store.open(Policy(), Clock())
    try:
        # For root a mode is no obstacle; SQLite's own switch is, on the connection that writes.
        await store._in_thread(store._writer._driver.execute, "PRAGMA query_only = ON")  # type: ignore[attr-defined]  # of SQLite
        store._writer.failing = True  # type: ignore[attr-defined]  # as at the start
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.ping()
    finally:
        await store.close()


async def test_a_forked_child_does_not_keep_the_file_locked(tmp_path: Path) -> None:
    """A child that was forked in the middle of a batch, and outlives its parent, keeps nobody from writing."""
    path = tmp_path / "sessions.db"
    async with SessionManager(path, sweep_interval=None) as dying:
        writer = dying.store._writer  # type: ignore[attr-defined]  # of SQLite
        turn = ExitStack()
        turn.enter_context(writer._turn())
        child = os.fork()
        if child == 0:
            signal.pause()
        # As a process does that dies: it closes what it holds, and unlocks nothing.
        writer.let_go_of_lock()
        try:
            async with SessionManager(path, sweep_interval=None, options=StoreOptions(deadline=10.0)) as sessions:
                assert await sessions.create_session()
        finally:
            os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, child, 0)
            with suppress(ValueError):  # its file is closed already
                turn.close()
