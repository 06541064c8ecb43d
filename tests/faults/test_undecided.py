"""A write that found a session live, and is committed after its time: nobody hears of an end before (promise 2)."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy.dialects.postgresql.asyncpg as asyncpg_dialect

from holdfast import SessionManager, StoreOptions
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import NewSession, Standing
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.inspection import Inspection
from holdfast.sql import schema
from holdfast.sql.statements import Statements
from holdfast.sql.tables import tables
from holdfast.testing.clock import MovableClock
from tests.faults.bench import Truth, row_locked
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch

HOUR = 3600
OPTIONS = StoreOptions(deadline=10.0)
# What an extension and a touch write, by somebody who found the session live.
WRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "extension": ("expires_at = expires_at + {hour}", {}),
    "touch": ("last_activity = last_activity + {hour}", {"idle_timeout": HOUR, "session_ttl_hours": 24}),
}
Kind = Literal["sqlite", "postgresql"]


class Held:
    """A write that is decided and done, and not committed."""

    def __init__(self, finish: Callable[[str], Any]) -> None:
        self._finish = finish

    async def end(self, how: Literal["COMMIT", "ROLLBACK"]) -> None:
        """Commit it, or take it back."""
        answer = self._finish(how)
        if asyncio.iscoroutine(answer):
            await answer


class Bench:
    """One store, of either kind, and somebody who writes to it."""

    def __init__(self, kind: Kind, address: str) -> None:
        self.kind = kind
        self._address = address

    def manager(self, clock: MovableClock, **settings: Any) -> SessionManager:
        """A manager that is not open. Its sessions live for an hour, and it sweeps only when told to."""
        settings = {"session_ttl_hours": 1, "sweep_interval": None, **settings}
        return SessionManager(self._address, clock=clock, options=OPTIONS, **settings)

    def held(self, change: str) -> "AbstractAsyncContextManager[Held]":
        """Change every session, and hold back the commit."""
        return self._held_there(change) if self.kind == "postgresql" else self._held_here(change)

    @asynccontextmanager
    async def _held_there(self, change: str) -> AsyncIterator[Held]:
        connection = await asyncpg.connect(self._address)
        try:
            await connection.execute("BEGIN")
            await connection.execute("UPDATE sessions SET " + change.format(hour="interval '1 hour'"))
            yield Held(connection.execute)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _held_here(self, change: str) -> AsyncIterator[Held]:
        connection = sqlite3.connect(self._address, isolation_level=None, timeout=10)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE sessions SET " + change.format(hour=HOUR * 1_000_000))
            yield Held(connection.execute)
        finally:
            connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Both kinds of store, one after the other."""
    kind: Kind = request.param
    if kind == "sqlite":
        asyncio.run(schema.upgrade(tmp_path / "sessions.db"))
        yield Bench(kind, str(tmp_path / "sessions.db"))
    else:
        yield Bench(kind, request.getfixturevalue("database"))


@pytest.fixture
def clock() -> MovableClock:
    """The clock that moves the time of this test's store."""
    return MovableClock()


async def standing(manager: SessionManager, new: NewSession) -> Standing:
    """How a session stands, as the store has it."""
    return await manager.store.standing([UUID(new.id)])


@pytest.mark.parametrize("write", WRITES)
async def test_what_is_prolonged_at_its_end_lives_on(bench: Bench, clock: MovableClock, write: str) -> None:
    """While the commit is under way the store is unsure; a watch waits for it, and hears of no end."""
    change, settings = WRITES[write]
    async with bench.manager(clock, **settings) as manager:
        new = await manager.create_session("u1")
        async with manager.watch(new.token) as watch:
            attachment = watch._attachment
            assert attachment is not None
            await attachment.look()
            async with bench.held(change) as held:
                clock.advance(HOUR)
                found = await standing(manager, new)
                assert (found.live, found.ended, set(found.unsure)) == ([], [], {UUID(new.id)})
                looking = asyncio.create_task(attachment.look())
                for _ in range(2):
                    await eventually(lambda: bool(manager.watches._unsure), what="a look left it open")
                    manager.watches._suspect_unsure()
                assert not looking.done()
                assert not attachment.end.done()
                await held.end("COMMIT")
            await asyncio.wait_for(looking, 10)
            assert not attachment.end.done()
        assert await manager.get_session(new.token)
        assert [id for id, _ in (await standing(manager, new)).live] == [UUID(new.id)]


@pytest.mark.parametrize("asks", ["message", "extension"])
async def test_a_message_that_comes_meanwhile_closes_no_socket(bench: Bench, clock: MovableClock, asks: str) -> None:
    """A message after the end, and before the commit that prolongs the session, is passed on once that is there."""
    async with bench.manager(clock) as manager:
        new = await manager.create_session("u1")
        session = await manager.get_session(new.token)
        assert session is not None
        asked_at = asyncio.get_running_loop().time()
        attachment = manager.watches.attach(session, asked_at)
        inspection = Inspection(manager, GuardOptions(validate_every=0), session, attachment, asked_at)
        await attachment.look()
        async with bench.held(WRITES["extension"][0]) as held:
            clock.advance(HOUR)
            call = inspection.examined("hello") if asks == "message" else inspection.extended()
            passing = asyncio.ensure_future(call)
            if bench.kind == "postgresql":
                await eventually(lambda: bool(manager.watches._unsure), what="a look left it open")
            assert not passing.done()
            await held.end("COMMIT")
        closing = await asyncio.wait_for(passing, 10)
        assert closing is None or (isinstance(closing, tuple) and closing[0] is None)
        attachment.close()


