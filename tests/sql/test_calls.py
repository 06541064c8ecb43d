"""Plain calls: what they repeat, what they answer at their deadline, and what is left of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from holdfast import OutcomeUnknown, StoreRefused, StoreUnavailable
from holdfast.sql.calls import Calls
from tests.conftest import MigratedDatabases
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch


class Reply(Exception):
    """An error reply of PostgreSQL."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest_asyncio.fixture
async def engine(migrated_database: MigratedDatabases) -> AsyncIterator[AsyncEngine]:
    """An engine with two connections."""
    address = migrated_database(None).replace("postgresql://", "postgresql+asyncpg://")
    made = create_async_engine(address, pool_size=2, max_overflow=0)
    yield made
    await made.dispose()


def calls(engine: AsyncEngine, deadline: float = 5.0) -> Calls:
    return Calls(engine, connections=2, where="the store", deadline=deadline)


async def at_rest(engine: AsyncEngine, made: Calls) -> None:
    """Nothing of the calls is left."""
    await asyncio.wait_for(made.close(), 30)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of its kind of pool


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014", "25006", "08006"])
async def test_a_definite_failure_is_repeated(engine: AsyncEngine, state: str) -> None:
    """Rolled back for certain: the writing runs again, and is not told that it may have been committed."""
    made = calls(engine)
    flags: list[bool] = []

    def writing(connection: Connection, again: bool) -> str:
        flags.append(again)
        connection.exec_driver_sql("UPDATE holdfast_control SET epoch = epoch + 1")
        if len(flags) < 3:
            raise Reply(state)
        return "done"

    assert await made.write(writing) == "done"
    assert flags == [False] * 3
    assert (
        await made.read(lambda connection: connection.exec_driver_sql("SELECT epoch FROM holdfast_control").scalar())
        == 2
    )
    await at_rest(engine, made)


@pytest.mark.parametrize("state", ["28P01", "42501", "53100", "22021"])
async def test_what_waiting_does_not_help_is_not_repeated(engine: AsyncEngine, state: str) -> None:
    """One attempt, and the caller is told."""
    made = calls(engine)
    attempts = 0

    def reading(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        raise Reply(state)

    with pytest.raises((StoreUnavailable, StoreRefused, ValueError)):
        await made.read(reading)
    assert attempts == 1
    await at_rest(engine, made)


async def test_repeats_share_one_deadline(engine: AsyncEngine) -> None:
    """I-14: a failure that never ends ends with the deadline, and the task with it."""
    made = calls(engine, deadline=0.3)

    def reading(connection: Connection) -> None:
        raise Reply("40001")

    watch = Stopwatch()
    with pytest.raises(StoreUnavailable) as caught:
        await made.read(reading)
    assert type(caught.value) is StoreUnavailable
    assert watch.seconds < 0.8
    await at_rest(engine, made)


async def test_a_cancelled_callers_task_ends_by_the_deadline(engine: AsyncEngine) -> None:
    """I-12: nobody waits any more, and the task does not try for ever."""
    made = calls(engine, deadline=0.3)
    attempts = 0

    def writing(connection: Connection, again: bool) -> None:
        nonlocal attempts
        attempts += 1
        raise Reply("57P03")

    caller = asyncio.create_task(made.write(writing))
    await eventually(lambda: attempts > 0, what="the first attempt")
    caller.cancel()
    await asyncio.wait([caller])
    await at_rest(engine, made)


async def test_a_cancelled_callers_write_is_made_whole(engine: AsyncEngine) -> None:
    """Promise 7: the transaction that a caller left goes on to its commit."""
    made = calls(engine)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def writing(connection: Connection, again: bool) -> None:
        loop.call_soon(begun.set)
        # Not that something may happen meanwhile: the statement is to be one that takes its time.
        connection.exec_driver_sql("SELECT pg_sleep(0.05)")
        connection.exec_driver_sql("UPDATE holdfast_control SET epoch = 77")

    caller = asyncio.create_task(made.write(writing))
    await begun.wait()
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    await at_rest(engine, made)
    assert (
        await made.read(lambda connection: connection.exec_driver_sql("SELECT epoch FROM holdfast_control").scalar())
        == 77
    )


async def test_told_that_nothing_was_done_nothing_is(engine: AsyncEngine) -> None:
    """I-14, definite failures: a writing that is slower than the deadline is rolled back, not committed late."""
    made = calls(engine, deadline=0.1)

    def writing(connection: Connection, again: bool) -> None:
        connection.exec_driver_sql("UPDATE holdfast_control SET epoch = 99")
        # Slower than the deadline, which is what is tried.
        connection.exec_driver_sql("SELECT pg_sleep(0.4)")

    with pytest.raises(StoreUnavailable) as caught:
        await made.write(writing)
    assert not isinstance(caught.value, OutcomeUnknown)
    await at_rest(engine, made)
    later = calls(engine)
    assert (
        await later.read(lambda connection: connection.exec_driver_sql("SELECT epoch FROM holdfast_control").scalar())
        == 1
    )


async def test_a_defect_after_a_lost_commit_is_unknown(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-2: whatever happens after a COMMIT without an answer, nobody is told that nothing was done."""
    made = calls(engine)
    from sqlalchemy.ext.asyncio import AsyncConnection

    commit = AsyncConnection.commit

    async def lost(connection: AsyncConnection) -> None:
        await commit(connection)
        raise ConnectionResetError

    monkeypatch.setattr(AsyncConnection, "commit", lost)

    def writing(connection: Connection, again: bool) -> None:
        if again:
            raise KeyError("a defect")
        connection.exec_driver_sql("UPDATE holdfast_control SET epoch = 5")

    with pytest.raises(OutcomeUnknown):
        await made.write(writing)
    await at_rest(engine, made)
