"""What the fault tests share: a manager with short deadlines, the truth in the database, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

import asyncpg

from holdfast import OutcomeUnknown, SessionManager, StoreOptions, StoreUnavailable
from holdfast.sessions.tokens import digest_of_new
from holdfast.sql.postgresql import PostgresqlStore
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch

Answer = TypeVar("Answer")

DEADLINE = 1.5
"""Seconds that one call may take in these tests."""

SLACK = 0.5
"""Seconds past its deadline after which a call counts as hanging; they are seconds of a `Stopwatch`."""


def options(**changes: Any) -> StoreOptions:
    """Options for a test that waits for deadlines."""
    return StoreOptions(**{"deadline": DEADLINE, "connections": 3, **changes})


@asynccontextmanager
async def opened(address: str, *, deadline: float = DEADLINE, **settings: Any) -> AsyncIterator[SessionManager]:
    """An open manager that sweeps only when told to."""
    given = settings.pop("options", options(deadline=deadline))
    async with SessionManager(address, sweep_interval=None, options=given, **settings) as manager:
        yield manager


def store_of(manager: SessionManager) -> PostgresqlStore:
    """The PostgreSQL store of an open manager."""
    store = manager.store
    assert isinstance(store, PostgresqlStore)
    return store


class Truth:
    """What the database says, over a connection that no fault touches."""

    def __init__(self, address: str, connection: "asyncpg.Connection[Any]") -> None:
        self.address = address
        self.connection = connection

    async def row(self, token: str) -> "asyncpg.Record | None":
        """The row that a token names now."""
        return await self.connection.fetchrow("SELECT * FROM sessions WHERE digest = $1", digest_of_new(token))

    async def by_id(self, id: str) -> "asyncpg.Record | None":
        """The row of a session."""
        return await self.connection.fetchrow("SELECT * FROM sessions WHERE id = $1", id)

    async def value(self, statement: str, *arguments: Any) -> Any:
        """One value."""
        return await self.connection.fetchval(statement, *arguments)

    async def run(self, statement: str, *arguments: Any) -> None:
        """Do something."""
        await self.connection.execute(statement, *arguments)

    async def backends(self, state: str = "%") -> int:
        """How many connections of ours the server has, in a state."""
        count = await self.connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = 'holdfast' AND datname = current_database() AND state LIKE $1",
            state,
        )
        assert isinstance(count, int)
        return count

    async def backend(self, statement: str) -> int:
        """The process that runs a statement like this one, or ran it last."""
        pid = await self.connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'holdfast' "
            "AND datname = current_database() AND query LIKE $1 ORDER BY state_change DESC",
            statement,
        )
        assert isinstance(pid, int)
        return pid

    async def waiting_for_a_lock(self) -> bool:
        """Whether a connection of ours waits for a lock."""
        return bool(
            await self.connection.fetchval(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'holdfast' "
                "AND datname = current_database() AND wait_event_type = 'Lock'"
            )
        )


async def met_a_lock(manager: SessionManager, facts: Truth) -> bool:
    """Whether a validate waits for a row, or has: it does so for half a second once, and then passes over the row."""
    return store_of(manager)._skipping_until > 0 or await facts.waiting_for_a_lock()


@asynccontextmanager
async def truth(address: str) -> AsyncIterator[Truth]:
    """Look into the database directly."""
    connection = await asyncpg.connect(address)
    try:
        yield Truth(address, connection)
    finally:
        connection.terminate()


@asynccontextmanager
async def row_locked(address: str, id: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """Hold the lock of a session's row, as an operator's forgotten transaction does."""
    connection = await asyncpg.connect(address)
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE", id)
        yield connection
    finally:
        connection.terminate()


async def settled(manager: SessionManager, database: Truth | None = None) -> None:
    """I-12: no task, no connection and no transaction is left of the calls that are over."""
    store = store_of(manager)

    def at_rest() -> bool:
        busy = [task for task in asyncio.all_tasks() if task.get_name() in ("holdfast-call", "holdfast-lane")]
        lanes = sum(lane.connection is not None for lane in store._lanes)
        engine = store._engine
        assert engine is not None
        return not busy and engine.pool.checkedout() == lanes  # type: ignore[attr-defined]  # of its kind of pool

    await eventually(at_rest, what="every call's task has ended and returned its connection")
    if database is not None:
        there = database

        async def quiet() -> bool:
            return await there.backends("idle in transaction%") == 0

        await eventually(quiet, what="no connection of ours is left in a transaction")


@dataclass
class Timed:
    """How long the calls of a test took, and how they ended."""

    took: list[float] = field(default_factory=list)
    answers: int = 0
    refused: int = 0
    unknown: int = 0
    errors: list[BaseException] = field(default_factory=list)

    async def call(self, call: Awaitable[Answer]) -> Answer | None:
        """The answer of a call, or `None` for a failure of the kinds that a store may raise."""
        watch = Stopwatch()
        try:
            answer = await call
        except OutcomeUnknown as error:
            self.unknown += 1
            self.errors.append(error)
            return None
        except StoreUnavailable as error:
            self.refused += 1
            self.errors.append(error)
            return None
        else:
            self.answers += 1
            return answer
        finally:
            self.took.append(watch.seconds)

    @property
    def longest(self) -> float:
        """The seconds of the call that took longest."""
        return max(self.took, default=0.0)

    @property
    def usual(self) -> float:
        """The seconds that half of the calls took at most: what one stall of a machine or a disk does not change."""
        return median(self.took)


async def serves(manager: SessionManager) -> bool:
    """Whether the store says that it takes writes."""
    try:
        await manager.ping()
    except StoreUnavailable:
        return False
    return True
