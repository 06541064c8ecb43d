"""Something done at an address in one transaction, beside the stores: by migrations, imports and commands."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.connections import connect_arguments, for_this_transaction, promised
from holdfast.sql.failures import Kind, explained, kind_of
from holdfast.sql.sqlite_file import engine, reading_engine

Answer = TypeVar("Answer")

_SQLITE_LOCK_SECONDS: Final = 30.0
_GOODBYE_SECONDS: Final = 2.0
# Whatever the server's or the role's defaults are, the text of a value is the same.
_SPELLING: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "client_min_messages": "warning",
}


async def within_transaction(
    address: PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], Answer], *, snapshot: bool = False
) -> Answer:
    """Do something beside the tables, in one transaction with no time limit; a failure is said in our own words.

    With a `snapshot` all that it reads is of one instant.
    """

    def working(connection: Connection) -> Answer:
        if snapshot:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        # A pooler in transaction mode keeps no settings of a connection.
        connection.execute(text(for_this_transaction(promised(None))))
        return work(connection)

    return await run(address, options, working)


async def run(
    address: SqliteAddress | PostgresqlAddress,
    options: StoreOptions,
    work: Callable[[Connection], Answer],
    *,
    changing: bool = False,
) -> Answer:
    """Do something in one transaction, and say in our own words what went wrong.

    On SQLite it must not write unless it is `changing`; it may be done again, where another server had its turn.
    """
    with explained(f"{'SQLite file' if isinstance(address, SqliteAddress) else 'PostgreSQL at'} {address}"):
        if isinstance(address, SqliteAddress):
            return await asyncio.to_thread(_change_sqlite if changing else _look_into_sqlite, address.path, work)
        if not changing:
            return await _on_postgresql(address, options, work)
        # In a thread, with a loop of its own: it has to wait for other threads' turn at Alembic.
        return await asyncio.to_thread(lambda: asyncio.run(_on_postgresql(address, options, work)))


def _look_into_sqlite(path: Path, work: Callable[[Connection], Answer]) -> Answer:
    return _in_turn(lambda: _looked_into(path, work))


def _looked_into(path: Path, work: Callable[[Connection], Answer]) -> Answer:
    made = reading_engine(path)
    try:
        with made.connect() as connection:
            return work(connection)
    finally:
        made.dispose()


def _change_sqlite(path: Path, work: Callable[[Connection], Answer]) -> Answer:
    made = engine(path)
    try:
        return _in_turn(lambda: _changed(made, work))
    finally:
        made.dispose()


def _changed(made: Engine, work: Callable[[Connection], Answer]) -> Answer:
    with made.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            answer = work(connection)
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
        return answer


def _in_turn(work: Callable[[], Answer]) -> Answer:
    """Do it when no other server is at it: wait for its turn to end, then there may be nothing left to do."""
    limit = time.monotonic() + _SQLITE_LOCK_SECONDS
    while True:
        try:
            return work()
        except Exception as error:
            if kind_of(error) is not Kind.RETRY or time.monotonic() > limit:
                raise
        time.sleep(0.02)


async def _on_postgresql(
    address: PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], Answer]
) -> Answer:
    made = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=connect_arguments(address, pooled=options.pooled or address.pooled),
        poolclass=NullPool,
        hide_parameters=True,
    )
    try:
        async with made.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await made.dispose()


@asynccontextmanager
async def driver_transaction(
    address: PostgresqlAddress, options: StoreOptions, *, reading: bool = False
) -> AsyncIterator[Any]:
    """The driver's own connection in a transaction; reading, it has one snapshot and can change nothing."""
    arguments = connect_arguments(address, pooled=options.pooled or address.pooled)
    connect = arguments.pop("async_creator_fn")
    for name in ("prepared_statement_cache_size", "prepared_statement_name_func"):
        arguments.pop(name, None)
    with explained(f"PostgreSQL at {address}"):
        connection = await connect(**arguments)
        try:
            isolation = "repeatable_read" if reading else "read_committed"
            async with connection.transaction(isolation=isolation, readonly=reading):
                await connection.execute(for_this_transaction(promised(None) | _SPELLING))
                yield connection
        finally:
            try:
                await connection.close(timeout=_GOODBYE_SECONDS)
            except (TimeoutError, OSError):
                connection.terminate()
