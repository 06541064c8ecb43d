"""Which processes use the two stores of a move, and whether each of them can follow it."""

import asyncio
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from holdfast.move.addresses import addresses
from holdfast.move.status import StoreName
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.connections import connect_arguments
from holdfast.sql.failures import explained
from holdfast.sql.presence import recent
from holdfast.sql.sqlite_file import reading_engine
from holdfast.sql.tables import Tables, tables

_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """A process that has one of the two stores open, or both."""

    host: str
    pid: int
    stores: tuple[StoreName, ...]
    """Which of the two it was seen in."""
    configured: bool
    """Whether all that it does there knows both stores."""
    seen_at: datetime
    """When it was last seen (aware, UTC)."""

    @property
    def can_follow(self) -> bool:
        """Whether it would go with a move now: it knows both stores, and reaches both."""
        return self.configured and len(self.stores) == 2

    @property
    def who(self) -> str:
        """It, for a message."""
        return f"process {self.pid} on {self.host}"

    @property
    def obstacle(self) -> str | None:
        """Why it could not follow, and what to do; `None` when it can."""
        who = self.who
        if not self.configured:
            named = "the SQLite file" if self.stores == ("sqlite",) else "PostgreSQL"
            return (
                f"{who} knows only {named}; name both stores to it, with HOLDFAST_SQLITE_PATH and DATABASE_URL, and "
                "start it again, or stop it"
            )
        if len(self.stores) < 2:
            missing = "PostgreSQL" if self.stores == ("sqlite",) else "the SQLite file"
            return f"{who} knows both stores, and does not reach {missing}; its log says why, or wait a moment"
        return None


async def processes_seen(
    sqlite: str | os.PathLike[str], postgresql: str, options: StoreOptions | None = None
) -> list[ProcessSeen]:
    """The processes that had one of the stores open within the last half minute, by host and number.

    Commands that were over within a second are not among them, nor is an old application that has no Holdfast.
    Changes nothing. Raises `MoveRefused` for addresses that are not those of a move, `StoreUnavailable` and
    `StoreRefused`.
    """
    left, entered = addresses(sqlite, postgresql)
    options = options or StoreOptions()
    with explained("a store of the move"):
        in_file = await asyncio.to_thread(_in_file, left.path)
        in_database = await _in_database(entered, options)
    found: dict[tuple[str, int], ProcessSeen] = {}
    notes: tuple[tuple[StoreName, list[Any]], ...] = (("sqlite", in_file), ("postgresql", in_database))
    for store, rows in notes:
        for host, pid, follows, seen_at in rows:
            other = found.get((host, pid))
            stores = other.stores if other else ()
            found[host, pid] = ProcessSeen(
                host,
                pid,
                stores if store in stores else (*stores, store),
                follows and (other is None or other.configured),
                seen_at if other is None else max(seen_at, other.seen_at),
            )
    return [found[key] for key in sorted(found)]


def _in_file(path: Path) -> list[Any]:
    made = reading_engine(path)
    try:
        with made.connect() as connection:
            return _notes(connection, tables(None))
    finally:
        made.dispose()


async def _in_database(address: PostgresqlAddress, options: StoreOptions) -> list[Any]:
    made = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=connect_arguments(address, pooled=options.pooled or address.pooled, seconds=_SECONDS),
        poolclass=NullPool,
        hide_parameters=True,
    )
    try:
        async with made.connect() as connection:
            return await connection.run_sync(lambda driver: _notes(driver, tables(options.schema)))
    finally:
        await made.dispose()


def _notes(connection: Connection, own: Tables) -> list[Any]:
    """What is noted; nothing in a file of an application's own, which has no such table."""
    if not inspect(connection).has_table(own.processes.name, schema=own.metadata.schema):
        return []
    return list(connection.execute(recent(own)).all())