async def test_what_is_not_prolonged_after_all_has_ended(bench: Bench, clock: MovableClock) -> None:
    """Taken back, the write leaves an end at the time at which the session expired, and a watch hears of it."""
    async with bench.manager(clock) as manager:
        new = await manager.create_session("u1")
        async with manager.watch(new.token) as watch:
            async with bench.held(WRITES["extension"][0]) as held:
                clock.advance(HOUR)
                assert (await standing(manager, new)).unsure
                await held.end("ROLLBACK")
            end = await asyncio.wait_for(watch.wait(), 10)
            assert end is not None
            assert (end.reason, end.ended_at) == ("expired", new.expires_at)


async def test_a_write_that_is_never_committed_keeps_no_socket_open(bench: Bench, clock: MovableClock) -> None:
    """Within ten seconds of its time the session counts as ended, whoever holds its row (promise 6)."""
    async with bench.manager(clock) as manager:
        new = await manager.create_session("u1")
        async with manager.watch(new.token) as watch, bench.held(WRITES["extension"][0]):
            clock.advance(HOUR)
            assert (await standing(manager, new)).unsure
            clock.advance(9)
            end = await asyncio.wait_for(watch.wait(), 10)
            assert end is not None
            assert (end.reason, end.ended_at) == ("expired", new.expires_at)


async def test_another_row_that_is_held_delays_no_end(database: str, clock: MovableClock) -> None:
    """Of two sessions that run out at once, one of them held by somebody, PostgreSQL tells the other's end."""
    async with Bench("postgresql", database).manager(clock) as manager:
        held, free = [await manager.create_session("u1") for _ in range(2)]
        async with row_locked(database, held.id):
            clock.advance(HOUR + 1)
            found = await manager.store.standing([UUID(held.id), UUID(free.id)])
            assert [end.id for end in found.ended] == [free.id]
            assert set(found.unsure) == {UUID(held.id)}


async def test_a_table_that_a_move_closes_keeps_no_look_waiting(
    database: str, facts: Truth, clock: MovableClock
) -> None:
    """While a mover holds the table of a run-out session, however often that is looked at, the other looks go on."""
    async with Bench("postgresql", database).manager(clock) as manager:
        new, other = await manager.create_session("u1"), await manager.create_session("u1")
        assert await manager.extend_session(other.token, 24)
        session = await manager.get_session(new.token)
        assert session is not None
        watching = manager.watches.attach(session).end
        async with facts.connection.transaction():
            await facts.run("LOCK TABLE sessions IN SHARE ROW EXCLUSIVE MODE")
            clock.advance(HOUR + 1)
            await eventually(lambda: bool(manager.watches._unsure), what="the end was left open")
            took = Stopwatch()
            for _ in range(5):
                found = await manager.store.standing([UUID(new.id), UUID(other.id)])
                assert [id for id, _ in found.live] == [UUID(other.id)]
                assert set(found.unsure) == {UUID(new.id)}
            assert took.seconds < 5.0
            assert not watching.done()
        assert (await asyncio.wait_for(watching, 10)).reason == "expired"


async def test_a_decision_before_the_end_is_made_anew_after_it(database: str, facts: Truth) -> None:
    """An extension that found the session live, and reached its row after the end was told, is refused (promise 2)."""
    async with SessionManager(database, sweep_interval=None, options=OPTIONS) as manager:
        new = await manager.create_session("u1")
        driver: Any = asyncpg_dialect
        settle = str(Statements(tables("public"), Policy()).settle.compile(dialect=driver.dialect()))
        while True:
            await facts.run("UPDATE sessions SET expires_at = clock_timestamp() + interval '1.5 seconds'")
            async with row_locked(database, new.id) as holder:
                extending = asyncio.create_task(manager.extend_session(new.token, 24))

                async def waits(extending: "asyncio.Task[Any]" = extending) -> bool:
                    return extending.done() or await facts.waiting_for_a_lock()

                await eventually(waits, what="the extension found the session live, and waits for its row")
                if extending.done():
                    # The machine stood still: it came too late to find the session live.
                    continue

                async def over() -> bool:
                    return bool(await facts.value("SELECT expires_at <= clock_timestamp() FROM sessions"))

                await eventually(over, what="the session has run out")
                assert (await standing(manager, new)).unsure
                # What the store does once nobody holds the row, done by its holder: nobody can come in between.
                assert await holder.fetchval(settle, [UUID(new.id)], timedelta(0)) == UUID(new.id)
                await holder.execute("COMMIT")
            break
        assert await extending is None
        assert [end.reason for end in (await standing(manager, new)).ended] == ["expired"]
